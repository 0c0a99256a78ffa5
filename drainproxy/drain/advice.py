"""Which settings do the numbers of drains call for? Rules with reason and evidence, for one drain and for many.

One drain gives the hint that is logged behind it; all drains of a workload give the advice of `drainproxy advise`. What
one drain proves (the floor was too short, work was cut) is said of one; what one drain cannot prove (the floor could be
shorter) needs `ENOUGH` of them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING

from drainproxy.config.values import show_duration
from drainproxy.drain.phase import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from drainproxy.config.options import Config

ENOUGH = 20
"""Drains with traffic that it takes to recommend a shorter floor, or to say how long new Pods need to be known."""
TRAFFIC = 10
"""Arrivals in a drain that it takes for the last of them to tell when the traffic stopped."""
TAIL = 0.999
MARGIN = 1.2
"""A recommended floor is this much longer than the propagation that was measured."""
LEAST_FLOOR_S = 2.0
"""No floor below this is recommended: nodes under load have a worse day than those that were measured."""
WORTH = 0.6
"""A shorter floor is recommended if it is at most this part of the present one: small gains are not worth a rollout."""
NEAR, ROOM = 0.8, 0.7
"""Part of the budget above which a drain was near its deadline; part that drains should use after the change."""
MORE = 1.5
"""Work that was cut does not show how long it would have taken: the next budget to try is this much longer."""
STEPS_S = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50),
    *(60, 75, 90, 105, 120, 150, 180, 210, 240, 270, 300),
)
"""Recommended durations, as a person would choose them; above: whole minutes."""


class Setting(Enum):
    """What can be recommended. The values are the names that users write."""

    FLOOR = "propagation-delay"
    QUIET = "quiet-period"
    GRACE = "grace-period"
    MIN_READY = "minReadySeconds"


class Because(Enum):
    """How urgent a recommendation is, most urgent first. Values are words of `advise --json`: API."""

    LOST = "lost"
    """Work was lost, or is bound to be."""
    TIGHT = "tight"
    """Nothing was lost, but the setting was passed, or nearly."""
    WASTE = "waste"
    """Nothing is at risk; every rollout takes longer than it must."""
    ADVISED = "advised"
    """What is set is not known; this would be right."""
    FITS = "fits"
    """The present value is right."""
    UNKNOWN = "unknown"
    """There is too little data to say."""


@dataclass(frozen=True, slots=True)
class Times:
    """The settings that were in force during a drain, seconds."""

    grace_s: float
    app_stop_s: float
    budget_s: float
    floor_s: float
    quiet_s: float
    quiet_limit_s: float

    @staticmethod
    def of(config: Config) -> Times:
        """Those of this process."""
        return Times(
            grace_s=config.grace_period_s,
            app_stop_s=config.app_stop_time_s,
            budget_s=config.budget_s,
            floor_s=config.propagation_delay_s,
            quiet_s=config.quiet_period_s,
            quiet_limit_s=config.quiet_limit_s,
        )

    @staticmethod
    def read(by_option: Mapping[str, float]) -> Times:
        """What `by_option` gave. Raises KeyError if one is missing."""
        return Times(**{field: float(by_option[option]) for option, field in _OPTIONS.items()})

    def by_option(self) -> dict[str, float]:
        """Seconds by the option's name, for metrics and summaries."""
        return {option: getattr(self, field) for option, field in _OPTIONS.items()}


