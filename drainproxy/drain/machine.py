"""What happens next? The one brain of the process: facts in with the time they became known, directives out.

The machine holds no timer, socket or log. Its owner tells it what happened, carries out the directives that `advance`
returns, and calls again at `wake_at`. However triggers, signals and resumes are ordered, there is one drain with one
deadline (Kubernetes: preStop time is part of the grace period).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from drainproxy.config.options import MARGIN_S
from drainproxy.config.values import AUTO
from drainproxy.drain.phase import DRAINING, NEXT, Outcome, Phase, State, Trigger
from drainproxy.drain.release import Answer, Release
from drainproxy.drain.schedule import FORCED_EXIT_S, Schedule
from drainproxy.drain.scrapes import Scrapes

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.drain.ledger import Ledger, Tally

END = {
    Outcome.CLEAN: "nothing was in flight, and no more requests arrived",
    Outcome.STILL_ARRIVING: "nothing was in flight, but requests still arrived",
    Outcome.FORCED: "the deadline passed with work in flight",
}
"""Why a drain ended, for people."""
LET_GO = "nothing is in flight in the app, and siblings answer what still arrives"
"""Why the app may stop before the drain has ended, for people."""

INTERRUPTED_EXIT_CODE = 130
QUIT_EXIT_CODE = 131
MOST_SCRAPE_WAIT_S = 30.0
"""What `final-scrape-wait auto` waits at most."""


@dataclass(frozen=True, slots=True)
class Enter:
    """Tell every session that this phase has begun. FORCING: they cut what they have, now."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class LastCall:
    """Ask every connection to go that was not asked yet: nothing is in flight, and traffic has stopped."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the successor of this route on a new connection who is there, and tell by `answered`."""

    route: int


@dataclass(frozen=True, slots=True)
class Divert:
    """Hand new requests and connections to siblings; or, if not `on`, to the app again."""

    on: bool


@dataclass(frozen=True, slots=True)
class CallBound:
    """Ask those connections to go that have a connection to the app to themselves: nothing is in flight there."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """The app may stop, though the drain goes on: answer all who wait."""

    finish: Finish


@dataclass(frozen=True, slots=True)
class Finish:
    """The drain is over: answer all who wait, write the summary."""

    outcome: Outcome
    why: str
    trigger: Trigger
    duration_s: float


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process."""

    code: int


Directive = Enter | LastCall | Ask | Divert | CallBound | LetGo | Finish | Exit


