"""How does a process live from start to exit? The drain machine under its supervisor, with a clock that tests turn.

Every rule that holds in all lives is checked on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.machine import DrainMachine, Enter, Exit, Finish
from drainproxy.drain.phase import NEXT, Phase, Trigger
from tests.support.process import ScriptedProcess

if TYPE_CHECKING:
    from drainproxy.drain.ledger import Ledger, Work
    from drainproxy.drain.machine import Directive
    from drainproxy.drain.phase import Outcome, State
    from drainproxy.drain.release import Answer


MOST_STEPS = 10
"""Directives for one fact, at most: more, and the machine would never come to rest."""


@dataclass(frozen=True)
class Happened:
    """One directive, when it came."""

    at: float
    directive: Directive


class WatchedMachine(DrainMachine):
    """The machine, and what it directs; each directive must be one that may come now."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        super().__init__(config, ledger)
        self.happened: list[Happened] = []
        self._steps = (0.0, 0)

    def advance(self, now: float) -> list[Directive]:
        """See DrainMachine."""
        directives = super().advance(now)
        self._steps = (now, self._steps[1] + len(directives) if self._steps[0] == now and directives else 0)
        assert self._steps[1] <= MOST_STEPS, f"no end of directives in {self.phase}: {self.happened[-10:]}"
        for directive in directives:
            if isinstance(directive, Enter):
                assert directive.phase in NEXT[self.phases[-1]], f"{directive.phase} after {self.phases[-1]}"
                assert self.phase is directive.phase
            self.happened.append(Happened(now, directive))
        return directives

    @property
    def phases(self) -> list[Phase]:
        """Every phase so far."""
        return [
            Phase.SERVING,
            *(each.directive.phase for each in self.happened if isinstance(each.directive, Enter)),
        ]


class Life:
    """A process. `now` is its clock; the app is up from the start unless told otherwise."""

    def __init__(self, *, up: bool = True, **options: Any) -> None:
        self.config = Config(**options)
        self.process = ScriptedProcess(self.config, machine=WatchedMachine)
        self.machine = cast("WatchedMachine", self.process.machine)
        self.ledger = self.process.ledger
        self.heads = 0
        self.deadline_at: float | None = None
        self.settling = True
        if up:
            self.app(up=True)

    @property
    def now(self) -> float:
        """The clock."""
        return self.process.clock.now

    @now.setter
    def now(self, now: float) -> None:
        self.process.clock.now = now

    @property
    def open(self) -> list[Work]:
        """Work in flight."""
        return self.process.routes[0].listener.open

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

    def answers(self, *answers: Answer, route: int = 0) -> Life:
        """The successor was asked, and this is who was there, one after the other."""
        for answer in answers:
            tell = self.process.routes[route].listener.asked.pop()
            tell(answer)
            self.settle()
        return self

    def resume(self) -> bool:
        """By hand: whether it was allowed."""
        allowed = self.machine.resume()
        self.settle()
        return allowed

    def scraped(self) -> Life:
        """`/metrics` was read."""
        self.machine.scraped(self.now)
        return self.settle()

    def begin(self, kind: Kind = Kind.HTTP) -> Work:
        """Work arrives."""
        return self.process.begin(kind)

    def end(self, work: Work, *, completed: bool = True) -> Life:
        """Work ends."""
        self.open.remove(work)
        self.ledger.leave(work, self.now, Ended.WELL if completed else Ended.BROKEN)
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
        self.process.clock.advance(seconds)
        return self.settle()

    def settle(self) -> Life:
        """Carry out what is due, until nothing is."""
        if self.settling:
            self.ledger.on_idle()  # any fact: the supervisor thinks again
            self.process.clock.run()
            self._check_timer()
        return self

    def _check_timer(self) -> None:
        wake_at = self.machine.wake_at()
        assert self.exited is not None or wake_at is None or wake_at > self.now, f"would spin in {self.machine.phase}"
        schedule = self.machine.schedule
        if schedule is None:
            self.deadline_at = None
            return
        assert self.deadline_at is None or schedule.deadline_at <= self.deadline_at, "the deadline has moved later"
        self.deadline_at = schedule.deadline_at

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

    @property
    def exited(self) -> tuple[float, int] | None:
        """When the process has ended, and with what code."""
        exits = [(each.at, each.directive.code) for each in self.happened if isinstance(each.directive, Exit)]
        return exits[0] if exits else None

    def ending(self) -> tuple[float, int] | None:
        """When the process has ended, and with what code."""
        return self.exited

    def has_exited(self) -> bool:
        """Whether the process has ended."""
        return self.exited is not None

    @property
    def happened(self) -> list[Happened]:
        """Every directive so far."""
        return self.machine.happened

    @property
    def phases(self) -> list[Phase]:
        """Every phase so far."""
        return self.machine.phases

    @property
    def finishes(self) -> list[Finish]:
        """Every end of a drain so far."""
        return [each.directive for each in self.happened if isinstance(each.directive, Finish)]

    def entered(self, phase: Phase) -> float:
        """When this phase began last."""
        return [each.at for each in self.happened if each.directive == Enter(phase)][-1]
