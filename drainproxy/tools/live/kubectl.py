"""What does the cluster hold that kubectl's config names? Asked with kubectl itself: its config, its authentication."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.live.objects import AROUND, SIGNS, WORKLOADS, as_files, maker_of, objects_in
from drainproxy.tools.manifest.objects import mapping, resources, selects, workloads
from drainproxy.tools.manifest.source import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.live.scope import Scope
    from drainproxy.tools.manifest.source import File

_TIMEOUT_S = 60
"""For one answer of the API server; kubectl alone would wait for ever."""


def read_to_check(scope: Scope) -> tuple[list[File], list[str]]:
    """Everything that check looks at, and notes on what could not be read."""
    notes: list[str] = []
    there = _resource_names(scope)
    chosen = _get(scope, [each for each in WORKLOADS if each in there], notes, scope.selector)
    pods = _get(scope, ["pods"], notes, scope.selector)
    around = _get(scope, [each for each in (*AROUND, *SIGNS) if each in there and each != "pods"], notes)
    if scope.selector:
        around = _about(chosen + pods, around)
    return as_files([*chosen, *pods, *around]), notes


def read_to_inject(scope: Scope) -> tuple[list[File], list[str]]:
    """The workloads that somebody applied, with their Services and NetworkPolicies, fit for `kubectl apply`.

    Pods and Jobs cannot be changed, and what a controller made it would change back: they are left out, with a note.
    """
    notes: list[str] = []
    there = _resource_names(scope)
    wanted = [each for each in WORKLOADS if each in there and each != "jobs.batch"]
    chosen = []
    for each in _get(scope, wanted, notes, scope.selector):
        maker = maker_of(each)
        if maker:
            notes.append(
                f"{each.get('kind')}/{mapping(each.get('metadata')).get('name')}: made by {maker}; change that"
            )
        else:
            chosen.append(each)
    if not chosen:
        raise ManifestError("found no workload that was applied to the cluster (see -n, -A, -l)")
    around = _get(scope, [each for each in AROUND[:3] if each in there and "budget" not in each], notes)
    return as_files([*chosen, *(_about(chosen, around) if scope.selector else around)], to_apply=True), notes


def _about(chosen: list[dict[str, Any]], around: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all that is around, what concerns the workloads that a selector chose."""
    picked = workloads(resources(parse(each.name, each.text) for each in as_files(chosen)))
    names = {mapping(each.get("metadata")).get("name") for each in chosen}
    kept, services = [], set()
    for each in around:
        found = resources([parse("around", as_files([each])[0].text)])[0]
        if found.kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            concerns = any(selects(found, one) for one in picked)
            services |= {found.name} if concerns and found.kind == "Service" else set()
        elif found.kind == "HorizontalPodAutoscaler":
            concerns = mapping(found.spec.get("scaleTargetRef")).get("name") in names
        elif found.kind == "EndpointSlice":
            labels = mapping(mapping(found.data.get("metadata")).get("labels"))
            concerns = labels.get("kubernetes.io/service-name") in services
        elif found.kind == "Event":
            concerns = mapping(found.data.get("involvedObject")).get("name") in names
        else:
            concerns = found.kind in ("PersistentVolumeClaim", "Namespace", "PeerAuthentication")
        if concerns:
            kept.append(each)
    return kept


def _resource_names(scope: Scope) -> set[str]:
    """What kinds the API server has, as `plural.group`."""
    words = ["--context", scope.context] if scope.context else []
    return set(_run([*words, "api-resources", "--verbs=list", "--output=name"], []).split())


def _get(scope: Scope, kinds: list[str], notes: list[str], selector: str | None = None) -> list[dict[str, Any]]:
    if not kinds:
        return []
    chosen = ["--selector", selector] if selector else []
    return objects_in(_run(["get", ",".join(kinds), *scope.words(), *chosen, "--output=json"], notes))


def _run(words: Sequence[str], notes: list[str]) -> str:
    """What kubectl prints. What it may not read is a note, if it could read anything else."""
    program = shutil.which("kubectl")
    if program is None:
        raise ManifestError("kubectl is not on the PATH: --live reads the cluster with it")
    try:
        done = subprocess.run(  # noqa: S603 - kubectl, with words of our own and the user's namespace and selector
            [program, *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ManifestError(f"kubectl {words[0]}: no answer in {_TIMEOUT_S} s") from None
    if done.returncode and not done.stdout.strip():
        raise ManifestError(f"kubectl: {_last_line(done.stderr)}")
    notes += [f"kubectl: {line}" for line in done.stderr.splitlines() if done.returncode and line.strip()]
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["failed, and said nothing"])[-1]
