"""What does a rolling update cost, bare and protected? The same update under the same traffic, measured each time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.config.values import show_duration
from drainproxy.tools.cluster.balancer import Balancer
from drainproxy.tools.cluster.cluster import Cluster, ClusterError
from drainproxy.tools.cluster.controller import Strategy
from drainproxy.tools.cluster.endpoints import Lag
from drainproxy.tools.cluster.kubelet import EventReason
from drainproxy.tools.cluster.network import LOOPBACK, Loopback
from drainproxy.tools.cluster.variants import App, Times, bare, drained, sleeping
from drainproxy.tools.probe.http_client import HttpClient
from drainproxy.tools.probe.load import Load, Traffic
from drainproxy.tools.probe.plot import PodBar
from drainproxy.tools.probe.verdict import Sample, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from drainproxy.tools.cluster.kubelet import Event
    from drainproxy.tools.cluster.pod import PodSpec

NODES = ("node-1", "node-2")
BARE, SLEEP, DRAINPROXY = "bare", "preStop: sleep", "drainproxy"
_START_WITHIN_S = 30.0
_TOO_BUSY_S = 0.3
"""A sender that is later than this shares the machine with too much: the demo's floor and lags are about as short."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is the same for all runs. Seconds; `rate` is requests a second.

    `paths` take turns. `seed` fixes the balancer's choices and the lags, as far as a real clock allows.
    """

    app: App
    paths: tuple[str, ...]
    times: Times = Times()  # noqa: RUF009 - frozen
    strategy: Strategy = Strategy(replicas=3, max_surge=1, max_unavailable=0, min_ready_s=1.0)  # noqa: RUF009 - frozen
    lag: Lag = Lag(0.2, 1.5)  # noqa: RUF009 - frozen
    traffic: Traffic = Traffic(connections=8, fresh=0.5, timeout_s=20.0)  # noqa: RUF009 - frozen
    rate: float = 40.0
    before_s: float = 2.0
    after_s: float = 2.0
    seed: int = 1


SIMULATED = (
    "Simulated on this machine: Pods are processes, the Service is a TCP balancer, endpoint changes reach it late at "
    "random, and a kubelet and a Deployment controller follow Kubernetes' rules. Real: the app, drainproxy, every "
    "request and every loss."
)


def settings(scene: Scene) -> dict[str, str]:
    """What a reader needs to judge the numbers, or to get them again."""
    times = scene.times
    own = scene.app.command == App().command
    return {
        "app": "built in: dies on SIGTERM, 2 of 13 requests take 3 s" if own else " ".join(scene.app.command),
        "traffic": f"{scene.rate:g} requests/s, {scene.traffic.fresh:.0%} on connections of their own",
        "rollout": f"{scene.strategy.replicas} Pods, one more at a time, grace period {show_duration(times.grace_s)}",
        "endpoints": f"each change is known after {scene.lag.least_s:g} to {scene.lag.most_s:g} s",
        SLEEP: show_duration(times.sleep_s),
        DRAINPROXY: f"floor {show_duration(times.floor_s)}, quiet period {show_duration(times.quiet_s)}",
        "dice": f"seed {scene.seed}",
    }


@dataclass(frozen=True, slots=True)
class Told:
    """What stands around a result: what a row is, how it was measured, and what of it is real."""

    row: str
    settings: dict[str, str]
    note: str


def told(scene: Scene) -> Told:
    """Around the rolling updates."""
    return Told("rollout", settings(scene), SIMULATED)


OWN_PATHS = ("/",) * 3 + ("/slow",) + ("/",) * 4 + ("/drip",) + ("/",) * 4
"""Of thirteen requests one is slow to begin and one slow to end, on kept and on fresh connections in turn."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured rolling update. `rollout_s` lasts until the last old Pod is gone. `pods` on the samples' clock."""

    name: str
    verdict: Verdict
    samples: tuple[Sample, ...]
    pods: tuple[PodBar, ...]
    rollout_s: float


