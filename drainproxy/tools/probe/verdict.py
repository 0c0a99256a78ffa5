"""What do the samples say? Failures by class, latency by phase, a timeline: arithmetic only, no clock and no socket.

Times are seconds since the first request was due. Latency counts from the moment a request was *due*, not from the
moment it was sent: a client that is held up by a slow answer must not hide the delay of those behind it (coordinated
omission).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REFUSED = "refused"
RESET = "reset"
EMPTY = "empty reply"
CUT = "cut body"
TIMEOUT = "timeout"
DNS = "dns"
UNREACHABLE = "unreachable"
TLS = "tls"
BAD_REPLY = "bad reply"
STREAM_RESET = "stream reset"
WRONG_ECHO = "wrong echo"
LOCAL = "local"
OTHER = "other"

_SHORTEST_S = 0.001

ENOUGH = 0.95
"""The share of the asked rate below which a run says little: the machine that sent was too slow."""

BEFORE, DURING, AFTER = "before", "during", "after"
WHOLE = "whole run"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request. `fault` is a failure class, empty if all was well; `detail` is the example to show.

    `reused`: the request went out on a connection that had carried one before. `retried`: it was sent a second time,
    as an ordinary client would. `unchecked`: the body had neither length nor chunks, so nobody can tell if it is whole.
    """

    fault: str = ""
    detail: str = ""
    status: int = 0
    pod: str = ""
    size: int = 0
    reused: bool = False
    retried: bool = False
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due, sent and over, and what came of it."""

    due_s: float
    sent_s: float
    end_s: float
    reply: Reply

    @property
    def failed(self) -> bool:
        return bool(self.reply.fault)

    @property
    def latency_s(self) -> float:
        return self.end_s - self.due_s


@dataclass(frozen=True, slots=True)
class Span:
    """A named stretch of the run, `[start_s, end_s)`."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class FailureClass:
    """All failures of one class. `example` is the detail of the first; `phases` counts them by when they failed."""

    name: str
    count: int
    first_s: float
    last_s: float
    example: str
    reused: int
    phases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the requests that were answered well, by the phase in which they were due. Seconds."""

    phase: str
    sent: int
    failed: int
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """One column of the timeline: the requests that were due in it, and the latency of the good ones. Seconds."""

    start_s: float
    sent: int
    failed: int
    p50_s: float
    p99_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How many requests were due while traffic was sent, and how many were sent."""

    due: float
    sent: int
    sending_s: float

    @property
    def reached(self) -> bool:
        """95 % of what was asked for, give or take the request that was about to be sent."""
        return self.sent + 1 >= ENOUGH * self.due

    @property
    def asked_per_s(self) -> float:
        return self.due / self.sending_s if self.sending_s else 0.0

    @property
    def achieved_per_s(self) -> float:
        return self.sent / self.sending_s if self.sending_s else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that a report shows."""

    sent: int
    failed: int
    retried: int
    unchecked: int
    unfinished: int
    failures: tuple[FailureClass, ...]
    latency: tuple[Latency, ...]
    buckets: tuple[Bucket, ...]
    spans: tuple[Span, ...]
    pods: tuple[tuple[str, int], ...]
    length_s: float
    longest_s: float
    late_s: float
    """How late the sender itself was at worst; large values mean that this machine was too slow for the rate."""
    pace: Pace

    @property
    def ok(self) -> bool:
        return self.sent > 0 and self.failed == 0


def judge(
    samples: Sequence[Sample],
    *,
    during: tuple[float, float] | None = None,
    unfinished: int = 0,
    columns: int = 0,
    pace: Pace | None = None,
) -> Verdict:
    """The verdict over all samples.

    `during` is the span of the measured command; None: the run has one phase only. `columns` of the timeline: 0
    chooses. `pace`: what was asked of the sender; None: all that was sent.
    """
    length = max((sample.end_s for sample in samples), default=0.0)
    last_due = max((sample.due_s for sample in samples), default=0.0)
    spans = spans_of(length, during)
    pods = Counter(sample.reply.pod for sample in samples if sample.reply.pod)
    return Verdict(
        sent=len(samples),
        failed=sum(sample.failed for sample in samples),
        retried=sum(sample.reply.retried for sample in samples),
        unchecked=sum(sample.reply.unchecked for sample in samples),
        unfinished=unfinished,
        failures=failure_classes(samples, spans),
        latency=tuple(latency_of(span, samples) for span in spans),
        buckets=timeline(samples, last_due, columns or columns_for(len(samples))),
        spans=spans,
        pods=tuple(pods.most_common()),
        length_s=length,
        longest_s=max((sample.end_s - sample.sent_s for sample in samples if not sample.failed), default=0.0),
        late_s=max((sample.sent_s - sample.due_s for sample in samples), default=0.0),
        pace=pace or Pace(len(samples), len(samples), last_due),
    )


def spans_of(length_s: float, during: tuple[float, float] | None) -> tuple[Span, ...]:
    """The phases of a run. Every due time falls into exactly one of them."""
    if during is None:
        return (Span(WHOLE, 0.0, length_s),)
    start, end = during
    return (Span(BEFORE, 0.0, start), Span(DURING, start, end), Span(AFTER, end, max(length_s, end)))


def failure_classes(samples: Iterable[Sample], spans: Sequence[Span] = ()) -> tuple[FailureClass, ...]:
    """Grouped by class, most frequent first, then by name; `spans` are the phases to count by."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.failed:
            groups.setdefault(sample.reply.fault, []).append(sample)
    classes = []
    for name, group in groups.items():
        first = min(group, key=lambda sample: sample.end_s)
        last = max(group, key=lambda sample: sample.end_s)
        reused = sum(sample.reply.reused for sample in group)
        phases = {span.name: sum(_within(span, sample.end_s) for sample in group) for span in spans}
        classes.append(FailureClass(name, len(group), first.end_s, last.end_s, first.reply.detail, reused, phases))
    return tuple(sorted(classes, key=lambda each: (-each.count, each.name)))


