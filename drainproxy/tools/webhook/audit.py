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

from drainproxy.tools.manifest.admitted import lack_of
from drainproxy.tools.manifest.objects import controller_of
from drainproxy.tools.webhook.api import API_ERRORS, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightkube import AsyncClient

    from drainproxy.tools.manifest.asked import Options

log = logging.getLogger(__name__)

PODS: Any = create_namespaced_resource("", "v1", "Pod", "pods")
EVENTS: Any = create_namespaced_resource("", "v1", "Event", "events")


@dataclass(frozen=True, slots=True)
class Finding:
    """A Pod, what is wrong with it, and whom to tell (an `involvedObject`)."""

    namespace: str
    pod: str
    reason: str
    message: str
    owner: Mapping[str, str]


def judge(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Finding | None:
    """What is wrong with a Pod, and whom to tell; None if nothing is."""
    lack = lack_of(pod, around, options)
    if lack is None:
        return None
    metadata = pod["metadata"]
    namespace, name = str(metadata["namespace"]), str(metadata["name"])
    itself = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": metadata.get("uid", "")}
    owner = {key: str((controller_of(pod) or itself).get(key, "")) for key in itself}
    return Finding(namespace, name, lack.reason, lack.message, {**owner, "namespace": namespace})


class Audit:
    """Looks at all Pods but those of its own namespace, again and again.

    `counts`: by namespace and reason, of the last look that came to its end.
    """

    def __init__(
        self,
        client: AsyncClient,
        options: Options,
        around: Callable[[str], Sequence[dict[str, Any]]],
        own: str,
    ) -> None:
        self._client, self._options, self._around, self._own = client, options, around, own
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
        return None if name == self._own else judge(pod, self._around(name), self._options)

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