class Stage:
    """What a viewer may look at while a run goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = "starting"
        self.change = "replacing"
        self.began = time.monotonic()
        self.cluster: Cluster | None = None
        self.load: Load | None = None


def variants(scene: Scene) -> dict[str, PodSpec]:
    """The Pods that are compared, in the order of the runs."""
    return {
        BARE: bare(scene.app, scene.times),
        SLEEP: sleeping(scene.app, scene.times),
        DRAINPROXY: drained(scene.app, scene.times),
    }


async def perform(spec: PodSpec, scene: Scene, stage: Stage, changed: Callable[[], None]) -> Run:
    """One rolling update of `spec` under the scene's traffic. Raises ClusterError with the place of the logs."""
    dice = random.Random(scene.seed)  # noqa: S311 - a demo's dice
    logs = Path(tempfile.mkdtemp(prefix="drainproxy-demo-"))
    network, balancer = Loopback(), Balancer(dice)
    port = await balancer.start(LOOPBACK)
    urls = [f"http://{LOOPBACK}:{port}{path}" for path in scene.paths]
    client = HttpClient(scene.traffic, lambda number: urls[number % len(urls)])
    try:
        async with contextlib.AsyncExitStack() as cleanup:
            cleanup.push_async_callback(balancer.close)
            cleanup.push_async_callback(client.close)
            cluster = Cluster(network, spec, scene.strategy, nodes=NODES, logs=logs, dice=dice)
            stage.cluster = await cleanup.enter_async_context(cluster)
            for node in NODES:
                cluster.watch(scene.lag, balancer.learner(node))
            await cluster.rolled_out(_START_WITHIN_S)
            # Every node knows the Pods before the first request: what follows is the rollout's doing alone.
            await asyncio.sleep(scene.lag.most_s)
            load = stage.load = Load(client, scene.rate)
            load.on_sample = lambda _: changed()

            async def roll_out() -> None:
                cluster.roll_out()
                await cluster.rolled_out()

            stage.change = "rolling out"
            run = await under_traffic(roll_out, lambda zero: pod_bars(cluster.events, zero), load, scene, stage)
    except ClusterError:
        raise  # its message says where the logs are
    except BaseException:
        shutil.rmtree(logs)
        raise
    shutil.rmtree(logs)
    return run


async def under_traffic(
    change: Callable[[], Awaitable[None]],
    bars: Callable[[float], tuple[PodBar, ...]],
    load: Load,
    scene: Scene,
    stage: Stage,
) -> Run:
    """Measure what the change costs. `bars`: who lived when, given the loop time of the samples' second 0."""
    traffic = asyncio.create_task(load.run(), name="traffic")
    patience_s = 0.0
    try:
        stage.step = "before"
        await asyncio.sleep(scene.before_s)
        stage.step = stage.change
        zero, start_s = asyncio.get_running_loop().time() - load.elapsed_s(), load.elapsed_s()
        await change()
        end_s = load.elapsed_s()
        stage.step = "after"
        await asyncio.sleep(scene.after_s)
        patience_s = scene.traffic.timeout_s
    finally:
        load.stop()
        await traffic
        stage.step = "last answers"
        unfinished = await load.settle(patience_s)
        stage.step = "done"
    samples = tuple(load.samples)
    verdict = judge(samples, during=(start_s, end_s), unfinished=unfinished)
    return Run(stage.name, verdict, samples, bars(zero), end_s - start_s)


def pod_bars(events: Sequence[Event], zero: float) -> tuple[PodBar, ...]:
    """Each Pod's life from its events, in order of creation; `zero` is the loop time of the samples' second 0."""
    lives: dict[str, dict[EventReason, float]] = {}
    for event in events:
        if not event.container:
            lives.setdefault(event.pod, {}).setdefault(event.reason, event.at_s - zero)
    return tuple(
        PodBar(
            name,
            life[EventReason.CREATED],
            life.get(EventReason.READY),
            life.get(EventReason.DELETED),
            life.get(EventReason.GONE),
        )
        for name, life in lives.items()
    )


def conclusion(runs: Sequence[Run]) -> tuple[bool, str]:
    """Does this run show anything, and what? False if it does not, or if drainproxy lost a request."""
    lost = {run.name: run.verdict.failed for run in runs}
    if DRAINPROXY not in lost or BARE not in lost:
        return all(run.verdict.ok for run in runs), ", ".join(f"{name}: {count} lost" for name, count in lost.items())
    late_s = max(run.verdict.late_s for run in runs)
    if lost[DRAINPROXY] and late_s > _TOO_BUSY_S:
        return False, (
            f"drainproxy lost {lost[DRAINPROXY]}, but this machine stood still for {late_s:.1f} s: short times were "
            "not kept, so this proves nothing. Run it again when the machine is less busy."
        )
    if lost[DRAINPROXY]:
        return False, f"drainproxy lost {lost[DRAINPROXY]} requests: that is a bug, please report it with --html."
    if not lost[BARE]:
        return False, "The bare rollout lost nothing either, so this proves nothing: raise --rate, or run it again."
    others = ", ".join(f"{name} lost {count}" for name, count in lost.items() if name != DRAINPROXY)
    return True, f"drainproxy lost no request; {others}."
