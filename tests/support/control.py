"""A process for the admin port to look at: the real machine and ledger, a clock that tests turn, no sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Kind, Ledger, Work
from drainproxy.drain.machine import DrainMachine, Exit, Finish
from drainproxy.drain.phase import Outcome, Phase
from drainproxy.observe.metrics import Meter
from drainproxy.observe.status import ConnectionCounts, Summary, UpstreamView, drain_summary

if TYPE_CHECKING:
    from drainproxy.drain.phase import Trigger

EPOCH = 1_800_000_000.0


class ScriptedControl:
    """See Control. Time stands still until `tick`."""

    def __init__(self, config: Config | None = None, *, ready: bool = True) -> None:
        self.config = config or Config()
        self.ledger = Ledger()
        self.machine = DrainMachine(self.config, self.ledger)
        self.meter = Meter()
        self.since = EPOCH
        self.last_drain: Summary | None = None
        self.scrapes = 0
        self.counts = ConnectionCounts(client=0, upstream_idle=0, upstream_busy=0)
        self.views = [view(self.config, healthy=ready)]
        self._now = 1000.0
        self._ended = asyncio.Event()
        self._finish: Finish | None = None
        if ready:
            self.machine.upstream(reachable=True, healthy=True, gate=None)

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return EPOCH + self._now

    def upstreams(self) -> list[UpstreamView]:
        return self.views

    def connections(self) -> ConnectionCounts:
        return self.counts

    def drain(self, trigger: Trigger) -> None:
        self.machine.drain(trigger, self._now)
        self._advance()

    async def finished(self) -> Finish:
        await self._ended.wait()
        assert self._finish is not None
        return self._finish

    def resume(self) -> bool:
        allowed = self.machine.resume()
        self._advance()
        return allowed

    def terminate(self) -> None:
        self.machine.terminate(self._now)
        self._advance()

    def scraped(self) -> None:
        self.scrapes += 1

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._advance()

    def wait(self, seconds: int) -> None:
        """Let time pass, second by second."""
        for _ in range(seconds):
            self.tick(1)

    def open(self, target: str = "/", method: str = "GET", kind: Kind = Kind.HTTP, client: str = "192.0.2.7") -> Work:
        """Work arrives."""
        work = Work(kind, client)
        work.method, work.target = method, target
        self.ledger.enter(work, self._now)
        return work

    def end(self, work: Work, status: int = 200, *, completed: bool = True) -> None:
        """It ends, and is counted."""
        self.ledger.leave(work, completed=completed)
        self.meter.exchange(work, status, self._now - work.started_at, completed=completed)
        self._advance()

    def _advance(self) -> None:
        while directives := self.machine.advance(self._now):
            for directive in directives:
                if isinstance(directive, Exit):
                    return
                if isinstance(directive, Finish):
                    self._finished(directive)
                elif directive.phase is Phase.PROPAGATING:
                    self._ended.clear()
                elif directive.phase is Phase.FORCING:
                    for work in list(self.ledger.oldest(1000)):
                        self.ledger.leave(work, completed=False)

    def _finished(self, finish: Finish) -> None:
        self.meter.drain_finished(finish.trigger, finish.outcome, finish.duration_s)
        self.last_drain = drain_summary(self, finish)
        if finish.outcome is Outcome.RESUMED:
            self.ledger.end()
        self._finish = finish
        self._ended.set()


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
