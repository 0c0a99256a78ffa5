"""Which mistakes lose requests? Every rule, and `check`, which asks them all.

`budget`, `prestop`, `probes`, `traffic` and `rollout` declare the rules; importing this package registers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.tools.manifest.objects import Resource, key_position
from drainproxy.tools.manifest.rules import budget, prestop, probes, rollout, traffic
from drainproxy.tools.manifest.rules.base import DECLARED, Manifests, Rule, Severity
from drainproxy.tools.manifest.source import File, Source, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "IGNORE",
    "RULES",
    "Finding",
    "Report",
    "Rule",
    "Severity",
    "budget",
    "check",
    "prestop",
    "probes",
    "rollout",
    "traffic",
]

RULES: dict[str, Rule] = dict(sorted(DECLARED.items()))
"""Every rule by id."""

IGNORE = "drainproxy.io/ignore"
"""An annotation on an object: rule ids or names, separated by commas, that do not apply to it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault with its place. `line` and `column` count from 1, `document` (in the file) from 0."""

    rule: Rule
    object: str
    file: str
    document: int
    path: str
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: findings in the order of the text, and what was looked at."""

    findings: tuple[Finding, ...]
    sources: tuple[Source, ...]
    objects: int

    def count(self, severity: Severity) -> int:
        """How many findings are this bad."""
        return sum(each.rule.severity is severity for each in self.findings)


def check(files: Sequence[File], ignore: Collection[str] = ()) -> Report:
    """Ask every rule about these manifests, as one input. Raises ManifestError for what cannot be read."""
    sources = tuple(parse(each.name, each.text) for each in files)
    manifests = Manifests(list(sources))
    names = [source.name for source in sources]
    found = [
        _finding(rule, hit.resource, hit.path, hit.message)
        for rule in RULES.values()
        if rule.id not in ignore and rule.slug not in ignore
        for hit in rule.find(manifests)
        if not _ignored(hit.resource, rule)
    ]
    found.sort(key=lambda each: (names.index(each.file), each.line, each.rule.id))
    return Report(tuple(dict.fromkeys(found)), sources, len(manifests.resources))


def _ignored(resource: Resource, rule: Rule) -> bool:
    listed = {each.strip() for each in str(resource.annotations.get(IGNORE, "")).split(",")}
    return rule.id in listed or rule.slug in listed


def _finding(rule: Rule, resource: Resource, path: tuple[str | int, ...], message: str) -> Finding:
    source = resource.source
    position = key_position(resource.node.resolved, path)
    return Finding(
        rule=rule,
        object=str(resource),
        file=source.name,
        document=resource.document,
        path=".".join(f"[{step}]" if isinstance(step, int) else step for step in path).replace(".[", "["),
        line=source.line_of(position),
        column=source.column_of(position),
        message=message,
    )
