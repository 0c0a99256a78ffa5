"""What is in flight, and what happened to it during a drain? Admitting and counting are one step.

Only *work* is entered: HTTP exchanges until the last byte of both bodies, open HTTP/2 streams, tunnels, TCP
connections. Idle connections, health checks, scrapes and the drain call itself never are: they cannot hold a drain.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from drainproxy.drain.phase import LATE, Phase

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(Enum):
    """Kinds of work. Label values: API."""

    HTTP = "http"
    HTTP2 = "http2"
    WEBSOCKET = "websocket"
    TCP = "tcp"


class By(Enum):
    """Who ended a piece of work that did not end well. Label values: API."""

    US = "us"
    CLIENT = "client"
    APP = "app"


class Ended(Enum):
    """How a piece of work has ended."""

    WELL = "answered, as far as it was to be"
    CUT = "cut at the deadline, or at the end of the process"
    TIMED_OUT = "cut by a time limit"
    DEPARTED = "its client left"
    REFUSED = "its client was refused, by a rule or a limit"
    BROKEN = "the app broke it off, or was not there"
    LOST = "cut or broken off after the end of the drain, when the app was allowed to stop"

    __hash__ = object.__hash__  # members are their own equals; see observe.observer.Side


BY: Final = {
    Ended.CUT: By.US,
    Ended.TIMED_OUT: By.US,
    Ended.DEPARTED: By.CLIENT,
    Ended.REFUSED: By.CLIENT,
    Ended.BROKEN: By.APP,
    Ended.LOST: By.US,
}
"""Who did it, for every end that is not well."""

MOST_NAMED: Final = 5
"""Pieces of lost work that are remembered by name."""


class Work:
    """One piece of work. A connection that carries one exchange at a time uses the same object again for each."""

    __slots__ = ("client", "client_left", "handed_over", "kind", "method", "started_at", "target", "trace")

    def __init__(self, kind: Kind, client: str) -> None:
        self.kind = kind
        self.client = client
        self.client_left = False
        """Its client has sent FIN: perhaps it still reads, perhaps nobody is there."""
        self.handed_over = False
        """A sibling has it."""
        self.method = ""
        self.target = ""
        self.trace = ""  # the id of the trace it belongs to, where traces are followed
        self.started_at = 0.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A piece of work that was lost, as it was then. Texts of clients as they came: escape them."""

    kind: Kind
    method: str
    target: str
    client: str
    client_left: bool
    age_s: float
    trace: str = ""


class Losses:
    """How many pieces of work were lost, and the oldest of them by name."""

    __slots__ = ("count", "oldest")

    def __init__(self) -> None:
        self.count = 0
        self.oldest: list[Loss] = []

    def add(self, work: Work, now: float) -> None:
        """One more."""
        self.count += 1
        age_s = now - work.started_at
        loss = Loss(work.kind, work.method, work.target, work.client, work.client_left, age_s, work.trace)
        insort(self.oldest, loss, key=_youth)
        del self.oldest[MOST_NAMED:]


def _youth(loss: Loss) -> float:
    return -loss.age_s


class Tally:
    """What one drain has seen since its trigger. Times are the caller's clock, seconds."""

    def __init__(self) -> None:
        self.arrivals = 0
        self.last_arrival_at: float | None = None
        self.late: Counter[Phase] = Counter()
        self.completed: Counter[Kind] = Counter()
        self.aborted: Counter[tuple[Kind, Ended]] = Counter()
        self.cut = Losses()
        """What the deadline has ended."""
        self.lost = Losses()
        """What has failed after the end of the drain."""
        self.handed_over = 0
        """What siblings got instead of the app."""

    def ended(self, work: Work, now: float, ended: Ended, phase: Phase) -> None:
        """A piece of work is over."""
        if ended is Ended.WELL:
            self.completed[work.kind] += 1
            return
        if ended is Ended.BROKEN and work.client_left:
            ended = Ended.DEPARTED  # the app has seen its client's FIN, and may stop working for it
        if phase is Phase.DRAINED and ended in (Ended.CUT, Ended.BROKEN):
            ended = Ended.LOST
            self.lost.add(work, now)
        elif ended is Ended.CUT:
            self.cut.add(work, now)
        self.aborted[work.kind, ended] += 1

    def count(self, ended: Ended) -> int:
        """Pieces of work that have ended so; not WELL."""
        return sum(count for (_, how), count in self.aborted.items() if how is ended)

    @property
    def is_notable(self) -> bool:
        """Something in it is worth to be known: work came late, or did not end well. A refused request is not."""
        return bool(self.late) or self.aborted.total() > self.count(Ended.REFUSED)

    def absorb(self, other: Tally) -> None:
        """Add another drain's counts to these."""
        self.arrivals += other.arrivals
        self.late += other.late
        self.completed += other.completed
        self.aborted += other.aborted
        self.handed_over += other.handed_over


