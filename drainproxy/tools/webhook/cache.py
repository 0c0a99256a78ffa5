"""What does the cluster hold of one kind, now? List it, then watch it; list anew after an error, and now and then.

The last known objects stay while the API server cannot be asked: a Pod is planned for better with old Services than
with none. `age_s` says how old they may be.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from lightkube.generic_resource import create_global_resource, create_namespaced_resource

from drainproxy.tools.webhook.api import API_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lightkube import AsyncClient

log = logging.getLogger(__name__)

SERVICES: Any = create_namespaced_resource("", "v1", "Service", "services")
POLICIES: Any = create_namespaced_resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
NAMESPACES: Any = create_global_resource("", "v1", "Namespace", "namespaces")

RESYNC_S = 300.0
"""A watch ends after this long and the list is read anew: nothing that was missed is missed for longer."""
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 30.0


class Cache:
    """The objects of one kind, by namespace. `synced` is set once they have been listed."""

    def __init__(self, client: AsyncClient, resource: Any, clock: Callable[[], float]) -> None:
        self._client: Any = client  # its types do not know which resources are global
        self._resource, self._clock = resource, clock
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._fresh_at = 0.0
        self._watching = False
        self.kind: str = resource._api_info.resource.kind
        self.synced = asyncio.Event()

    @property
    def age_s(self) -> float:
        """How long the objects have been without a word from the API server; 0 while a watch stands."""
        return 0.0 if self._watching else self._clock() - self._fresh_at

    def of(self, namespace: str) -> Iterable[dict[str, Any]]:
        """The objects in a namespace; those without one are in their own."""
        return self._objects.get(namespace, {}).values()

    async def run(self) -> None:
        """List and watch, for ever. Never raises but when cancelled."""
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                version = await self._list()
                backoff = FIRST_BACKOFF_S
                await self._watch(version)
            except API_ERRORS as error:
                wait = backoff * random.uniform(0.5, 1.5)  # noqa: S311 - so that replicas do not ask in step
                log.warning("%s: %s; asking again in %.1f s", self.kind, str(error) or type(error).__name__, wait)
                await asyncio.sleep(wait)
                backoff = min(2 * backoff, LAST_BACKOFF_S)
            finally:
                self._watching = False

    async def _list(self) -> str:
        found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        listing = self._client.list(self._resource, **self._everywhere(), chunk_size=500)
        async for each in listing:
            namespace, name = _place(each)
            found[namespace][name] = self._kept(each)
        self._objects = dict(found)
        self._fresh_at = self._clock()
        self.synced.set()
        return str(listing.resourceVersion)

    async def _watch(self, version: str) -> None:
        """Take in changes until it is time to list anew. Raises what the API server answers."""
        self._watching = True
        changes = self._client.watch(
            self._resource, **self._everywhere(), resource_version=version, server_timeout=int(RESYNC_S)
        )
        try:
            async with asyncio.timeout(RESYNC_S):
                async for change, each in changes:
                    self._take(change, each)
        except TimeoutError:
            self._fresh_at = self._clock()

    def _take(self, change: str, each: dict[str, Any]) -> None:
        namespace, name = _place(each)
        self._fresh_at = self._clock()
        if change == "DELETED":
            self._objects.get(namespace, {}).pop(name, None)
        elif change in ("ADDED", "MODIFIED"):
            self._objects.setdefault(namespace, {})[name] = self._kept(each)

    def _kept(self, each: dict[str, Any]) -> dict[str, Any]:
        """The items of a list do not say what they are; who set which field would be half of the memory."""
        metadata = {key: value for key, value in each["metadata"].items() if key != "managedFields"}
        return {**each, "kind": self.kind, "metadata": metadata}

    def _everywhere(self) -> dict[str, str]:
        return {} if self._resource is NAMESPACES else {"namespace": "*"}


def _place(each: dict[str, Any]) -> tuple[str, str]:
    metadata = each["metadata"]
    return str(metadata.get("namespace") or metadata["name"]), str(metadata["name"])
