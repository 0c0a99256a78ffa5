"""What becomes of Pods while something else happens? A steady stream of them is created, looked at, and deleted again.

Each is asked for on a connection that is kept, as controllers do it: how long the API server took is known to the
millisecond. None is ever scheduled.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
from lightkube import AsyncClient, KubeConfig

from drainproxy.tools.webhook.audit import PODS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster.kubectl import Kubectl

PACE_S = 0.1


@dataclass
class Creations:
    """Pods that were created, one after another: how long each took, which lack the sidecar, what went wrong."""

    took_s: list[float] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.took_s)} Pods, {len(self.bare)} bare, {len(self.failed)} refused"

    async def more(self, count: int) -> None:
        wanted = len(self.took_s) + len(self.failed) + count
        async with asyncio.timeout(120):
            while len(self.took_s) + len(self.failed) < wanted:  # noqa: ASYNC110 - a test looks from outside
                await asyncio.sleep(0.05)


def unscheduled(name: str, image: str) -> dict[str, Any]:
    """A Pod of which only the admission matters."""
    container = {"name": "app", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}
    spec = {"schedulerName": "nobody", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "stream"}}, "spec": spec}


def is_bare(pod: dict[str, Any]) -> bool:
    return all(each["name"] != "drainproxy" for each in pod["spec"].get("initContainers", []))


class Creator:
    """One client of the API server, in one namespace."""

    def __init__(self, client: AsyncClient, image: str) -> None:
        self._client, self._image = client, image
        self._number = 0
        self.seen = Creations()

    async def one(self) -> None:
        """Create a Pod, and delete it."""
        self._number += 1
        name = f"stream-{self._number}"
        before = time.perf_counter()
        try:
            made = await self._client.create(PODS(unscheduled(name, self._image)))
        except (httpx2.HTTPError, OSError) as error:
            self.seen.failed.append(str(error))
            return
        self.seen.took_s.append(time.perf_counter() - before)
        if is_bare(made):
            self.seen.bare.append(name)
        await self._client.delete(PODS, name, grace_period=0)


@asynccontextmanager
async def creator(kubectl: Kubectl, image: str) -> AsyncIterator[Creator]:
    config = KubeConfig.from_file(kubectl.kubeconfig)
    async with AsyncClient(config=config, namespace=kubectl.namespace) as client:
        yield Creator(client, image)


@asynccontextmanager
async def creations(kubectl: Kubectl, image: str) -> AsyncIterator[Creations]:
    """A steady stream of Pods inside the block."""
    ended = asyncio.Event()

    async def stream(one: Creator) -> None:
        while not ended.is_set():
            await one.one()
            await asyncio.sleep(PACE_S)

    async with creator(kubectl, image) as made:
        task = asyncio.create_task(stream(made))
        try:
            yield made.seen
        finally:
            ended.set()
            await task