class DrainMachine:
    """The life of the process from `starting` to exit. `now` is the time on the caller's clock, in seconds."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self.phase = Phase.SERVING
        self.trigger: Trigger | None = None
        self.schedule: Schedule | None = None
        self.outcome: Outcome | None = None
        self.drained_at: float | None = None
        self.terminating_at: float | None = None
        self.healthy = False
        self.reachable = False
        self.answered_once = False
        self.gate: str | None = None
        self.handed_over = False
        self._hurried = False
        self._interrupted = False
        self._exit_code: int | None = None
        self._called_at: float | None = None
        self._arrivals_at_call = 0
        self.release: Release | None = None
        self.diverting = False
        self.let_go_at: float | None = None
        self._bound_called_at: float | None = None
        self._left_since_let_go = False
        self._scraped = False
        self._scrapes = Scrapes()
        self._scrape_interval_s: float | None = None
        self._calling_off: str | None = None

    def upstream(self, *, reachable: bool, healthy: bool, gate: str | None) -> None:
        """The app was looked at: `reachable` (a connect succeeds), `healthy` (its health check passes).

        `gate`: why the readiness gate is shut, None if it is open or there is none.
        """
        self.gate = gate
        self.reachable = reachable
        self.healthy = healthy
        self.answered_once |= healthy
        if self.app_was_let_go:
            if not reachable:
                self._left_since_let_go = True
            elif self._left_since_let_go and self._may_resume_by_itself:
                self._calling_off = "the app went away and came back: its container was restarted, and the Pod stays"

    def drain(self, trigger: Trigger, now: float) -> None:
        """Begin the drain, or join the one that runs."""
        if self.schedule is not None:
            return
        self.trigger = trigger
        self.schedule = Schedule.of(self._config, now)
        self.outcome = None
        self._called_at = self._bound_called_at = None
        early = self._config.release == "early" and trigger is not Trigger.UPGRADE  # the app stays, and so does the Pod
        if early and all(route.has_successor for route in self._config.routes):
            self.release = Release(len(self._config.routes), now)
        self._ledger.begin()

    def answered(self, route: int, answer: Answer, now: float) -> None:
        """Who has answered at the successor of this route."""
        if self.release is not None:
            self.release.answered(route, answer, now)

    def told(self, now: float) -> None:
        """Other discovery knows of the drain, or could not be told: the floor counts from here."""
        if self.schedule is not None and self.phase is Phase.PROPAGATING:
            told = self.schedule.told(self._config, now)
            self.schedule = told if self.let_go_at is None else told.patient()

    def terminate(self, now: float) -> None:
        """SIGTERM: the process will end. The second one skips floor and quiet."""
        if self.terminating_at is not None:
            self._hurry(now)
            return
        self.terminating_at = now
        self._calling_off = None
        self.drain(Trigger.SIGTERM, now)

    def hand_over(self, now: float) -> None:
        """Another process is in service: drain what is here, then end. Nobody need learn of it but who is connected."""
        self.handed_over = True
        self.drain(Trigger.UPGRADE, now)
        self.told(now)

    def take_back(self) -> bool:
        """That process has ended: serve again. False: this one was told to end as well, or has cut what it had."""
        if self.terminating_at is not None or Phase.SERVING not in NEXT[self.phase]:
            return False
        self.handed_over = False
        self._calling_off = "the new generation has ended"
        return True

    def interrupt(self, now: float) -> None:
        """SIGINT, a developer's Ctrl-C: as a second SIGTERM; again: exit at once."""
        if self._interrupted:
            self._exit_code = INTERRUPTED_EXIT_CODE
            return
        self._interrupted = True
        if self.terminating_at is None:
            self.terminating_at = now
            self._calling_off = None
        self.drain(Trigger.SIGINT, now)
        self._hurry(now)

    def quit(self) -> None:
        """SIGQUIT: exit at once."""
        self._exit_code = QUIT_EXIT_CODE

    @property
    def quitting(self) -> bool:
        """Told to exit at once."""
        return self._exit_code is not None

    def patience_s(self, now: float) -> float:
        """How long the end may wait for clients that still read: what is left of the grace period."""
        if self.schedule is None or self.quitting:
            return 0.0
        return max(0.5, self.schedule.started_at + self._config.grace_period_s - MARGIN_S - now)

    def resume(self) -> bool:
        """Call the drain off by hand. False: SIGTERM was received, the process will end."""
        if self.terminating_at is not None or self.handed_over:
            return False
        if self.schedule is not None:
            self._calling_off = "asked to resume"
        return True

    def scraped(self, now: float) -> None:
        """`/metrics` was read."""
        self._scrapes.note(now)
        self._scraped = True  # one before the end of the drain is forgotten there

    @property
    def state(self) -> State:
        """The word for the whole."""
        if self.phase is Phase.DRAINED:
            return State.DRAINED
        if self.phase in DRAINING:
            return State.DRAINING
        if self.healthy and self.gate is None:
            return State.READY
        return State.UNREADY if self.answered_once else State.STARTING

    @property
    def standing(self) -> Answer:
        """What is said of us when a sibling asks."""
        if self.state is State.READY:
            return Answer.READY
        return Answer.SERVING if self.reachable and not self.app_was_let_go else Answer.GONE

    @property
    def app_was_let_go(self) -> bool:
        """All who wait for the end of the drain have been told that the app may stop."""
        return self.phase is Phase.DRAINED or self.let_go_at is not None

    @property
    def app_may_stop(self) -> bool:
        """SIGTERM was received, and nothing is in flight in the app any more."""
        return self.app_was_let_go and self.terminating_at is not None

    @property
    def app_gone(self) -> bool:
        """SIGTERM was received and the app refuses connections: nothing that arrives can be served any more."""
        return self.terminating_at is not None and not self.reachable and not self.diverting

    def advance(self, now: float) -> list[Directive]:
        """Everything that is due. Carry the directives out in order, then call again until none come."""
        if self._exit_code is not None:
            return [Exit(self._exit_code)]
        if self._calling_off is not None and Phase.SERVING in NEXT[self.phase]:
            return self._call_off(now)
        if self.schedule is None:
            return []
        if self.phase is Phase.DRAINED:
            return self._after_drained(self.schedule, now)
        return self._forward(self.schedule, now) or self._let_go_early(self.schedule, now)

    def wake_at(self) -> float | None:
        """When `advance` has something to do even if nothing happens before; None: not by itself."""
        if self.schedule is None:
            return None
        wakes = (self._phase_wake_at(self.schedule), self._release_wake_at(self.schedule))
        return min((at for at in wakes if at is not None), default=None)

    def _phase_wake_at(self, schedule: Schedule) -> float | None:
        match self.phase:
            case Phase.SERVING | Phase.FORCING:
                return schedule.started_at
            case Phase.PROPAGATING:
                return self._floor_at(schedule)
            case Phase.FINISHING:
                return self._over_at(schedule) if self._ledger.idle else schedule.deadline_at
            case Phase.DRAINED:
                if self.terminating_at is not None:
                    return self._exit_at(schedule)
                return self._resume_at(schedule)

    def _release_wake_at(self, schedule: Schedule) -> float | None:
        if self.release is None or not self._may_let_go:
            return None
        if self.diverting and self._ledger.idle_here and self._bound_called_at is not None:
            return min(self._bound_called_at + schedule.quiet_period_s, self.release.ask_at() or inf)
        return self.release.ask_at()

    @property
    def _may_let_go(self) -> bool:
        return self.let_go_at is None and self.phase in (Phase.PROPAGATING, Phase.FINISHING)

    def _let_go_early(self, schedule: Schedule, now: float) -> list[Directive]:
        """The steps by which the app may stop before the drain has ended."""
        release = self.release
        if release is None or not self._may_let_go:
            return []
        if due := release.due(now):
            return [Ask(route) for route in due]
        if release.proven is not self.diverting:
            return [self._divert(on=release.proven)]
        return self._let_go(schedule, now) if self.diverting and self._ledger.idle_here else []

    def _let_go(self, schedule: Schedule, now: float) -> list[Directive]:
        """Nothing is in flight in the app: ask who has its ear to go, await that they know, tell who waits."""
        if self._bound_called_at is None:
            self._bound_called_at = now
            return [CallBound()]
        if self._ledger.farewells and now < self._bound_called_at + schedule.quiet_period_s:
            return []
        self.let_go_at = now
        self._left_since_let_go = not self.reachable
        self.schedule = schedule.patient()  # nobody waits for us any more: we need not leave clients that still send
        return [LetGo(self._ended(Outcome.CLEAN, LET_GO, now))]

    def _divert(self, *, on: bool) -> Divert:
        self.diverting = on
        self._bound_called_at = None
        return Divert(on)

    def _forward(self, schedule: Schedule, now: float) -> list[Directive]:
        match self.phase:
            case Phase.SERVING:
                return self._enter(Phase.PROPAGATING)
            case Phase.PROPAGATING if now >= self._floor_at(schedule):
                return self._enter(Phase.FINISHING)
            case Phase.FINISHING if self._ledger.idle and now >= self._over_at(schedule):
                must_call = now < schedule.deadline_at and self._must_call(schedule)
                return self._call(now) if must_call else self._finish(self._unforced_outcome(schedule, now), now)
            case Phase.FINISHING if now >= schedule.deadline_at:
                return self._enter(Phase.FORCING)
            case Phase.FORCING:  # sessions have cut everything; should one have failed to, time is bounded all the same
                return self._finish(Outcome.FORCED, now)
        return []

    def _unforced_outcome(self, schedule: Schedule, now: float) -> Outcome:
        """Clean means quiet: whoever was still sending will go on, and find nobody."""
        last = self._tally.last_arrival_at
        stopped = last is None or now >= last + schedule.quiet_period_s
        return Outcome.CLEAN if stopped and not self._ledger.arriving else Outcome.STILL_ARRIVING

    def _after_drained(self, schedule: Schedule, now: float) -> list[Directive]:
        if self.handed_over:  # the app stays, and who scrapes asks the new generation
            return [Exit(0)]
        if self.terminating_at is not None:
            return [Exit(0)] if now >= self._exit_at(schedule) else []
        resume_at = self._resume_at(schedule)
        if resume_at is not None and now >= resume_at:
            self._calling_off = (
                "the grace period has passed and the app is still running: this was not the end of the Pod"
            )
            return self._call_off(now)
        return []

    def _enter(self, phase: Phase) -> list[Directive]:
        assert phase in NEXT[self.phase], f"{self.phase} cannot be followed by {phase}"
        self.phase = self._ledger.phase = phase
        return [Enter(phase)]

    def _finish(self, outcome: Outcome, now: float) -> list[Directive]:
        self.outcome = outcome
        self.drained_at = now
        if self.let_go_at is None:
            self._left_since_let_go = not self.reachable
        self._scraped = False
        self._scrape_interval_s = self._scrapes.interval_s(now)
        return [*self._enter(Phase.DRAINED), self._ended(outcome, END[outcome], now)]

    def _ended(self, outcome: Outcome, why: str, now: float) -> Finish:
        assert self.schedule is not None, "what ends has begun"
        assert self.trigger is not None, "what ends has begun"
        return Finish(outcome, why, self.trigger, now - self.schedule.started_at)

    def _call_off(self, now: float) -> list[Directive]:
        why, self._calling_off = self._calling_off, None
        assert why is not None, "a drain is called off for a reason"
        directives = self._enter(Phase.SERVING)
        if self.diverting:
            directives.append(self._divert(on=False))
        directives.append(self._ended(Outcome.RESUMED, why, now))
        self.outcome = Outcome.RESUMED
        self.schedule = self.trigger = self.drained_at = self.let_go_at = self.release = None
        return directives

    def _hurry(self, now: float) -> None:
        self._hurried = True
        if self.schedule is not None:
            self.schedule = self.schedule.hurry(now)

    @property
    def _tally(self) -> Tally:
        tally = self._ledger.tally
        assert tally is not None, "a drain counts from its trigger on"
        return tally

    def _floor_at(self, schedule: Schedule) -> float:
        """Where nothing can be served, nobody needs the floor: a quiet period after the last arrival is enough."""
        if self.terminating_at is None or self.reachable:
            return schedule.floor_at
        since = max(self.terminating_at, self._tally.last_arrival_at or self.terminating_at)
        return min(schedule.floor_at, since + schedule.quiet_period_s)

    def _quiet_at(self, schedule: Schedule) -> float:
        if self.app_gone:
            return self._floor_at(schedule)
        if self._ledger.arriving:
            return schedule.quiet_limit_at  # between two packets of a head it is not quiet
        return schedule.quiet_at(self._tally.last_arrival_at)

    def _over_at(self, schedule: Schedule) -> float:
        """When the next step towards the end is due if nothing arrives: the last call, or, after it, the end itself.

        Who was asked to go may have sent work before it knew: so their answers are awaited, for one quiet period.
        """
        over_at = self._quiet_at(schedule)
        if self._called_at is not None and self._ledger.farewells and not self._must_call(schedule):
            over_at = max(over_at, self._called_at + schedule.quiet_period_s)
        return min(over_at, schedule.deadline_at)

    def _must_call(self, schedule: Schedule) -> bool:
        """Whoever came after a call was not asked: it is made again, unless quiet is not waited for any more."""
        if self._called_at is None:
            return True
        return self._tally.arrivals != self._arrivals_at_call and self._called_at < schedule.quiet_limit_at

    def _call(self, now: float) -> list[Directive]:
        self._called_at = now
        self._arrivals_at_call = self._tally.arrivals
        return [LastCall()]

    @property
    def _may_resume_by_itself(self) -> bool:
        return self._config.resume_after == "auto" and self.terminating_at is None

    def _resume_at(self, schedule: Schedule) -> float | None:
        if not self._may_resume_by_itself or not self.reachable:
            return None
        assert self.drained_at is not None, "asked after the drain"
        # A process that was frozen may learn late that it is drained: the app's end still gets its time to come.
        app_ends_by = self.drained_at + self._config.app_stop_time_s + MARGIN_S
        return max(schedule.started_at + self._config.grace_period_s, app_ends_by)

    def _exit_at(self, schedule: Schedule) -> float:
        """After SIGTERM and drained: at once if nobody needs us any more, else when the app has had its time."""
        assert self.drained_at is not None, "asked after the drain"
        assert self.terminating_at is not None, "asked after SIGTERM"
        both_at = max(self.drained_at, self.terminating_at)
        alone = not self.reachable and self._ledger.idle
        if self._hurried or alone:
            exit_at = both_at
        elif self.outcome is Outcome.FORCED and self._ledger.idle:
            exit_at = both_at + min(FORCED_EXIT_S, self._config.app_stop_time_s)
        else:
            exit_at = both_at + self._config.app_stop_time_s
        if self._scraped or self._hurried:
            return exit_at
        budget_end_at = schedule.started_at + self._config.grace_period_s - MARGIN_S
        return max(exit_at, min(self.drained_at + self._scrape_wait_s, budget_end_at))

    @property
    def _scrape_wait_s(self) -> float:
        """How long the last values may have to wait for somebody to read them."""
        if self._config.final_scrape_wait_s != AUTO:
            return self._config.final_scrape_wait_s
        to_tell = self.outcome is not Outcome.CLEAN or self._tally.is_notable
        return min(self._scrape_interval_s or 0.0, MOST_SCRAPE_WAIT_S) if to_tell else 0.0