_OPTIONS = {
    "grace-period": "grace_s",
    "app-stop-time": "app_stop_s",
    "drain-timeout": "budget_s",
    "propagation-delay": "floor_s",
    "quiet-period": "quiet_s",
    "quiet-limit": "quiet_limit_s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One drain that has ended, as far as its source tells of it. Seconds since the trigger; None: not told."""

    times: Times
    outcome: str
    elapsed_s: float
    late: int
    last_arrival_s: float | None
    """None: nothing arrived."""
    arrivals: int | None = None
    cut: int = 0
    """Ended by us at the deadline, unfinished."""
    broken: int = 0
    """Broken off by the app."""
    after_end: int = 0
    """Arrivals when the drain was over already."""
    released: bool = False
    """Its app was let go early: what still came was answered by other Pods, and says nothing of the floor."""
    handed_over: int = 0
    """Given to other Pods of the workload, which answered in our place."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One setting: what it is, what it should be (the same: leave it), and why. None: not known."""

    setting: Setting
    now_s: float | None
    best_s: float | None
    because: Because
    why: str

    @property
    def changes(self) -> bool:
        """Something is to be done."""
        return self.best_s is not None and self.best_s != self.now_s


def advise(drains: Sequence[Drain], now: Times | None = None) -> list[Advice]:
    """What to set for a workload, a line for each setting. `now`: what is set, if not what the last drain had."""
    times = now or drains[-1].times
    floor = _floor(drains, times)
    return [floor, _quiet(drains, times), _grace(drains, times, floor), _min_ready(drains)]


def hint(drain: Drain) -> str | None:
    """What one drain that has just ended calls for, on one line; None: nothing."""
    said = [f"{each.why}: set {each.setting.value} to {show(each.best_s)}" for each in advise([drain]) if each.changes]
    return "; ".join([*said, *notes([drain])]) or None


def notes(drains: Sequence[Drain]) -> Iterator[str]:
    """What no setting of ours can fix."""
    broken = sum(each.broken for each in drains)
    if broken:
        yield f"the app broke {many(broken, 'request')} off before it was told to stop: look at its log"
    if any(each.outcome == Outcome.STILL_ARRIVING.value for each in drains):
        yield (
            "requests still arrive when the drain ends, from a client with a fixed address or a load balancer that "
            "learns late or not at all; the access log names them (--access-log all)"
        )


def round_up(seconds: float) -> float:
    """The next duration that a person would choose."""
    if seconds > STEPS_S[-1]:
        return ceil(seconds / 60) * 60.0
    return float(STEPS_S[bisect_left(STEPS_S, seconds)])


def quantile(values: Iterable[float], part: float) -> float:
    """The smallest value that is not below `part` of all (nearest rank): one that was measured, never a mean of two."""
    ranked = sorted(values)
    return ranked[max(0, ceil(part * len(ranked)) - 1)]


def show(seconds: float | None) -> str:
    """A duration for people."""
    return "-" if seconds is None else show_duration(round(seconds, 1))


def _floor(drains: Sequence[Drain], times: Times) -> Advice:
    now_s = times.floor_s
    drains = [each for each in drains if not each.released]
    if not drains:
        return Advice(Setting.FLOOR, now_s, now_s, Because.FITS, "other Pods answered what came late")
    lasts = [each.last_arrival_s for each in drains if each.last_arrival_s is not None]
    if not lasts:
        return Advice(Setting.FLOOR, now_s, None, Because.UNKNOWN, "nothing arrived in any drain")
    last_s = quantile(lasts, TAIL)
    best_s = max(LEAST_FLOOR_S, round_up(last_s * MARGIN))
    if last_s > now_s:
        lost = any(each.outcome == Outcome.STILL_ARRIVING.value for each in drains)
        because = Because.LOST if lost else Because.TIGHT
        return Advice(Setting.FLOOR, now_s, best_s, because, _past_the_floor(drains, lasts, now_s))
    measured = f"last arrival: {_tail(lasts)}"
    if len(telling := _telling(drains)) < ENOUGH:
        why = f"{measured}; {_too_few(telling)} to shorten the floor"
        return Advice(Setting.FLOOR, now_s, None, Because.UNKNOWN, why)
    if best_s <= now_s * WORTH:
        why = f"{measured}; each Pod stays {show(now_s - best_s)} longer than necessary"
        return Advice(Setting.FLOOR, now_s, best_s, Because.WASTE, why)
    return Advice(Setting.FLOOR, now_s, now_s, Because.FITS, measured)


def _past_the_floor(drains: Sequence[Drain], lasts: Sequence[float], floor_s: float) -> str:
    if len(drains) == 1:
        return f"requests kept arriving for {show(lasts[0])}, past the floor of {show(floor_s)}"
    arrivals = sum(each.arrivals or 0 for each in drains)
    late = sum(each.late for each in drains)
    share = f"{100 * late / arrivals:.2g} % of arrivals were" if arrivals else f"{many(late, 'arrival')} came"
    return f"last arrival: {_tail(lasts)}; {share} later than the floor of {show(floor_s)}"


def _quiet(drains: Sequence[Drain], times: Times) -> Advice:
    now_s = times.quiet_s
    missed = [each for each in drains if each.after_end and each.outcome == Outcome.CLEAN.value]
    if missed:
        why = f"requests came after the end of {_of(missed, drains)}, after a pause longer than {show(now_s)}"
        return Advice(Setting.QUIET, now_s, round_up(2 * now_s), Because.LOST, why)
    return Advice(Setting.QUIET, now_s, now_s, Because.FITS, "nothing came after the end of a clean drain")


def _grace(drains: Sequence[Drain], times: Times, floor: Advice) -> Advice:
    """The grace period that gives the drain the budget it needs, with the recommended floor."""
    longer_s = max(0.0, (floor.best_s or 0.0) - times.floor_s)
    took_s = quantile((each.elapsed_s for each in drains), TAIL)
    forced = [each for each in drains if each.outcome == Outcome.FORCED.value and each.times.budget_s >= times.budget_s]
    if forced:
        cut = sum(each.cut for each in forced)
        why = f"the deadline cut {many(cut, 'request')} in {_of(forced, drains)}, at {show(times.budget_s)}"
        budget_s, because = times.budget_s * MORE + longer_s, Because.LOST
    elif took_s > times.budget_s * NEAR:
        why = f"drains took up to {show(took_s)} of {show(times.budget_s)}"
        budget_s, because = (took_s + longer_s) / ROOM, Because.TIGHT
    elif took_s + longer_s > times.budget_s * NEAR:
        why = f"with the longer floor drains would take up to {show(took_s + longer_s)} of {show(times.budget_s)}"
        budget_s, because = (took_s + longer_s) / ROOM, Because.TIGHT
    else:
        why = f"drains took up to {show(took_s)} of {show(times.budget_s)}; unused time costs nothing"
        return Advice(Setting.GRACE, times.grace_s, times.grace_s, Because.FITS, why)
    return Advice(Setting.GRACE, times.grace_s, round_up(times.grace_s + budget_s - times.budget_s), because, why)


def _min_ready(drains: Sequence[Drain]) -> Advice:
    telling = [each.last_arrival_s for each in _telling(drains) if each.last_arrival_s is not None]
    if len(telling) < ENOUGH:
        return Advice(Setting.MIN_READY, None, None, Because.UNKNOWN, _too_few(telling))
    why = f"learning of a new Pod takes as long as learning that an old one is gone: {_tail(telling)}"
    return Advice(Setting.MIN_READY, None, max(1.0, float(ceil(quantile(telling, TAIL)))), Because.ADVISED, why)


def _telling(drains: Sequence[Drain]) -> list[Drain]:
    """Those with so many arrivals that the last one shows when the traffic stopped; with any, if that was not told."""
    return [
        each
        for each in drains
        if each.last_arrival_s is not None and (each.arrivals is None or each.arrivals >= TRAFFIC)
    ]


def _too_few(telling: Sequence[object]) -> str:
    return f"too little data: {len(telling)} of {ENOUGH} drains with {TRAFFIC} arrivals"


def _tail(lasts: Sequence[float]) -> str:
    return f"p{100 * TAIL:g} of {many(len(lasts), 'drain')} is {show(quantile(lasts, TAIL))}"


def _of(some: Sequence[Drain], drains: Sequence[Drain]) -> str:
    return f"{len(some)} of {len(drains)} drains" if len(drains) > 1 else "the drain"


def many(count: int, noun: str) -> str:
    """`1 drain`, `2 drains`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
