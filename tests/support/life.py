"""How does a process live from start to exit? The drain machine with a clock, and something to do, for tests.

It plays the supervisor's part: facts in, directives out until none come, the timer at `wake_at`. Every rule that holds
in all lives is checked on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Kind, Ledger, Work
from drainproxy.drain.machine import DrainMachine, Enter, Exit, Finish
from drainproxy.drain.phase import NEXT, Outcome, Phase, State, Trigger

if TYPE_CHECKING:
    from drainproxy.drain.machine import Directive


@dataclass(frozen=True)
class Happened:
    """One directive, when it came."""

    at: float
    directive: Directive


class Life:
    """A process. `now` is its clock; the app is up from the start unless told otherwise."""

    def __init__(self, *, up: bool = True, **options: Any) -> None:
        self.config = Config(**options)
        self.ledger = Ledger()
        self.machine = DrainMachine(self.config, self.ledger)
        self.now = 1000.0
        self.happened: list[Happened] = []
        self.exited: tuple[float, int] | None = None
        self.open: list[Work] = []
        self.heads = 0
        self.deadline_at: float | None = None
        self.settling = True
        if up:
            self.app(up=True)

    # --- facts --------------------------------------------------------------------------------------------------------

    def app(self, *, up: bool, healthy: bool | None = None, gate: str | None = None) -> Life:
        """The app was looked at."""
        self.machine.upstream(reachable=up, healthy=up if healthy is None else healthy, gate=gate)
        return self.settle()

    def drain(self, trigger: Trigger = Trigger.HTTP) -> Life:
        """`/drain`, or the command."""
        self.machine.drain(trigger, self.now)
        return self.settle()

    def sigterm(self) -> Life:
        """SIGTERM."""
        self.machine.terminate(self.now)
        return self.settle()

    def sigint(self) -> Life:
        """SIGINT."""
        self.machine.interrupt(self.now)
        return self.settle()

    def sigquit(self) -> Life:
        """SIGQUIT."""
        self.machine.quit()
        return self.settle()

    def resume(self) -> bool:
        """By hand: whether it was allowed."""
        allowed = self.machine.resume()
        self.settle()
        return allowed

    def scraped(self) -> Life:
        """`/metrics` was read."""
        self.machine.scraped()
        return self.settle()

    def begin(self, kind: Kind = Kind.HTTP) -> Work:
        """Work arrives."""
        work = Work(kind, "client")
        self.open.append(work)
        self.ledger.enter(work, self.now)
        return work

    def end(self, work: Work, *, completed: bool = True) -> Life:
        """Work ends."""
        self.open.remove(work)
        self.ledger.leave(work, completed=completed)
        return self.settle()

    def half_a_head(self) -> Life:
        """Part of a request's head has come."""
        self.heads += 1
        self.ledger.head_begun()
        return self.settle()

    def rest_of_a_head(self) -> Life:
        """The rest has come, or never will."""
        self.heads -= 1
        self.ledger.head_ended()
        return self.settle()

    def visit(self) -> Life:
        """A request that comes and goes at once."""
        return self.end(self.begin())

    # --- time ---------------------------------------------------------------------------------------------------------

    def after(self, seconds: float) -> Life:
        """Let time pass, with the timer at work."""
        until = self.now + seconds
        while self.exited is None:
            wake_at = self.machine.wake_at()
            if wake_at is None or wake_at > until:
                break
            assert wake_at > self.now, f"a timer in the past: {wake_at} at {self.now}, {self.machine.phase}"
            self.now = wake_at
            self.settle()
        if self.exited is None:
            self.now = until
            self.settle()
        return self

    def settle(self) -> Life:
        """Carry out what is due, until nothing is."""
        if not self.settling:
            return self
        for _ in range(10):
            directives = self.machine.advance(self.now)
            if self.exited is not None or not directives:
                self._check_timer()
                return self
            for directive in directives:
                self._carry_out(directive)
        raise AssertionError(f"no end of directives in {self.machine.phase}: {self.happened[-10:]}")

    def _check_timer(self) -> None:
        wake_at = self.machine.wake_at()
        assert self.exited is not None or wake_at is None or wake_at > self.now, f"would spin in {self.machine.phase}"
        schedule = self.machine.schedule
        if schedule is None:
            self.deadline_at = None
            return
        assert self.deadline_at is None or schedule.deadline_at <= self.deadline_at, "the deadline has moved later"
        self.deadline_at = schedule.deadline_at

    def _carry_out(self, directive: Directive) -> None:
        before = self.phases[-1]
        self.happened.append(Happened(self.now, directive))
        match directive:
            case Enter(phase):
                assert phase in NEXT[before], f"{phase} after {before}"
                assert self.machine.phase is self.ledger.phase is phase
                if phase is Phase.FORCING:
                    for work in self.open:
                        self.ledger.leave(work, completed=False)
                    self.open.clear()
            case Finish(outcome=Outcome.RESUMED):
                self.ledger.end()
            case Exit(code):
                self.exited = (self.now, code)

    # --- what has happened --------------------------------------------------------------------------------------------

    def is_in(self, phase: Phase) -> bool:
        """Whether this is the phase."""
        return self.machine.phase is phase

    def shows(self, state: State) -> bool:
        """Whether this is the state."""
        return self.machine.state is state

    def outcome(self) -> Outcome | None:
        """How the last drain ended; None while one runs, and before the first."""
        return self.machine.outcome

    def ending(self) -> tuple[float, int] | None:
        """When the process has ended, and with what code."""
        return self.exited

    def has_exited(self) -> bool:
        """Whether the process has ended."""
        return self.exited is not None

    @property
    def phases(self) -> list[Phase]:
        """Every phase so far."""
        return [
            Phase.SERVING,
            *(each.directive.phase for each in self.happened if isinstance(each.directive, Enter)),
        ]

    @property
    def finishes(self) -> list[Finish]:
        """Every end of a drain so far."""
        return [each.directive for each in self.happened if isinstance(each.directive, Finish)]

    def entered(self, phase: Phase) -> float:
        """When this phase began last."""
        return [each.at for each in self.happened if each.directive == Enter(phase)][-1]
