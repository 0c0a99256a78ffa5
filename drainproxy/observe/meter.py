"""What is counted while traffic flows? Plain integers; observe/metrics.py makes what Prometheus reads of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from drainproxy.observe.traces import SpanCounts

if TYPE_CHECKING:
    from drainproxy.drain.announcement import Occasion, Told
    from drainproxy.drain.ledger import Work
    from drainproxy.drain.phase import Outcome, Trigger
    from drainproxy.observe.observer import Side
    from drainproxy.protocol.reasons import Reason

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
OTHER: Final = "other"
"""The label value for everything that is not in a closed set."""
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram of durations, seconds."""


class Meter:
    """Counts what the shell reports. See Observer; called for every request, so nothing here is more than a sum."""

    def __init__(self) -> None:
        self._other: defaultdict[int, int] = defaultdict(int)
        self.codes = {method: defaultdict[int, int](int) for method in METHODS} | {OTHER: self._other}
        self.durations = [0] * (len(BUCKETS) + 1)
        self.duration_s = 0.0
        self.connections: Counter[Side] = Counter()
        self.received = 0
        self.sent = 0
        self.rejections: Counter[Reason] = Counter()
        self.upstream_errors: Counter[Reason] = Counter()
        self.retries = 0
        self.drains: Counter[tuple[Trigger, Outcome]] = Counter()
        self.drain_duration_s = 0.0
        self.calls: Counter[tuple[Occasion, str]] = Counter()
        self.spans = SpanCounts()
        self.restarts: Counter[str] = Counter()
        self.before: dict[str, dict[tuple[str, ...], float]] = {}
        """What the generations before this process have counted: samples by metric. See observe.carried."""

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        self.codes.get(work.method, self._other)[status] += 1
        self.durations[bisect_left(BUCKETS, duration_s)] += 1
        self.duration_s += duration_s

    def opened(self, side: Side) -> None:
        self.connections[side] += 1

    def transferred(self, received: int, sent: int) -> None:
        self.received += received
        self.sent += sent

    def rejected(self, reason: Reason) -> None:
        self.rejections[reason] += 1

    def upstream_error(self, reason: Reason) -> None:
        self.upstream_errors[reason] += 1

    def retried(self) -> None:
        self.retries += 1

    def told(self, told: Told) -> None:
        """Other discovery was told, or could not be."""
        self.calls[told.occasion, told.result] += 1

    def restarted(self, outcome: str) -> None:
        """The app was restarted, or was not."""
        self.restarts[outcome] += 1

    def drain_finished(self, trigger: Trigger, outcome: Outcome, duration_s: float) -> None:
        """A drain has ended."""
        self.drains[trigger, outcome] += 1
        self.drain_duration_s = duration_s

    @property
    def requests(self) -> int:
        """Requests, answered or not."""
        return sum(self.durations)
