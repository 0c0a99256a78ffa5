"""A process for the admin port to look at: the real supervisor over a clock that tests turn, no sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.drain.ledger import Ended, Kind, Ledger, Work
from drainproxy.observe.documents import ConnectionCounts, UpstreamView
from drainproxy.view import ProcessView, RouteAtWork
from tests.support.process import ScriptedProcess

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from drainproxy.config.options import Config
    from drainproxy.drain.machine import DrainMachine, Finish
    from drainproxy.drain.phase import Trigger

EPOCH = 1_800_000_000.0


class ScriptedControl(ProcessView):
    """A Process and its Control. Time stands still until `tick`."""

    def __init__(self, config: Config | None = None, *, ready: bool = True) -> None:
        self._process = ScriptedProcess(config, view=self._of)
        self._supervisor = self._process.supervisor
        self.meter = self._process.meter
        self.scrapes = 0
        self.counts = ConnectionCounts(client=0, upstream_idle=0, upstream_busy=0)
        self.views = [view(self.config, healthy=ready)]
        if ready:
            self.machine.upstream(reachable=True, healthy=True, gate=None)

    def _of(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        machine: DrainMachine,
        ledger: Ledger,
        routes: Sequence[RouteAtWork],
    ) -> ProcessView:
        super().__init__(loop, config, machine, ledger, routes)
        return self

    def wall(self) -> float:
        return EPOCH + self.now()

    def upstreams(self) -> list[UpstreamView]:
        return self.views

    def connections(self) -> ConnectionCounts:
        return self.counts

    def drain(self, trigger: Trigger) -> None:
        self._supervisor.drain(trigger)

    def resume(self) -> bool:
        return self._supervisor.resume()

    async def finished(self) -> Finish:
        return await self._supervisor.finished()

    def scraped(self) -> None:
        self.scrapes += 1
        self._supervisor.scraped()

    def terminate(self) -> None:
        self._supervisor.terminate()

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self._process.clock.advance(seconds)

    def wait(self, seconds: int) -> None:
        """Let time pass, second by second."""
        for _ in range(seconds):
            self.tick(1)

    def open(self, target: str = "/", method: str = "GET", kind: Kind = Kind.HTTP, client: str = "192.0.2.7") -> Work:
        """Work arrives."""
        return self._process.begin(kind, client=client, method=method, target=target)

    def end(self, work: Work, status: int = 200, ended: Ended = Ended.WELL) -> None:
        """It ends, and is counted."""
        self._process.end(work, ended)
        self.meter.exchange(work, status, self.now() - work.started_at, completed=ended is Ended.WELL)


def view(config: Config, *, healthy: bool, reason: str = "accepts connections") -> UpstreamView:
    """The first route's."""
    route = config.routes[0]
    return UpstreamView(
        listen=str(route.listen),
        address=str(route.upstream),
        protocol=route.protocol,
        reachable=healthy,
        healthy=healthy,
        reason=reason,
    )
