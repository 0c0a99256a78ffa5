"""Which Pods should have the sidecar and have none, or another version's?

With failurePolicy Ignore a Pod that is created while no webhook answers starts bare, and nothing brings that back but a
look at what is there. Told by a metric and by an event on whoever made the Pod; nothing is changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx2
from lightkube.generic_resource import create_namespaced_resource

from drainproxy.tools.manifest.asked import PREFIX
from drainproxy.tools.manifest.objects import TEMPLATES, Workload, mapping, mappings, resource_of
from drainproxy.tools.manifest.sidecar import find
from drainproxy.tools.webhook.admission import Outcome, decide
from drainproxy.tools.webhook.api import API_ERRORS, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lightkube import AsyncClient

    from drainproxy.tools.manifest.asked import Options

log = logging.getLogger(__name__)

PODS: Any = create_namespaced_resource("", "v1", "Pod", "pods")
EVENTS: Any = create_namespaced_resource("", "v1", "Event", "events")
MISSING, OUTDATED = "missing", "outdated"
_WANTED = {Outcome.INJECTED: MISSING, Outcome.UNDECIDED: "undecided", Outcome.SHUT_OUT: "shut-out"}
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Finding:
    """A Pod, what is wrong with it, and whom to tell (an `involvedObject`)."""

    namespace: str
    pod: str
    reason: str
    message: str
    owner: Mapping[str, str]


def is_wanted(namespace: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the sidecar is asked for: by the Pod's annotation, else by the label of its namespace."""
    said = mapping(mapping(pod.get("metadata")).get("annotations")).get(f"{PREFIX}inject")
    if said is not None:
        return str(said).lower() in ("enabled", "true")
    return mapping(mapping(namespace.get("metadata")).get("labels")).get(f"{PREFIX}inject") == "enabled"


def judge(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Finding | None:
    """What is wrong with a Pod that is to have the sidecar; None if nothing is, or the Pod has ended or is ending."""
    metadata = mapping(pod.get("metadata"))
    if metadata.get("deletionTimestamp") or mapping(pod.get("status")).get("phase") in _ENDED:
        return None
    sidecar = find(Workload(resource_of(pod), TEMPLATES["Pod"]))
    if sidecar is not None:
        wanted = mapping(metadata.get("annotations")).get(f"{PREFIX}image") or options.image or ""
        image = str(sidecar.container.get("image", ""))
        # Another repository is somebody's own choice; another version of the same one is what a rollout would change.
        if image == wanted or _repository(image) != _repository(str(wanted)):
            return None
        return _finding(pod, OUTDATED, f"its drainproxy is {image}, not {wanted}: roll it out again")
    request = {"operation": "CREATE", "namespace": metadata.get("namespace"), "object": pod}
    answer = decide(request, around, options)
    if answer.outcome is Outcome.INJECTED:
        return _finding(pod, MISSING, "it was created without the drainproxy sidecar: roll it out again")
    reason = _WANTED.get(answer.outcome)
    return _finding(pod, reason, "; ".join(answer.warnings)) if reason else None


def _repository(image: str) -> str:
    """An image's name without its tag and digest."""
    name = image.partition("@")[0]
    path, slash, last = name.rpartition("/")
    return path + slash + last.partition(":")[0]


def _finding(pod: dict[str, Any], reason: str, message: str) -> Finding:
    metadata = pod["metadata"]
    namespace, name = str(metadata["namespace"]), str(metadata["name"])
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": str(metadata.get("uid", ""))}
    for each in mappings(metadata.get("ownerReferences")):
        if each.get("controller") is True:
            owner = {key: str(each.get(key, "")) for key in owner}
    return Finding(namespace, name, reason, message, {**owner, "namespace": namespace})


class Audit:
    """Looks at all Pods, again and again. `counts`: by namespace and reason, of the last look that came to its end."""

    def __init__(
        self,
        client: AsyncClient,
        options: Options,
        around: Callable[[str], Sequence[dict[str, Any]]],
        spared: Iterable[str],
    ) -> None:
        self._client, self._options, self._around = client, options, around
        self._spared = frozenset(spared)
        self.counts: Mapping[tuple[str, str], int] = {}

    async def run(self, every_s: float) -> None:
        """For ever. Never raises but when cancelled."""
        while True:
            try:
                await self.look()
            except API_ERRORS as error:
                log.warning("audit: %s; again in %.0f s", str(error) or type(error).__name__, every_s)
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Once. Raises what the API server answers."""
        counts: Counter[tuple[str, str]] = Counter()
        told: set[str] = set()
        async for each in self._client.list(PODS, namespace="*", chunk_size=100):
            found = self._judged({**each, "kind": "Pod", "apiVersion": "v1"})
            if found is None:
                continue
            counts[found.namespace, found.reason] += 1
            # One event for all Pods of an owner; admissions come in between.
            event = _event(found, datetime.now(UTC))
            if event["metadata"]["name"] not in told:
                told.add(event["metadata"]["name"])
                await self._tell(event)
        self.counts = dict(counts)

    def _judged(self, pod: dict[str, Any]) -> Finding | None:
        name = str(pod["metadata"]["namespace"])
        if name in self._spared:
            return None
        around = self._around(name)
        namespace = next((each for each in around if each["kind"] == "Namespace"), {})
        return judge(pod, around, self._options) if is_wanted(namespace, pod) else None

    async def _tell(self, event: dict[str, Any]) -> None:
        """The same event has the same name, so that replicas and looks do not repeat it while the server keeps it."""
        try:
            await self._client.create(EVENTS(event))
        except httpx2.HTTPStatusError as error:
            if not refused(error, HTTPStatus.CONFLICT):
                log.warning("audit: no event on %s: %s", event["involvedObject"]["name"], error)


def _event(found: Finding, now: datetime) -> dict[str, Any]:
    key = hashlib.sha256(f"{found.owner['uid']} {found.reason}".encode()).hexdigest()[:16]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"drainproxy-audit.{key}", "namespace": found.namespace},
        "involvedObject": dict(found.owner),
        "type": "Warning",
        "reason": f"DrainproxySidecar{found.reason.title().replace('-', '')}",
        "message": f"Pod {found.pod}: {found.message}"[:1000],
        "source": {"component": "drainproxy-webhook"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
