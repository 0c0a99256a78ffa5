"""How is one scenario played? A cluster over namespaces, traffic against its Service, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from drainproxy.tools.cluster.cluster import Cluster
from drainproxy.tools.cluster.controller import Strategy
from drainproxy.tools.cluster.endpoints import Lag
from drainproxy.tools.cluster.variants import Times
from drainproxy.tools.probe.http_client import HttpClient
from drainproxy.tools.probe.load import Load, Traffic
from drainproxy.tools.probe.verdict import Verdict, judge
from tests.rollout.netns import SERVICE_IP, SERVICE_PORT, Namespaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from drainproxy.tools.cluster.kubelet import Event, EventReason
    from drainproxy.tools.cluster.pod import PodSpec
    from drainproxy.tools.probe.load import Client
    from drainproxy.tools.probe.verdict import Sample

NODES = ("node-1", "node-2")
URL = f"http://{SERVICE_IP}:{SERVICE_PORT}"
TIMES = Times(grace_s=12.0, floor_s=1.0, quiet_s=0.3, spread_s=0.5, app_stop_s=1.0, probe_period_s=0.2)
LAG = Lag(0.1, 0.8)
"""Endpoint changes reach each node late, by a random time of its own."""
THREE = Strategy(replicas=3, max_surge=1, max_unavailable=0)
MIXED = ("/", "/", "/", "/slow?s=1.5", "/", "/", "/", "/drip?s=1.5", "/", "/", "/")
"""Eleven paths in turn, so that each of them meets kept and fresh connections alike."""


class Rig:
    """The network and where logs go; scenarios ask it for clusters and traffic."""

    def __init__(self, network: Namespaces, logs: Path) -> None:
        self.network, self.logs = network, logs
        self.dice = random.Random(7)

    @contextlib.asynccontextmanager
    async def cluster(
        self, spec: PodSpec, strategy: Strategy = THREE, lag: Lag = LAG, backoff_s: float = 1.0
    ) -> AsyncIterator[Cluster]:
        """A cluster that is ready and known to every node."""
        made = Cluster(self.network, spec, strategy, nodes=NODES, logs=self.logs, dice=self.dice, backoff_s=backoff_s)
        async with made as cluster:
            known = [asyncio.Event() for _ in NODES]
            for node, event in zip(NODES, known, strict=True):
                cluster.watch(lag, _telling(self.network.kube_proxy(node), strategy.replicas, event))
            await cluster.rolled_out(30)
            await asyncio.wait_for(asyncio.gather(*(event.wait() for event in known)), 30)
            yield cluster

    def http(
        self,
        *paths: str,
        method: str = "GET",
        body_of: Callable[[int], AsyncIterator[bytes] | None] = lambda _: None,
        headers: tuple[tuple[str, str], ...] = (),
        node: str = NODES[0],
        connections: int = 6,
        fresh: float = 0.5,
        timeout_s: float = 20.0,
    ) -> HttpClient:
        """A client on `node` that asks for `paths` in turn."""
        traffic = Traffic(connections=connections, fresh=fresh, timeout_s=timeout_s, headers=headers)
        return HttpClient(
            traffic,
            lambda number: URL + paths[number % len(paths)],
            method=method,
            body_of=body_of,
            connector=self.network.client(node),
        )

    @contextlib.asynccontextmanager
    async def traffic(self, client: Client, rate: float) -> AsyncIterator[Load]:
        """Steady traffic inside the block; left, every request has ended, or the test fails."""
        load = Load(client, rate)
        running = asyncio.create_task(load.run(), name="traffic")
        try:
            yield load
        finally:
            load.stop()
            await running
            unfinished = await load.settle(30)
            await client.close()
        assert unfinished == 0, f"{unfinished} requests never ended"


def _telling(program: Callable[..., None], replicas: int, known: asyncio.Event) -> Callable[..., None]:
    def apply(endpoints: tuple[object, ...]) -> None:
        program(endpoints)
        if len(endpoints) >= replicas:
            known.set()

    return apply


async def enough(load: Load, answers: int) -> None:
    """Wait until so many more requests have ended well: the traffic is known to flow."""
    target = len(load.samples) + answers
    landed = asyncio.Event()

    def listen(_: Sample) -> None:
        if len(load.samples) >= target:
            landed.set()

    before, load.on_sample = load.on_sample, listen
    try:
        await asyncio.wait_for(landed.wait(), 60)
    finally:
        load.on_sample = before


def said(load: Load) -> Verdict:
    """The verdict over a load that has ended."""
    return judge(load.samples)


def nothing_lost(load: Load, at_least: int) -> None:
    """Zero failures, and enough requests for that to mean something."""
    verdict = said(load)
    examples = [
        (each.name, each.count, each.example, f"{each.first_s:.2f}-{each.last_s:.2f} s") for each in verdict.failures
    ]
    assert verdict.failed == 0, examples
    assert verdict.sent >= at_least, f"only {verdict.sent} requests were sent"


async def rolled(cluster: Cluster, times: int = 1) -> None:
    for _ in range(times):
        cluster.roll_out()
        await cluster.rolled_out()


def events(cluster: Cluster, reason: EventReason) -> list[Event]:
    return [event for event in cluster.events if event.reason is reason]
