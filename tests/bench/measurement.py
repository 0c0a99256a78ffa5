"""What is a measurement, and what has a run found out? Plain facts that are printed, stored and drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.peers import Peer
    from tests.bench.stage import Stage


Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a measurement. `ratio`: compared with the peers' in the table."""

    key: str
    title: str
    unit: str
    digits: int = 1
    ratio: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """What a metric may be at most, and the aim: a ratio to a peer's, or a value if `to` is empty."""

    metric: str
    at_most: float
    aim: float | None
    to: str = "envoy"
    of: str = "drainproxy"


@dataclass(frozen=True, slots=True)
class Measurement:
    """`run` takes one sample of one peer: a figure for each metric, or a curve's points as `KEY@X`."""

    name: str
    title: str
    how: str
    metrics: tuple[Metric, ...]
    run: Callable[[Stage, Peer], Figures]
    peers: tuple[str, ...] = ("drainproxy", "envoy", "haproxy", "nginx")
    goals: tuple[Goal, ...] = ()
    curve: str = ""
    only_long: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of several rounds."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


@dataclass(slots=True)
class Result:
    """All samples of one measurement: `samples[peer][key]` has a value a round, `left_out[peer]` why there are none."""

    name: str
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self.samples.setdefault(peer, {}).setdefault(key, []).append(value)

    def leave_out(self, peer: str, why: str) -> None:
        """A peer that failed once has no figures: a median of the rounds that worked would flatter it."""
        self.samples.pop(peer, None)
        self.left_out.setdefault(peer, why)

    def figure(self, peer: str, key: str) -> Spread | None:
        values = self.samples.get(peer, {}).get(key)
        return spread(values) if values else None

    def ratio(self, peer: str, to: str, key: str) -> Spread | None:
        """Round by round, so that what disturbed a whole round cancels out."""
        ours, theirs = self.samples.get(peer, {}).get(key), self.samples.get(to, {}).get(key)
        if not ours or not theirs or not all(theirs):
            return None
        return spread([a / b for a, b in zip(ours, theirs, strict=True)])

    def steps(self) -> list[int]:
        """The points of a curve on its axis, from keys `KEY@STEP`."""
        keys = {key for figures in self.samples.values() for key in figures}
        return sorted({int(key.partition("@")[2]) for key in keys if "@" in key})
