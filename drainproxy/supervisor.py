"""Who carries out what the drain machine decides? This one place: facts in, directives out, one timer.

Signals, admin requests, health checks and the ledger bring facts; the machine thinks; each directive becomes an effect
here and nowhere else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from drainproxy.drain.announcement import Occasion
from drainproxy.drain.machine import Ask, CallBound, Divert, Enter, Exit, Finish, LastCall, LetGo
from drainproxy.drain.phase import Outcome, Phase, State, Trigger
from drainproxy.net.health import gate_reason
from drainproxy.process.keeper import APP_ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drainproxy.drain.announcement import Told
    from drainproxy.drain.machine import Directive
    from drainproxy.drain.release import Answer
    from drainproxy.drain.turns import Turns
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.health import Health
    from drainproxy.observe.log import Log
    from drainproxy.observe.meter import Meter
    from drainproxy.observe.observer import DrainObserver
    from drainproxy.view import ProcessView, RouteAtWork


@dataclass(frozen=True, slots=True)
class Outside:
    """What the supervisor reaches beyond its own parts."""

    stop_app: Callable[[], None]
    """Called, perhaps several times, once the app may stop."""
    tell: Callable[[Occasion], None]
    """Other discovery is to be told."""
    drains: DrainObserver
    release: Callable[[], object]
    """Requests that are held by hand go on: a drain waits for them."""


class Supervisor:
    """Runs the drain machine. What the admin port may do with the process: see admin.control.Control."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        view: ProcessView,
        routes: Sequence[RouteAtWork],
        *,
        turns: Turns[ClientConnection],
        meter: Meter,
        log: Log,
        outside: Outside,
    ) -> None:
        self.exit_code: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._view = view
        self._config = view.config
        self._machine = view.machine
        self._ledger = view.ledger
        self._routes = routes
        self._turns = turns
        self._meter = meter
        self._log = log
        self._outside = outside
        self._was_ready = False
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done once the state has been `ready`."""
        self.pass_on: Callable[[Trigger], None] = _to_nobody
        self._finished: asyncio.Future[Finish] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._state = self._machine.state
        self._advance_soon = False
        self._noted = [_what_is_told(at_work.monitor.health) for at_work in routes]
        self._ledger.on_idle = self._turns.on_sooner = self._soon

    def drain(self, trigger: Trigger) -> None:
        """Begin the drain, or join the one that runs. Where another process is in service, it is asked to drain."""
        if self._machine.handed_over:
            self.pass_on(trigger)
        self._machine.drain(trigger, self._loop.time())
        self._advance()

    def resume(self) -> bool:
        """Call the drain off. False: SIGTERM was received, the process will end."""
        allowed = self._machine.resume()
        self._advance()
        return allowed

    async def finished(self) -> Finish:
        """How the drain that runs, or is over, ended: for all who wait at the same time."""
        return await asyncio.shield(self._finished)

    def terminate(self) -> None:
        """SIGTERM."""
        self._log.info("SIGTERM", again=self._machine.terminating_at is not None)
        self._machine.terminate(self._loop.time())
        self._look_often()
        self._advance()

    def interrupt(self) -> None:
        """SIGINT."""
        self._log.info("SIGINT")
        self._machine.interrupt(self._loop.time())
        self._look_often()
        self._advance()

    def quit(self) -> None:
        """SIGQUIT."""
        self._log.info("SIGQUIT")
        self._machine.quit()
        self._advance()

    def hand_over(self) -> None:
        """A new generation is in service."""
        self._machine.hand_over(self._loop.time())
        self._advance()

    def take_back(self) -> bool:
        """It has ended. False: so will this process."""
        allowed = self._machine.take_back()
        self._advance()
        return allowed

    def scraped(self) -> None:
        """`/metrics` was read."""
        self._machine.scraped(self._loop.time())
        self._soon()

    def saw(self, at_work: RouteAtWork, look: Health) -> None:
        """The monitor of a route has looked at its upstream. Gone means: every route's upstream is."""
        at_work.listener.app_seen(reachable=look.reachable)
        machine, looks = self._machine, [each.monitor.health for each in self._routes]
        machine.upstream(
            reachable=any(look.reachable for look in looks),
            healthy=all(look.healthy for look in looks),
            gate=gate_reason(self._config.ready_gate),
        )
        self._note_apps()
        if machine.answered_once and not machine.app_was_let_go and machine.terminating_at is None:
            for each in self._routes:
                each.monitor.calm()
        self._advance()

    def answered(self, route: int, answer: Answer) -> None:
        """Somebody has answered at the successor of this route, or nobody."""
        self._machine.answered(route, answer, self._loop.time())
        self._advance()

    def told(self, told: Told) -> None:
        """Other discovery was told, or could not be."""
        write = self._log.info if told.error is None else self._log.error
        write(f"on-{told.occasion.value}", attempts=told.attempts, took_s=told.took_s, error=told.error)
        self._meter.told(told)
        self._view.told[told.occasion] = told
        if told.occasion is Occasion.DRAIN:
            self._machine.told(self._loop.time())
            self._advance()

    def app_ended(self, code: int) -> None:
        """The app was our child, and has ended. Unless it was told to, so do we, with its exit code."""
        self._log.info("app ended", exit_code=None if code == APP_ENDED else code)
        if not self._machine.app_may_stop:
            self._exit(code)

    def conclude(self) -> None:
        """All connections have ended. What came after the end of the drain was not in its summary: tell it now."""
        summary = self._view.summary_by_now()
        if summary is None:
            return
        write = self._log.warning if summary["lost"] else self._log.info
        write("after the drain", **summary)
        self._log.termination(summary)

    def _soon(self) -> None:
        """Think again once the present callback is through."""
        if not self._advance_soon:
            self._advance_soon = True
            self._loop.call_soon(self._advance)

    def _advance(self) -> None:
        self._advance_soon = False
        while directives := self._machine.advance(self._loop.time()):
            for directive in directives:
                self._carry_out(directive)
            if isinstance(directives[-1], Exit):
                return
        before_floor = self._machine.phase is Phase.PROPAGATING
        for connection in self._turns.due(self._loop.time()):
            if connection.bound or not before_floor:  # else the app can do without: its client may be about to ask
                connection.wind_down()
        if self._machine.app_may_stop:
            self._outside.stop_app()
        self._note_state()
        self._note_expectation()
        self._arm()

    def _carry_out(self, directive: Directive) -> None:
        match directive:
            case Enter(phase):
                self._enter(phase)
            case LastCall():
                self._last_call()
            case Ask(route):
                self._routes[route].listener.ask_successor(partial(self.answered, route))
            case Divert(on):
                self._divert(on=on)
            case CallBound():
                self._last_call(bound_only=True)
            case LetGo(finish):
                self._let_go(finish)
            case Finish() as finish:
                self._finish(finish)
            case Exit(code):
                self._exit(code)

    def _enter(self, phase: Phase) -> None:
        if phase is Phase.PROPAGATING:
            self._outside.release()
            self._view.told.pop(Occasion.DRAIN, None)
            if not self._machine.handed_over:  # the port is served as ever: others need not know
                self._outside.tell(Occasion.DRAIN)
        self._outside.drains.entered(phase)
        self._log.info("phase", phase=phase.value, in_flight=sum(self._ledger.count().values()))
        for at_work in self._routes:
            at_work.listener.enter(phase)
        match phase:
            case Phase.SERVING:
                self._turns.clear()
                self._outside.tell(Occasion.RESUME)
            case Phase.PROPAGATING if self._finished.done():
                self._finished = self._loop.create_future()
            case Phase.FINISHING:
                self._begin_turns()
            case Phase.DRAINED:
                self._ask_all_to_go()
                self._look_often()

    def _divert(self, *, on: bool) -> None:
        """What comes from now on goes to siblings, or to the app again. Who has the app's ear is asked to go."""
        self._log.info("new requests go to siblings" if on else "new requests go to the app")
        for at_work in self._routes:
            at_work.listener.divert(on=on)
        if on and self._machine.phase is Phase.PROPAGATING:
            self._begin_turns(bound_only=True)

    def _let_go(self, finish: Finish) -> None:
        """The app may stop: answer all who wait. The drain goes on, and its summary follows."""
        summary = self._view.app_is_let_go(finish)
        self._log.info("app may stop", **summary)
        self._look_often()
        if not self._finished.done():
            self._finished.set_result(finish)

    def _begin_turns(self, *, bound_only: bool = False) -> None:
        """Every connection gets its turn, so that their clients do not all reconnect at once."""
        schedule = self._machine.schedule
        assert schedule is not None, "turns are taken in a drain"
        idle: list[ClientConnection] = []
        busy: list[ClientConnection] = []
        for connection in self._connections():
            if connection.bound or not bound_only:
                (idle if connection.session.idle else busy).append(connection)
        window_s = self._config.close_spread_s
        self._turns.begin(idle, busy, window_s=window_s, schedule=schedule, now=self._loop.time())

    def _last_call(self, *, bound_only: bool = False) -> None:
        """Ask everybody; the call itself counts as answered when what waits in the sockets now has been read.

        The loop reads in the next turn at the latest, before the one in which the answer is thought about.
        """
        self._ask_all_to_go(bound_only=bound_only)
        self._ledger.farewell_begun()
        self._loop.call_soon(self._ledger.farewell_ended)

    def _ask_all_to_go(self, *, bound_only: bool = False) -> None:
        """The drain is over before everyone had a turn, or was idle at it: now, before the app is told to stop."""
        for connection in list(self._connections()):
            if connection.bound or not bound_only:
                connection.wind_down()

    def _connections(self) -> Iterator[ClientConnection]:
        return (connection for at_work in self._routes for connection in at_work.listener.connections)

    def _finish(self, finish: Finish) -> None:
        """One log line, what `kubectl describe pod` shows, and an answer to all who wait."""
        self._meter.drain_finished(finish.trigger, finish.outcome, finish.duration_s)
        summary = self._view.drain_has_ended(finish)
        self._log.info("drain finished", **summary)
        if finish.trigger is not Trigger.UPGRADE:  # the container goes on
            self._log.termination(summary)
        self._outside.drains.finished(summary)
        if finish.outcome is Outcome.RESUMED:
            self._ledger.end()
        if not self._finished.done():
            self._finished.set_result(finish)

    def _exit(self, code: int) -> None:
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    def _look_often(self) -> None:
        for at_work in self._routes:
            at_work.monitor.hurry()

    def _note_expectation(self) -> None:
        """Requests are held for an app that refuses connections, unless it is not coming back."""
        expected = not (self._machine.app_gone or self._machine.app_was_let_go)
        for at_work in self._routes:
            at_work.listener.expect_app(expected=expected)

    def _note_apps(self) -> None:
        """Why an app cannot be reached, or is not well: once, until something changes."""
        machine = self._machine
        for at_work, noted in zip(self._routes, self._noted, strict=True):
            health = at_work.monitor.health
            if _what_is_told(health) == noted:
                continue
            expected = not machine.answered_once or machine.app_was_let_go
            write = self._log.info if health.healthy or expected else self._log.warning
            state = "healthy" if health.healthy else "not healthy" if health.reachable else "not reachable"
            write(f"app is {state}", upstream=str(at_work.monitor.address), reason=health.reason)
        self._noted = [_what_is_told(at_work.monitor.health) for at_work in self._routes]

    def _note_state(self) -> None:
        state = self._machine.state
        if state is not self._state:
            self._log.info("state", state=state.value, before=self._state.value)
            self._state = state
            if state is State.READY and not self.ready.done():
                self.ready.set_result(None)
            self._view.state_has_changed()
        if state is State.READY and not self._was_ready:
            self._was_ready = True
            self._outside.tell(Occasion.READY)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakes = [at for at in (self._machine.wake_at(), self._turns.wake_at()) if at is not None]
        if wakes:
            self._timer = self._loop.call_at(min(wakes), self._advance)


def _to_nobody(_: Trigger) -> None:
    raise AssertionError("a process that hands over says where to pass a drain on to")


def _what_is_told(health: Health) -> tuple[bool, bool, str]:
    return health.reachable, health.healthy, "" if health.healthy else health.reason
