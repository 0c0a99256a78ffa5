"""What does the shell report, for people and for Prometheus? The calls; `metrics` counts them, `log` writes them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from drainproxy.drain.ledger import Work
    from drainproxy.drain.phase import Phase
    from drainproxy.observe.documents import Summary
    from drainproxy.protocol.reasons import Reason


class Side(Enum):
    """Whose connection. Label values: API."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    SUCCESSOR = "successor"

    __hash__ = object.__hash__  # members are their own equals; Enum's hash is Python code, for each connection


class DrainObserver(Protocol):
    """Told of each step of a drain."""

    def entered(self, phase: Phase) -> None:
        """This phase has begun."""

    def finished(self, summary: Summary) -> None:
        """The drain has ended, by whatever outcome."""


class Unobserved:
    """A DrainObserver that does nothing."""

    def entered(self, phase: Phase) -> None:
        pass

    def finished(self, summary: Summary) -> None:
        pass


class Observer(Protocol):
    """Called from the data path: each is plain integer work, or nothing."""

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        """A request was answered with `status` (0: not at all; or session.ports.UNREAD)."""

    def opened(self, side: Side) -> None:
        """A connection. How many are open is counted where they are kept."""

    def transferred(self, received: int, sent: int) -> None:
        """Bytes from and to a client, since the last report on its connection."""

    def rejected(self, reason: Reason) -> None:
        """A request that was refused here."""

    def upstream_error(self, reason: Reason) -> None:
        """A failure of the app."""

    def retried(self) -> None:
        """A request that was sent to the app once more."""


class Look(Protocol):
    """Whoever else looks at exchanges that have ended."""

    def __call__(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        """As Observer.exchange."""


class Tee:
    """An observer with one more who looks at each exchange, after the first."""

    def __init__(self, first: Observer, look: Look) -> None:
        self._first = first
        self._look = look

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        self._first.exchange(work, status, duration_s, completed=completed)
        self._look(work, status, duration_s, completed=completed)

    def opened(self, side: Side) -> None:
        self._first.opened(side)

    def transferred(self, received: int, sent: int) -> None:
        self._first.transferred(received, sent)

    def rejected(self, reason: Reason) -> None:
        self._first.rejected(reason)

    def upstream_error(self, reason: Reason) -> None:
        self._first.upstream_error(reason)

    def retried(self) -> None:
        self._first.retried()
