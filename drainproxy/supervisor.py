"""Who carries out what the drain machine decides? This one place: facts in, directives out, one timer.

Signals, admin requests, health checks and the ledger bring facts; the machine thinks; each directive becomes an effect
here and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from drainproxy.config.options import MARGIN_S
from drainproxy.drain.machine import DrainMachine, Enter, Exit, Finish
from drainproxy.drain.phase import Outcome, Phase, State
from drainproxy.net.health import HealthMonitor, gate_reason
from drainproxy.observe.status import ConnectionCounts, UpstreamView, drain_summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.options import Config
    from drainproxy.drain.ledger import Ledger
    from drainproxy.drain.machine import Directive
    from drainproxy.drain.phase import Trigger
    from drainproxy.drain.turns import Turns
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.health import Health
    from drainproxy.net.listener import Listener
    from drainproxy.observe.log import Log
    from drainproxy.observe.metrics import Meter
    from drainproxy.observe.status import Summary


class Supervisor:
    """Runs the drain machine. Also what the admin port sees of the process (admin.control.Control)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        *,
        ledger: Ledger,
        turns: Turns[ClientConnection],
        meter: Meter,
        log: Log,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.machine = DrainMachine(config, ledger)
        self.listeners: list[Listener] = []
        self.monitors: list[HealthMonitor] = []
        self.since = self.wall()
        self.last_drain: Summary | None = None
        self.stop_app: Callable[[], None] = _the_kubelet_does_it
        self.exit_code: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._turns = turns
        self._meter = meter
        self._log = log
        self._finished: asyncio.Future[Finish] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._state = State.STARTING
        self._advance_soon = False
        ledger.on_idle = turns.on_sooner = self._soon

    # --- facts --------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The loop's clock, seconds."""
        return self._loop.time()

    def wall(self) -> float:
        """Unix time, seconds."""
        return time.time()

    def drain(self, trigger: Trigger) -> None:
        """Begin the drain, or join the one that runs."""
        self.machine.drain(trigger, self.now())
        self._advance()

    def resume(self) -> bool:
        """Call the drain off. False: SIGTERM was received, the process will end."""
        allowed = self.machine.resume()
        self._advance()
        return allowed

    def terminate(self) -> None:
        """SIGTERM."""
        self._log.info("SIGTERM", again=self.machine.terminating_at is not None)
        self.machine.terminate(self.now())
        self._look_often()
        self._advance()

    def interrupt(self) -> None:
        """SIGINT."""
        self._log.info("SIGINT")
        self.machine.interrupt(self.now())
        self._look_often()
        self._advance()

    def quit(self) -> None:
        """SIGQUIT."""
        self._log.info("SIGQUIT")
        self.machine.quit()
        self._advance()

    def scraped(self) -> None:
        """`/metrics` was read."""
        self.machine.scraped()
        self._soon()

    def saw(self, _: Health) -> None:
        """One of the monitors has looked at its upstream. Gone means: every route's upstream is."""
        looks = [monitor.health for monitor in self.monitors]
        self.machine.upstream(
            reachable=any(look.reachable for look in looks),
            healthy=all(look.healthy for look in looks),
            gate=gate_reason(self.config.ready_gate),
        )
        if (
            self.machine.answered_once
            and self.machine.phase is not Phase.DRAINED
            and self.machine.terminating_at is None
        ):
            for monitor in self.monitors:
                monitor.calm()
        self._advance()

    def app_ended(self, code: int) -> None:
        """The app was our child, and has ended. Unless it was told to, so do we, with its exit code."""
        self._log.info("app ended", exit_code=code)
        if not self.machine.app_may_stop and not self.exit_code.done():
            self.exit_code.set_result(code)

    # --- for the admin port -------------------------------------------------------------------------------------------

    async def finished(self) -> Finish:
        """How the drain that runs, or is over, ended: for all who wait at the same time."""
        return await asyncio.shield(self._finished)

    def upstreams(self) -> list[UpstreamView]:
        """What is known of the app, a route each."""
        return [
            UpstreamView(
                listen=str(listener.route.listen),
                address=str(listener.route.upstream),
                protocol=listener.route.protocol,
                reachable=monitor.health.reachable,
                healthy=monitor.health.healthy,
                reason=monitor.health.reason,
            )
            for listener, monitor in zip(self.listeners, self.monitors, strict=True)
        ]

    def connections(self) -> ConnectionCounts:
        """Open connections."""
        for listener in self.listeners:
            listener.report_all()
        return ConnectionCounts(
            client=sum(len(listener.connections) for listener in self.listeners),
            upstream_idle=sum(listener.pool.idle for listener in self.listeners),
            upstream_busy=sum(listener.pool.busy for listener in self.listeners),
        )

    def patience_s(self) -> float:
        """How long the end may wait for clients that still read: what is left of the grace period."""
        schedule = self.machine.schedule
        if schedule is None or self.machine.quitting:
            return 0.0
        return max(0.5, schedule.started_at + self.config.grace_period_s - MARGIN_S - self.now())

    # --- effects ------------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Think again once the present callback is through."""
        if not self._advance_soon:
            self._advance_soon = True
            self._loop.call_soon(self._advance)

    def _advance(self) -> None:
        self._advance_soon = False
        while directives := self.machine.advance(self.now()):
            for directive in directives:
                self._carry_out(directive)
            if isinstance(directives[-1], Exit):
                return
        for connection in self._turns.due(self.now()):
            connection.wind_down()
        if self.machine.app_may_stop:
            self.stop_app()
        self._note_state()
        self._arm()

    def _carry_out(self, directive: Directive) -> None:
        match directive:
            case Enter(phase):
                self._enter(phase)
            case Finish() as finish:
                self._finish(finish)
            case Exit(code):
                if not self.exit_code.done():
                    self.exit_code.set_result(code)

    def _enter(self, phase: Phase) -> None:
        self._log.info("phase", phase=phase.value, in_flight=sum(self.ledger.count().values()))
        for listener in self.listeners:
            listener.enter(phase)
        if phase is Phase.PROPAGATING and self._finished.done():
            self._finished = self._loop.create_future()
        if phase is Phase.SERVING:
            self._turns.clear()
        if phase is Phase.FINISHING:
            self._begin_turns()
        if phase is Phase.DRAINED:
            self._ask_the_rest_to_go()
            self._look_often()

    def _begin_turns(self) -> None:
        """Every connection gets its turn, so that their clients do not all reconnect at once."""
        schedule = self.machine.schedule
        assert schedule is not None, "turns are taken in a drain"
        connections = [connection for listener in self.listeners for connection in listener.connections]
        self._turns.begin(
            idle=[connection for connection in connections if connection.session.idle],
            busy=[connection for connection in connections if not connection.session.idle],
            window_s=self.config.close_spread_s,
            schedule=schedule,
            now=self.now(),
        )

    def _ask_the_rest_to_go(self) -> None:
        """The drain is over before everyone had a turn, or was idle at it: now, before the app is told to stop."""
        for listener in self.listeners:
            for connection in list(listener.connections):
                connection.wind_down()

    def _finish(self, finish: Finish) -> None:
        self._meter.drain_finished(finish.trigger, finish.outcome, finish.duration_s)
        self._write_summary(finish)
        if finish.outcome is Outcome.RESUMED:
            self.ledger.end()
        if not self._finished.done():
            self._finished.set_result(finish)

    def _write_summary(self, finish: Finish) -> None:
        """One log line, and what `kubectl describe pod` shows."""
        summary = self.last_drain = drain_summary(self, finish)
        self._log.info("drain finished", **summary)
        self._log.termination(summary)

    def _look_often(self) -> None:
        for monitor in self.monitors:
            monitor.hurry()

    def _note_state(self) -> None:
        state = self.machine.state
        if state is not self._state:
            self._log.info("state", state=state.value, before=self._state.value)
            self._state = state
            self.since = self.wall()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakes = [at for at in (self.machine.wake_at(), self._turns.wake_at()) if at is not None]
        if wakes:
            self._timer = self._loop.call_at(min(wakes), self._advance)


def _the_kubelet_does_it() -> None:
    """Who stops the app when it is not our child."""
