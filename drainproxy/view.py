"""What do the admin port, the metrics and the service manager see of the process? Facts to read, nothing to change."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.drain.handover import HandedOver
from drainproxy.drain.phase import DRAINING, Phase
from drainproxy.observe.documents import ConnectionCounts, UpstreamView, brief, drain_summary, in_flight
from drainproxy.process.notify import Report

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from drainproxy.config.options import Config
    from drainproxy.config.values import Route
    from drainproxy.drain.announcement import Occasion, Told
    from drainproxy.drain.ledger import Ledger
    from drainproxy.drain.machine import DrainMachine, Finish
    from drainproxy.net.health import HealthMonitor
    from drainproxy.net.listener import Listener
    from drainproxy.net.pool import ConnectionPool
    from drainproxy.observe.documents import Summary


@dataclass(frozen=True, slots=True)
class RouteAtWork:
    """What the process has for each route."""

    route: Route
    listener: Listener
    pool: ConnectionPool
    monitor: HealthMonitor


class ProcessView:
    """The process as `/status`, probes, metrics and the drain's summary see it. See observe.documents.Process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        machine: DrainMachine,
        ledger: Ledger,
        routes: Sequence[RouteAtWork],
        handed: HandedOver | None = None,
    ) -> None:
        self.config = config
        self.machine = machine
        self.ledger = ledger
        self.handed = handed or HandedOver(lambda: 0)
        self.last_drain: Summary | None = None
        self._finish: Finish | None = None
        self.generation = 1
        self.upgraded_at: float | None = None
        self.children: Callable[[], list[dict[str, object]]] = list
        self.hold: Callable[[], dict[str, object] | None] = _nothing_held
        self.told: dict[Occasion, Told] = {}
        self._loop = loop
        self._routes = routes
        self.since = self.wall()

    def now(self) -> float:
        """The loop's clock, seconds."""
        return self._loop.time()

    def wall(self) -> float:
        """Unix time, seconds."""
        return time.time()

    def upstreams(self) -> list[UpstreamView]:
        """What is known of the app, a route each."""
        return [
            UpstreamView(
                listen=str(at_work.route.listen),
                address=str(at_work.monitor.address),
                protocol=at_work.route.protocol,
                reachable=at_work.monitor.health.reachable,
                healthy=at_work.monitor.health.healthy,
                reason=at_work.monitor.health.reason,
            )
            for at_work in self._routes
        ]

    def connections(self) -> ConnectionCounts:
        """Open connections. Brings the byte counts of the meter up to date."""
        for at_work in self._routes:
            at_work.listener.report_all()
        return ConnectionCounts(
            client=sum(len(at_work.listener.connections) for at_work in self._routes),
            upstream_idle=sum(at_work.pool.idle for at_work in self._routes),
            upstream_busy=sum(at_work.pool.busy for at_work in self._routes),
            handshakes=sum(at_work.listener.handshakes for at_work in self._routes),
        )

    def report(self) -> Report:
        """For the service manager: on one line, the state and what is waited for."""
        machine, now = self.machine, self.now()
        if machine.phase in DRAINING and machine.schedule is not None:
            open_work = ", ".join(f"{count} {kind}" for kind, count in in_flight(self.ledger).items() if count)
            left = brief(max(0.0, machine.schedule.deadline_at - now))
            status = f"{machine.phase.value}: in flight {open_work or 'nothing'}; deadline in {left}"
        else:
            unwell = next((each.reason for each in self.upstreams() if not each.healthy), None)
            status = machine.state.value + (f": {unwell}" if unwell else "")
        return Report(status, None if machine.terminating_at is None else machine.patience_s(now))

    def state_has_changed(self) -> None:
        """The supervisor says so."""
        self.since = self.wall()

    def app_is_let_go(self, finish: Finish) -> Summary:
        """The supervisor says so; what to tell those who have waited for it."""
        self.last_drain = drain_summary(self, finish)
        return self.last_drain

    def drain_has_ended(self, finish: Finish) -> Summary:
        """The supervisor says so; the summary of that drain, before its counts are put away."""
        self._finish = finish
        self.last_drain = drain_summary(self, finish)
        return self.last_drain

    def summary_by_now(self) -> Summary | None:
        """That of the drain that is over, with what came after its end; None: nothing has come, or no drain is over."""
        tally, finish = self.ledger.tally, self._finish
        if self.machine.drained_at is None or finish is None or tally is None:
            return None
        if not tally.late[Phase.DRAINED] and not tally.lost.count:
            return None
        self.last_drain = drain_summary(self, finish)
        return self.last_drain


def _nothing_held() -> None:
    return None
