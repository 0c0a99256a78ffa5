"""Which mistakes lose requests? Every rule, and `check`, which asks them all.

`budget`, `prestop`, `probes`, `traffic`, `successor`, `references`, `rollout`, `mesh` and `live` declare the rules;
importing this package registers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.tools.manifest.objects import Resource, key_position
from drainproxy.tools.manifest.rules import (
    budget,
    live,
    mesh,
    prestop,
    probes,
    references,
    rollout,
    successor,
    traffic,
)
from drainproxy.tools.manifest.rules.base import DECLARED, IGNORE, Hit, Rule, Severity, ignored_by
from drainproxy.tools.manifest.rules.view import Manifests, Traffic
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
    "live",
    "mesh",
    "prestop",
    "probes",
    "references",
    "rollout",
    "successor",
    "traffic",
]

RULES: dict[str, Rule] = dict(sorted(DECLARED.items()))
"""Every rule by id."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault with its place. `line` and `column` count from 1, `document` (in the file) from 0."""

    rule: Rule
    severity: Severity
    object: str
    file: str
    document: int
    path: str
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: findings, the worst first, and what was looked at. `hidden`: how many were too mild."""

    findings: tuple[Finding, ...]
    sources: tuple[Source, ...]
    objects: int
    hidden: int = 0

    def count(self, severity: Severity) -> int:
        """How many findings are this bad."""
        return sum(each.severity is severity for each in self.findings)


def check(files: Sequence[File], rules: Collection[str] = frozenset(RULES), least: Severity = Severity.INFO) -> Report:
    """Ask the rules of these ids about the manifests, as one input, and keep what is at least this bad.

    Raises ManifestError for what cannot be read.
    """
    sources = tuple(parse(each.name, each.text) for each in files)
    manifests = Manifests(list(sources))
    places = {source.name: number for number, source in enumerate(sources)}
    found = [
        _finding(rule, hit, _severity(rule, hit, manifests))
        for rule in RULES.values()
        if rule.id in rules
        for hit in rule.find(manifests)
        if not _ignored(hit.resource, rule)
    ]
    found.sort(key=lambda each: (each.severity.rank, places[each.file], each.line, each.rule.id))
    unique = tuple(dict.fromkeys(found))
    shown = tuple(each for each in unique if each.severity.rank <= least.rank)
    return Report(shown, sources, len(manifests.resources), len(unique) - len(shown))


_WORST = {Traffic.YES: Severity.ERROR, Traffic.PERHAPS: Severity.WARNING, Traffic.NO: Severity.INFO}


def _severity(rule: Rule, hit: Hit, manifests: Manifests) -> Severity:
    """How bad this case is: the hit's own severity or the rule's, and no more than the Pods' traffic makes of it."""
    severity = hit.severity or rule.severity
    pods = manifests.made_by(hit.resource)
    if rule.always or pods is None:
        return severity
    return max(severity, _WORST[pods.requests], key=lambda each: each.rank)


def _ignored(resource: Resource, rule: Rule) -> bool:
    listed = ignored_by(resource)
    return rule.id in listed or rule.slug in listed


def _finding(rule: Rule, hit: Hit, severity: Severity) -> Finding:
    resource, path = hit.resource, hit.path
    source = resource.source
    position = key_position(resource.node.resolved, path)
    return Finding(
        rule=rule,
        severity=severity,
        object=str(resource),
        file=source.name,
        document=resource.document,
        path=".".join(f"[{step}]" if isinstance(step, int) else step for step in path).replace(".[", "["),
        line=source.line_of(position),
        column=source.column_of(position),
        message=hit.message,
    )
