"""What does one Pod get as it is created, and which running Pods should have got it?

Pure: the webhook asks for each new Pod; its audit and `check --live` ask for those that run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.asked import PREFIX, Undecided
from drainproxy.tools.manifest.choice import NothingToProxy
from drainproxy.tools.manifest.document import Injected, inject_document
from drainproxy.tools.manifest.objects import TEMPLATES, Workload, mapping, mappings, resource_of
from drainproxy.tools.manifest.sidecar import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drainproxy.tools.manifest.asked import Options

SPARED = ("kube-system", "kube-node-lease", "kube-public")
"""Namespaces in which the webhook is never asked, whatever their labels say."""
_ENDED = ("Succeeded", "Failed")


class Outcome(StrEnum):
    """What becomes of a Pod. The values of the label of the webhook's metric."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"
    """Nothing to proxy, `drainproxy.io/inject: disabled`, or drainproxy is in it already."""
    UNDECIDED = "undecided"
    """An annotation has to say what is meant."""
    SHUT_OUT = "shut-out"
    """A NetworkPolicy lets clients reach the app's port and not drainproxy's: left as it is."""
    FAILED = "failed"
    """An error of ours; the Pod is created as it was sent."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """`document`: the Pod with drainproxy, if it gets one. `warnings`: what `inject` would have said."""

    outcome: Outcome
    document: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def admitted(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Admitted:
    """Plan for a Pod that says its namespace. `around`: its Namespace, and the Services and NetworkPolicies there."""
    try:
        injected = _inject(pod, around, options)
    except NothingToProxy:
        return Admitted(Outcome.UNCHANGED)
    except Undecided as error:
        decisive = (f"the annotation that decides: {error.decide}",) if error.decide else ()
        return Admitted(Outcome.UNDECIDED, warnings=(f"no sidecar: {error}", *decisive))
    except ManifestError as error:
        return Admitted(Outcome.FAILED, warnings=(f"no sidecar: {error}",))
    if injected.shut_out:
        policies = ", ".join(injected.shut_out)
        ports = ", ".join(sorted({str(row.proxy_port) for row in injected.rows}))
        why = f"no sidecar: NetworkPolicy {policies} would keep clients from drainproxy: allow port {ports} in it"
        return Admitted(Outcome.SHUT_OUT, warnings=(why,))
    return Admitted(Outcome.INJECTED, injected.document, tuple(_warnings(injected)))


def _inject(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Injected:
    """As `inject` plans. A Pod of a Job is planned for as a Job: a plain container beside it would never let it end."""
    if not any(each.get("kind") == "Job" for each in mappings(pod["metadata"].get("ownerReferences"))):
        return inject_document(pod, around, options)
    template = {"metadata": pod["metadata"], "spec": pod.get("spec")}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": pod["metadata"], "spec": {"template": template}}
    injected = inject_document(job, around, options)
    inner = injected.document["spec"]["template"]
    document = {**pod, "metadata": inner["metadata"], "spec": inner["spec"]}
    return Injected(document, injected.rows, injected.notes, injected.moved, injected.shut_out)


def _warnings(injected: Injected) -> list[str]:
    """What `inject` would have said, and what a Pod alone cannot bring about."""
    guesses = [
        f"port {row.app_port}: {row.protocol}, a guess: {row.why}; set drainproxy.io/protocol if it is wrong"
        for row in injected.rows
        if row.guess
    ]
    past = [
        f"Service {name} leads to port {app} by number, past drainproxy: set its targetPort to {listen} once all its "
        "Pods have the sidecar"
        for name, numbers in sorted(injected.moved.items())
        for app, listen in numbers.items()
    ]
    return [*injected.notes, *guesses, *past]


def is_wanted(namespace: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the sidecar is asked for: by the Pod's annotation, else by the label of its namespace."""
    said = mapping(mapping(pod.get("metadata")).get("annotations")).get(f"{PREFIX}inject")
    if said is not None:
        return str(said).lower() in ("enabled", "true")
    return mapping(mapping(namespace.get("metadata")).get("labels")).get(f"{PREFIX}inject") == "enabled"


@dataclass(frozen=True, slots=True)
class Lack:
    """What is wrong with a Pod: `missing`, `outdated`, `undecided` or `shut-out`, and what to do."""

    reason: str
    message: str


_LACKS = {
    Outcome.INJECTED: "missing",
    Outcome.UNDECIDED: "undecided",
    Outcome.SHUT_OUT: "shut-out",
}


def lack_of(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Lack | None:
    """What is wrong with a Pod that runs; None if it needs no sidecar, has the right one, has ended or is ending.

    `options.image`: the image that a Pod would get today.
    """
    metadata = mapping(pod.get("metadata"))
    if metadata.get("deletionTimestamp") or mapping(pod.get("status")).get("phase") in _ENDED:
        return None
    namespace = next((each for each in around if each.get("kind") == "Namespace"), {})
    if metadata.get("namespace") in SPARED or not is_wanted(namespace, pod):
        return None
    sidecar = find(Workload(resource_of(pod), TEMPLATES["Pod"]))
    if sidecar is not None:
        wanted = str(mapping(metadata.get("annotations")).get(f"{PREFIX}image") or options.image or "")
        image = str(sidecar.container.get("image", ""))
        # Another repository is somebody's own choice; another version of the same one is what a rollout would change.
        if image == wanted or repository(image) != repository(wanted):
            return None
        return Lack("outdated", f"its drainproxy is {image}, not {wanted}: roll it out again")
    found = admitted(pod, around, options)
    if found.outcome is Outcome.INJECTED:
        return Lack("missing", "it was created without the drainproxy sidecar: roll it out again")
    reason = _LACKS.get(found.outcome)
    return Lack(reason, "; ".join(found.warnings)) if reason else None


def repository(image: str) -> str:
    """An image's name without its tag and digest."""
    name = image.partition("@")[0]
    path, slash, last = name.rpartition("/")
    return path + slash + last.partition(":")[0]