def latency_of(span: Span, samples: Iterable[Sample]) -> Latency:
    """Percentiles of the good answers among the requests due in `span`; a span's end belongs to the next one."""
    inside = [sample for sample in samples if _within(span, sample.due_s)]
    good = sorted(sample.latency_s for sample in inside if not sample.failed)
    return Latency(
        phase=span.name,
        sent=len(inside),
        failed=sum(sample.failed for sample in inside),
        p50_s=percentile(good, 50),
        p90_s=percentile(good, 90),
        p99_s=percentile(good, 99),
        max_s=good[-1] if good else 0.0,
    )


def _within(span: Span, at_s: float) -> bool:
    last = span.name in (AFTER, WHOLE)
    return span.start_s <= at_s and (last or at_s < span.end_s)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank over an ascending sequence: a value that was really measured. 0 if there is none."""
    if not ordered:
        return 0.0
    return ordered[max(ceil(len(ordered) * percent / 100), 1) - 1]


def columns_for(samples: int) -> int:
    """So many that they fit a terminal, and so few that a steady rate looks steady (a few samples in each)."""
    return min(max(samples // 4, 10), 60)


def timeline(samples: Iterable[Sample], length_s: float, columns: int) -> tuple[Bucket, ...]:
    """`columns` buckets of equal width over `length_s`, each with the requests that were due in it."""
    width = max(length_s, _SHORTEST_S) / columns
    sent, good = [0] * columns, [list[float]() for _ in range(columns)]
    for sample in samples:
        column = min(int(sample.due_s / width), columns - 1)
        sent[column] += 1
        if not sample.failed:
            good[column].append(sample.latency_s)
    return tuple(_bucket(n * width, sent[n], sorted(good[n])) for n in range(columns))


def _bucket(start_s: float, sent: int, good: Sequence[float]) -> Bucket:
    worst_s = good[-1] if good else 0.0
    return Bucket(start_s, sent, sent - len(good), percentile(good, 50), percentile(good, 99), worst_s)


def longest_gap_s(samples: Iterable[Sample]) -> float:
    """The longest time between two good answers: how long the service was gone for everybody. Seconds."""
    ends = sorted(sample.end_s for sample in samples if not sample.failed)
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)
