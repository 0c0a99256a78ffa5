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

`drainproxy check` reads Kubernetes manifests and finds mistakes that lose requests in a rollout. It works with and
without drainproxy in the manifests. It needs no cluster, but can also read from one.

```console
$ drainproxy check -f deploy/                   # files, directories, or - for stdin; all of it is one input
$ kubectl kustomize overlays/prod | drainproxy check -f -
$ drainproxy check --live -n shop                # the cluster that kubectl's config names
$ drainproxy check --explain DP203
$ drainproxy check -f deploy/ --strict -o github
```

Exit code: 0 if there is no error, 1 if there is one (with `--strict` also for warnings), 2 if the input cannot be read.

- An **error** loses requests in every rollout of a workload that a Service selects, or blocks the rollout.
- A **warning** loses requests in some situations.
- **Info** is advice.

The severity of a finding depends on the Pods. It is the one in the table below if the Pods get requests: they have
drainproxy, a Service in the input selects them (with a port that is not for monitoring only), or they have a hostPort.
If the input has no Service at all, a declared port may belong to a Service elsewhere: findings are warnings at most.
If no Service selects the Pods (a worker, a Job, `sleep infinity`), findings are info.

Give it everything that is applied together: a Service is checked together with the Pods that it selects, and a
PodDisruptionBudget with its workload. `check` makes no guesses about objects that are not in the input.

`--live` reads from a cluster, with kubectl, its config and its rights (`-n`, `-A`, `-l`, `--context` as with kubectl).
It reads workloads and the objects around them, Pods, endpoints and events, but no Secrets. Objects that a
controller made are skipped; their owner is checked. The rules DP9xx find endpoints that are not ready, drains that cut
requests, and hooks that failed. `drainproxy inject --live -n shop -l app=web | kubectl apply -f -` writes only the
changed objects.

Findings are sorted: the most severe first, then by file and line. `--min-severity warning` hides hints, `--rule DP301`
applies one rule only, and `--skip DP505` leaves a rule out. On a single object, the annotation
`{IGNORE}: DP505, one-replica` does the same. All these settings can also be in `{FILE}`, in the directory
where check runs or in one above (`--config FILE` names another file), with profiles that `--profile NAME` adds:

```toml
[check]
skip = ["no-min-ready"]

[check.profile.ci]
min-severity = "warning"
strict = true
```

`-o json` writes `version`, `objects`, `counts`, `hidden` and `findings`, each with `rule`, `name`, `severity`,
`title`, `message`, `why`, `fix`, `object`, `file`, `document`, `path`, `line`, `column`. `-o github` writes workflow
commands of GitHub Actions, `-o sarif` writes SARIF 2.1.0 for code scanning. Colours appear on terminals only, and not
with `NO_COLOR` or `TERM=dumb`.

[CI](ci.md) shows how to use it in CI and as `kubectl drainproxy`. This page is made from the rules in the code.

{_table()}
"""