class Ledger:
    """All open work, oldest first. While a drain runs, `tally` counts what comes and goes."""

    __slots__ = ("_at_siblings", "_elsewhere", "_open", "arriving", "farewells", "on_idle", "past", "phase", "tally")

    def __init__(self) -> None:
        self._open: dict[Work, None] = {}
        self._at_siblings: dict[Work, None] = {}  # work that a sibling has
        self.arriving = 0
        """Requests whose head has come in part: not work yet, but nobody should stop the app between two packets."""
        self.farewells = 0
        """Connections that were asked to go and have not answered yet: what was sent before that may still come."""
        self._elsewhere = False
        self.phase = Phase.SERVING
        self.tally: Tally | None = None
        self.past = Tally()
        self.on_idle: Callable[[], None] = _nothing

    def enter(self, work: Work, now: float) -> None:
        """Work arrives."""
        work.started_at = now
        self._open[work] = None
        if self.tally is not None:
            self.tally.arrivals += 1
            self.tally.last_arrival_at = now
            if self.phase in LATE:
                self.tally.late[self.phase] += 1

    def leave(self, work: Work, now: float, ended: Ended) -> None:
        """Work ends."""
        if work in self._open:
            del self._open[work]
        else:
            del self._at_siblings[work]
        if self.tally is not None:
            self.tally.ended(work, now, ended, self.phase)
            if not self._open:
                self.on_idle()

    def goes_elsewhere(self, work: Work) -> None:
        """A sibling has it: it is still in flight through us, but our app is not needed for it."""
        if work not in self._open:
            return
        del self._open[work]
        self._at_siblings[work] = None
        work.handed_over = True
        if self.tally is not None:
            self.tally.handed_over += 1
            if not self._open:
                self.on_idle()

    def comes_back(self, work: Work) -> None:
        """The sibling has turned it down, and our app gets it after all."""
        if work in self._at_siblings:
            del self._at_siblings[work]
            self._open[work] = None
            work.handed_over = False

    def head_begun(self) -> None:
        """Part of a request's head has arrived."""
        self.arriving += 1

    def head_ended(self) -> None:
        """The rest has come, or never will."""
        self.arriving -= 1
        if self.tally is not None and not self.arriving:
            self.on_idle()

    def farewell_begun(self) -> None:
        """A connection was asked to go, and will say when it knows."""
        self.farewells += 1

    def farewell_ended(self) -> None:
        """It knows, or is gone."""
        self.farewells -= 1
        if self.tally is not None and not self.farewells:
            self.on_idle()

    def also_elsewhere(self, *, there: bool) -> None:
        """Whether another process still has work of this service, which it is not given anew: an upgrade's old one."""
        self._elsewhere = there
        if self.tally is not None and not there:
            self.on_idle()

    def begin(self) -> None:
        """A drain begins: count from here."""
        self.tally = Tally()

    def end(self) -> None:
        """The drain was called off: its counts join those of past drains."""
        if self.tally is not None:
            self.past.absorb(self.tally)
        self.tally = None

    @property
    def idle(self) -> bool:
        """Nothing is in flight."""
        return not self._open and not self._at_siblings and not self._elsewhere

    @property
    def idle_here(self) -> bool:
        """Nothing is in flight that our app is needed for."""
        return not self._open and not self._elsewhere

    def count(self) -> Counter[Kind]:
        """Open work by kind."""
        return Counter([work.kind for work in chain(self._open, self._at_siblings)])

    def oldest(self, most: int) -> list[Work]:
        """The pieces of work that have been open longest."""
        both = [*islice(self._open, most), *islice(self._at_siblings, most)]
        return sorted(both, key=_began)[:most] if self._at_siblings else both

    def total(self) -> Tally:
        """Counts of all drains since the start of the process."""
        both = Tally()
        both.absorb(self.past)
        if self.tally is not None:
            both.absorb(self.tally)
        return both


def _began(work: Work) -> float:
    return work.started_at


def _nothing() -> None:
    pass
