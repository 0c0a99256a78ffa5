"""How does it go in the cluster? Rules on what only a running cluster shows: endpoints, ended containers, events."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from drainproxy import __version__
from drainproxy.tools.manifest.admitted import lack_of, repository
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.objects import TEMPLATES, Workload, controller_of, mapping, mappings, same_namespace
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule
from drainproxy.tools.manifest.sidecar import find, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.objects import Path, Resource
    from drainproxy.tools.manifest.rules.view import Manifests

WEBHOOK_IMAGE_ENV = "DRAINPROXY_WEBHOOK_IMAGE"
"""Where a webhook's Deployment says which sidecar it writes (`drainproxy webhook --image`)."""
_VERSION_TAG = re.compile(r":v?(\d+(?:\.\d+)+)$")
_CUT = re.compile(r"\b([1-9]\d*) cut\b")
"""In the termination message that a drain leaves: a sentence, advice if there is any, and the facts as JSON."""


@rule(
    "DP901",
    "endpoints-not-ready",
    Severity.ERROR,
    "endpoints of a Service are not ready",
    why="Requests go to ready endpoints only. If no endpoint is ready, every connection is refused. If some are ready, "
    "they take all the load, and a rollout now would make it worse.",
    fix="`kubectl describe` the Pods: readiness probes that fail, images that do not start, nodes that are down.",
    always=True,
)
def endpoints_not_ready(manifests: Manifests) -> Iterator[Hit]:
    slices = manifests.of("EndpointSlice")
    for service in manifests.of("Service") if slices else []:
        own = [each for each in slices if _service_of(each) == service.name and same_namespace(each, service)]
        endpoints = [each for one in own for each in mappings(one.data.get("endpoints")) if not _is_leaving(each)]
        waiting = [each for each in endpoints if mapping(each.get("conditions")).get("ready") is False]
        if waiting:
            names = ", ".join(
                str(mapping(each.get("targetRef")).get("name") or each.get("addresses")) for each in waiting
            )
            worst = Severity.ERROR if len(waiting) == len(endpoints) else Severity.WARNING
            message = f"{len(waiting)} of {len(endpoints)} not ready: {names}"
            yield Hit(service, ("metadata", "name"), message, worst)


def _service_of(endpoint_slice: Resource) -> Any:
    labels = mapping(mapping(endpoint_slice.data.get("metadata")).get("labels"))
    return labels.get("kubernetes.io/service-name")


def _is_leaving(endpoint: dict[str, Any]) -> bool:
    """A Pod that terminates is not ready, as it should be."""
    return mapping(endpoint.get("conditions")).get("terminating") is True


@rule(
    "DP902",
    "drain-was-forced",
    Severity.WARNING,
    "a drain in this Pod cut requests",
    why="The drain reached its deadline with requests in flight. The next rollout will do the same to requests that "
    "take as long.",
    fix="Raise terminationGracePeriodSeconds and --grace-period above the longest request plus the floor, or end long "
    "requests earlier. drainproxy's log names the first requests that were cut.",
    always=True,
)
def drain_was_forced(manifests: Manifests) -> Iterator[Hit]:
    for pod in manifests.of("Pod"):
        status = mapping(pod.data.get("status"))
        for where, statuses in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
            ours = {each.get("name") for each in mappings(pod.spec.get(where)) if is_drainproxy(each)}
            for index, each in enumerate(mappings(status.get(statuses))):
                for state in ("lastState", "state"):
                    text = str(mapping(mapping(each.get(state)).get("terminated")).get("message", ""))
                    if each.get("name") in ours and _CUT.search(text):
                        path: Path = ("status", statuses, index, state, "terminated", "message")
                        yield Hit(pod, path, "; ".join(each for each in text.splitlines() if not each.startswith("{")))


@rule(
    "DP903",
    "hook-failed",
    Severity.WARNING,
    "the preStop hook of a Pod failed",
    why="The kubelet could not make the call, or a forced drain ended it without an answer (event=1). The app got "
    "SIGTERM at once, or while requests were in flight.",
    fix="If drainproxy's log or termination message shows a forced drain, raise the grace period. Otherwise look at "
    "the hook's port, path and token: `drainproxy check` finds mistakes in them.",
    always=True,
)
def hook_failed(manifests: Manifests) -> Iterator[Hit]:
    for event in manifests.of("Event"):
        if event.data.get("reason") == "FailedPreStopHook":
            about = mapping(event.data.get("involvedObject"))
            times = event.data.get("count") or 1
            counted = "once" if times == 1 else f"{times} times"
            yield Hit(event, ("reason",), f"{about.get('kind')}/{about.get('name')}: {counted}, see its events")


@rule(
    "DP904",
    "sidecar-missing",
    Severity.ERROR,
    "a Pod should have the sidecar, but has none or an old one",
    why="The namespace's label or the Pod's annotation asks for drainproxy, but the Pod was created while no webhook "
    "answered, before the label was set, or by an older webhook. Without the sidecar requests are lost when it ends.",
    fix="Roll it out again (`kubectl rollout restart`). If that does not help, the message says why; see also the "
    "webhook's log.",
    always=True,
)
def sidecar_missing(manifests: Manifests) -> Iterator[Hit]:
    images = _images_of_webhooks(manifests)
    found: dict[tuple[str, str], list[tuple[Resource, str]]] = {}
    for pod in manifests.of("Pod"):
        # Of a manifest that is yet to be applied, the webhook will take care.
        if pod.is_live and (lack := lack_of(pod.data, _around(manifests, pod), Options(image=_wanted(pod, images)))):
            alike = (str(controller_of(pod.data).get("uid") or pod.data["metadata"]["uid"]), lack.reason)
            found.setdefault(alike, []).append((pod, lack.message))
    for (_, reason), lacking in found.items():
        pod, message = lacking[0]
        maker = controller_of(pod.data)
        others = (
            f"; the same for {len(lacking) - 1} more of {maker['kind']}/{maker['name']}" if len(lacking) > 1 else ""
        )
        severity = Severity.WARNING if reason == "outdated" else Severity.ERROR
        yield Hit(pod, ("metadata", "name"), f"{reason}: {message}{others}", severity)


def _around(manifests: Manifests, pod: Resource) -> list[dict[str, Any]]:
    """What the webhook would look at for this Pod."""
    near = [
        each.data for kind in ("Service", "NetworkPolicy") for each in manifests.of(kind) if same_namespace(each, pod)
    ]
    return [*near, *(each.data for each in manifests.of("Namespace") if each.name == pod.namespace)]


def _images_of_webhooks(manifests: Manifests) -> set[str]:
    """The sidecar's image that webhooks in the input write."""
    return {
        str(entry["value"])
        for pods in manifests.pods
        for each in pods.workload.containers
        for entry in mappings(each.get("env"))
        if entry.get("name") == WEBHOOK_IMAGE_ENV and entry.get("value")
    }


def _wanted(pod: Resource, images: set[str]) -> str:
    """The image that this Pod would get today: what the webhook says, else of the same repository what we are.

    A newer sidecar than we are is nobody's fault.
    """
    if images:
        return min(images)
    sidecar = find(Workload(pod, TEMPLATES["Pod"]))
    image = str(sidecar.container.get("image", "")) if sidecar else ""
    ours = f"{repository(image)}:{__version__}"
    return ours if _version(image) < _version(ours) else image


def _version(image: str) -> tuple[float, ...]:
    """The numbers of a tag such as 1.2.3; without them it is newer than any."""
    tag = _VERSION_TAG.search(image)
    return tuple(int(each) for each in tag[1].split(".")) if tag else (math.inf,)
