"""Who starts, ends and announces Pods? The miniature cluster: a Deployment, its Service, its nodes' kubelets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from drainproxy.errors import DrainproxyError
from drainproxy.tools.cluster.controller import PodFact, next_step
from drainproxy.tools.cluster.endpoints import Endpoint, NodeView
from drainproxy.tools.cluster.kubelet import Event, Kubelet, Pod

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from drainproxy.tools.cluster.controller import Step, Strategy
    from drainproxy.tools.cluster.endpoints import Lag
    from drainproxy.tools.cluster.network import Network
    from drainproxy.tools.cluster.pod import PodSpec


class ClusterError(DrainproxyError):
    """The miniature cluster did not reach the state that was asked for; the message says where the logs are."""


class Cluster:
    """A Deployment of `spec` over `nodes`. As a context: entered it runs, left it is gone, processes and addresses."""

    def __init__(
        self,
        network: Network,
        spec: PodSpec,
        strategy: Strategy,
        *,
        nodes: Sequence[str],
        logs: Path,
        dice: random.Random,
        backoff_s: float = 10.0,
    ) -> None:
        self.events: list[Event] = []
        self.pods: dict[str, Pod] = {}
        self.revision = 1
        self._network, self._spec, self._strategy = network, spec, strategy
        self._nodes, self._logs, self._dice = list(nodes), logs, dice
        self._cordoned: set[str] = set()
        self._views: list[NodeView] = []
        self._published: tuple[Endpoint, ...] = ()
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._made = 0
        self._changed = asyncio.Event()
        self._watchers: set[asyncio.Event] = set()
        self._done = False
        self._controller: asyncio.Task[None] | None = None
        self._kubelet = Kubelet(network, logs, self.events.append, self._wake, backoff_s)

    async def __aenter__(self) -> Cluster:
        self._controller = asyncio.create_task(self._control(), name="deployment controller")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for view in self._views:
            view.close()
        tasks = [self._controller, *self._lives.values()] if self._controller else [*self._lives.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in list(self.pods):
            await self._network.detach(name)
        self.pods.clear()

    def watch(self, lag: Lag, apply: Callable[[tuple[Endpoint, ...]], None]) -> None:
        """One more node that learns of the Service's endpoints, each change late by `lag`."""
        view = NodeView(lag, self._dice, apply)
        self._views.append(view)
        view.publish(self._published)

    # --- what an operator does -------------------------------------------------------------------------------------

    def roll_out(self, spec: PodSpec | None = None) -> None:
        """A new revision: every Pod is to be replaced (`kubectl rollout restart`, or with a changed template)."""
        self._spec = spec if spec is not None else self._spec
        self.revision += 1
        self._wake()

    def scale(self, replicas: int) -> None:
        """`kubectl scale`."""
        self._strategy = replace(self._strategy, replicas=replicas)
        self._wake()

    async def drain_node(self, node: str, min_available: int) -> None:
        """`kubectl drain`: no new Pods there, and each one is evicted as soon as the disruption budget allows it."""
        self._cordoned.add(node)
        for pod in [pod for pod in self.pods.values() if pod.place.node == node]:
            await self.until(lambda: self._available() - 1 >= min_available)
            pod.delete()
        await self.until(lambda: all(pod.place.node != node for pod in self.pods.values()))

    async def rolled_out(self, within_s: float = 120.0) -> None:
        """`kubectl rollout status`, and then the end of the last old Pod. Raises ClusterError."""
        await self.until(
            lambda: self._done and not any(pod.deleted.is_set() for pod in self.pods.values()), within_s=within_s
        )

    async def until(self, state: Callable[[], bool], *, within_s: float = 120.0) -> None:
        """Wait for a state of the cluster. Raises ClusterError after `within_s`."""
        mine = asyncio.Event()
        self._watchers.add(mine)
        try:
            async with asyncio.timeout(within_s):
                while not state():
                    self._see_controller()
                    await mine.wait()
                    mine.clear()
        except TimeoutError:
            lines = ", ".join(f"{pod.name} {describe(pod)}" for pod in self.pods.values()) or "no Pods"
            raise ClusterError(
                f"gave up after {within_s:g} s: {lines}; logs are in {self._logs}{_last_words(self._logs)}"
            ) from None
        finally:
            self._watchers.discard(mine)

    # --- how it follows ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Something changed: endpoints first (nobody waits for the Deployment), then whoever waits for a state."""
        self._publish()
        self._done = False
        self._changed.set()

    def _publish(self) -> None:
        port = self._spec.service_port
        endpoints = tuple(
            sorted(
                Endpoint(pod.name, pod.place.ip, pod.place.ports[port], pod.serving, pod.deleted.is_set())
                for pod in self.pods.values()
                if not pod.gone.is_set()
            )
        )
        if endpoints != self._published:
            self._published = endpoints
            for view in self._views:
                view.publish(endpoints)

    async def _control(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            await self._bury()
            step = next_step(self._strategy, self.revision, self._facts(), loop.time())
            await self._take(step)
            self._done = step.done
            for watcher in self._watchers:
                watcher.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step.look_again_s):
                    await self._changed.wait()

    async def _take(self, step: Step) -> None:
        for _ in range(step.create):
            await self._create()
        for name in step.delete:
            self.pods[name].delete()

    async def _create(self) -> None:
        self._made += 1
        name = f"v{self.revision}-{self._made}"
        place = await self._network.attach(name, self._node(), self._ports())
        pod = self.pods[name] = Pod(self._kubelet, name, self.revision, self._spec, place)
        self._lives[name] = asyncio.create_task(pod.live(), name=f"pod {name}")

    async def _bury(self) -> None:
        """Pods that have ended leave the API; a life that failed is an error of the whole cluster."""
        for name in [name for name, pod in self.pods.items() if pod.gone.is_set()]:
            await self._lives.pop(name)
            await self._network.detach(name)
            del self.pods[name]
        self._publish()

    def _see_controller(self) -> None:
        if self._controller is not None and self._controller.done():
            self._controller.result()

    def _facts(self) -> list[PodFact]:
        return [PodFact(pod.name, pod.revision, pod.deleted.is_set(), pod.ready_since_s) for pod in self.pods.values()]

    def _available(self) -> int:
        return sum(pod.serving and not pod.deleted.is_set() for pod in self.pods.values())

    def _node(self) -> str:
        """The open node with the fewest Pods that stay."""
        used = [pod.place.node for pod in self.pods.values() if not pod.deleted.is_set()]
        return min((node for node in self._nodes if node not in self._cordoned), key=used.count)

    def _ports(self) -> dict[str, int]:
        return {name: port for each in self._spec.containers for name, port in each.ports.items()}


def _last_words(logs: Path) -> str:
    """The last line of the log that was written last: mostly the reason why a Pod does not start."""
    written = sorted((log for log in logs.iterdir() if log.stat().st_size), key=lambda log: log.stat().st_mtime)
    if not written:
        return ""
    lines = written[-1].read_text(errors="replace").strip().splitlines() or [""]
    return f"; {written[-1].stem} said: {lines[-1]}"


def describe(pod: Pod) -> str:
    """`starting`, `ready`, `not ready` or `terminating`."""
    if pod.deleted.is_set():
        return "terminating"
    return "ready" if pod.serving else "starting"
