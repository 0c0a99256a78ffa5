"""How does advice become a manifest? A patch for each workload, from which `inject` reads the settings. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.config.values import show_duration
from drainproxy.drain.advice import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.advise.report import Report

ANNOTATION = "drainproxy.io/"
_GUESS = "Deployment"
_VERSIONS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1"}


def patches(found: list[Report]) -> str:
    """A YAML document for each workload that is to be changed: for kustomize, or `kubectl patch --patch-file`.

    The settings are annotations of the Pod template; `inject` puts them into the sidecar, grace period included.
    """
    return "".join(f"---\n{_patch(report)}" for report in found if report.changes)


def _patch(report: Report) -> str:
    workload = report.workload
    kind = workload.kind or _GUESS
    guessed = "" if workload.kind else "  # a guess: metrics and logs do not tell the kind"
    namespace = f"\n  namespace: {workload.namespace}" if workload.namespace else ""
    return "\n".join(
        [
            *(f"# {each.setting.value}: {each.why}" for each in report.changes),
            f"apiVersion: {_VERSIONS.get(kind, 'apps/v1')}",
            f"kind: {kind}{guessed}",
            f"metadata:\n  name: {workload.name}{namespace}",
            "spec:",
            *_min_ready(report, kind),
            *_annotations(report),
            "",
        ]
    )


def _min_ready(report: Report, kind: str) -> Iterator[str]:
    for each in report.changes:
        if each.setting is Setting.MIN_READY and each.best_s is not None and kind in _VERSIONS:
            yield f"  minReadySeconds: {each.best_s:.0f}"


def _annotations(report: Report) -> Iterator[str]:
    options = [each for each in report.changes if each.setting is not Setting.MIN_READY]
    if options:
        yield "  template:\n    metadata:\n      annotations:"
    for each in options:
        assert each.best_s is not None, "a change has a value"
        yield f"        {ANNOTATION}{each.setting.value}: {show_duration(each.best_s)}"
