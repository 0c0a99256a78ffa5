"""How are findings written for machines and in the manual? JSON, GitHub annotations, SARIF, and `docs/check.md`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from drainproxy import __version__
from drainproxy.tools.manifest.rules import IGNORE, RULES, Severity
from drainproxy.tools.manifest.wanted import FILE

if TYPE_CHECKING:
    from drainproxy.tools.manifest.rules import Finding, Report, Rule

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_SARIF_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_GITHUB_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_MANUAL = "docs/check.md"

GROUPS = {
    "DP1": "The time: grace period and settings",
    "DP2": "The hook",
    "DP3": "Probes",
    "DP4": "Wiring: Services, policies, ports",
    "DP5": "Rollouts, replicas, disruptions",
    "DP6": "Jobs and init containers",
    "DP7": "API versions, and annotations of check",
    "DP8": "Service meshes",
    "DP9": "What only a running cluster shows",
}
"""What the first digit of a rule's number stands for."""


def as_json(report: Report) -> str:
    """One object: the findings, and how many of each severity. The names are stable."""
    return json.dumps(
        {
            "version": __version__,
            "objects": report.objects,
            "counts": {each.value: report.count(each) for each in Severity},
            "hidden": report.hidden,
            "findings": [_fields(each) for each in report.findings],
        },
        indent=2,
    )


def _fields(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    return {
        "rule": rule.id,
        "name": rule.slug,
        "severity": finding.severity.value,
        "title": rule.title,
        "message": finding.message,
        "why": rule.why,
        "fix": rule.fix,
        "object": finding.object,
        "file": finding.file,
        "document": finding.document,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
    }


def as_github(report: Report) -> str:
    """Workflow commands: GitHub shows each finding at its line of the pull request."""
    return "\n".join(_annotation(each) for each in report.findings)


def _annotation(finding: Finding) -> str:
    rule = finding.rule
    title = _escaped(f"{rule.id} {rule.title}", ":,")
    place = f"file={_escaped(finding.file, ':,')},line={finding.line},col={finding.column},title={title}"
    text = _escaped(f"{finding.object}: {finding.message}. {rule.fix}")
    return f"::{_GITHUB_LEVEL[finding.severity]} {place}::{text}"


def _escaped(text: str, also: str = "") -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for character in also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def as_sarif(report: Report) -> str:
    """SARIF 2.1.0, for code scanning."""
    ids = list(RULES)
    rules = [
        {
            "id": rule.id,
            "name": rule.slug,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
            "helpUri": f"{_MANUAL}#{anchor(rule)}",
            "defaultConfiguration": {"level": _SARIF_LEVEL[rule.severity]},
        }
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": each.rule.id,
            "ruleIndex": ids.index(each.rule.id),
            "level": _SARIF_LEVEL[each.severity],
            "message": {"text": f"{each.object}: {each.message}. {each.rule.fix}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": each.file},
                        "region": {"startLine": each.line, "startColumn": each.column},
                    },
                    "logicalLocations": [{"fullyQualifiedName": f"{each.object} {each.path}"}],
                }
            ],
        }
        for each in report.findings
    ]
    driver = {"name": "drainproxy check", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


# --- the manual -------------------------------------------------------------------------------------------------------


def anchor(rule: Rule) -> str:
    """The rule's heading in the manual, as a link."""
    return f"{rule.id}-{rule.slug}".lower()


def page() -> str:
    """`docs/check.md`, whole. A test compares the file with this text."""
    parts = [_INTRODUCTION]
    for prefix, title in GROUPS.items():
        members = [rule for rule in RULES.values() if rule.id.startswith(prefix)]
        parts.append(f"## {title}\n")
        parts += [_section(rule) for rule in members]
    return "\n".join(parts)


def _table() -> str:
    rows = [f"| [{r.id}](#{anchor(r)}) | {r.slug} | {r.severity.value} | {r.title} |" for r in RULES.values()]
    return "\n".join(["| rule | name | severity | finds |", "|---|---|---|---|", *rows])


def _section(rule: Rule) -> str:
    example = f"\n```yaml\n{rule.example}\n```\n" if rule.example else ""
    return (
        f"### {rule.id} {rule.slug}\n\n*{rule.severity.value}*: {rule.title}.\n\n{rule.why}\n\n"
        f"**Fix.** {rule.fix}\n{example}"
    )


_INTRODUCTION = f"""\
# drainproxy check

`drainproxy check` reads Kubernetes manifests and finds what loses requests in a rollout: with drainproxy in them or
without. It needs no cluster, and can read one.

```console
$ drainproxy check -f deploy/                   # files, directories, or - for stdin; all of it is one input
$ kubectl kustomize overlays/prod | drainproxy check -f -
$ drainproxy check --live -n shop                # the cluster that kubectl's config names
$ drainproxy check --explain DP203
$ drainproxy check -f deploy/ --strict -o github
```

Exit code: 0 if there is no error, 1 if there is one (with `--strict`: or a warning), 2 if the input cannot be read.

An **error** loses requests at every rollout of a workload that a Service selects, or the workload cannot be rolled out
at all. A **warning** loses requests on a bad day. **Info** is advice. How bad a fault is depends on the Pods: requests
come in if drainproxy is there, if a Service of the input selects them (with a port that is not for monitoring only), or
through a hostPort. If the input has no Service at all, a declared port may have one elsewhere: a fault is a warning at
most. If nothing selects the Pods (a worker, a Job, `sleep infinity`) it is info. The table names the worst case.

Give it everything that is applied together: a Service in the input is looked at with the Pods it selects, a
PodDisruptionBudget with the workload it covers. What is not in the input is not guessed.

`--live` reads from a cluster with kubectl, its config and its rights (`-n`, `-A`, `-l`, `--context` as with kubectl):
workloads, what is around them, Pods, endpoints and events; never Secrets. What a controller made is left to its maker.
There, rules DP9xx tell of endpoints that are not ready, drains that cut requests, and hooks that failed.
`drainproxy inject --live -n shop -l app=web | kubectl apply -f -` writes the changed objects only.

Findings are sorted: the worst first, then by file and line. `--min-severity warning` hides what is milder, `--rule`
asks one rule only, `--skip DP505` leaves one out; on one object the annotation `{IGNORE}: DP505, one-replica` does.
All of it can stand in `{FILE}`, in the directory where check is run or one above (`--config FILE` names another), with
profiles that `--profile NAME` puts on top:

```toml
[check]
skip = ["no-min-ready"]

[check.profile.ci]
min-severity = "warning"
strict = true
```

`--format json` writes `version`, `objects`, `counts`, `hidden` and `findings`, each with `rule`, `name`, `severity`,
`title`, `message`, `why`, `fix`, `object`, `file`, `document`, `path`, `line`, `column`. `--format github` writes
workflow commands, `--format sarif` SARIF 2.1.0 for code scanning. Colours go to terminals only, and not with `NO_COLOR`
or `TERM=dumb`.

In CI, and as `kubectl drainproxy`: [ci](ci.md). This page is made from the rules themselves.

{_table()}
"""
