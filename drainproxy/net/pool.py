"""Which connection to the app does an exchange get? An idle one at once, or the next that can be had.

The pool only chooses: it opens nothing and waits for nothing. New connections come from net/dial.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from drainproxy.net.closing import Closing
from drainproxy.net.flow import readable
from drainproxy.observe.observer import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.net.timers import Timers
    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.observe.observer import Observer
    from drainproxy.protocol.reasons import Reason


class Waiter(Protocol):
    """Who waits for a connection. Exactly one of the two is called, unless the wait is given up before."""

    def connected(self, upstream: UpstreamConnection) -> None:
        """Here is one."""

    def refused(self, reason: Reason) -> None:
        """There will be none."""


class Terms(NamedTuple):
    """What a waiter takes. `until`: while the app refuses connections, it is held until this time (clock, seconds)."""

    until: float
    fresh: bool
    validate: bool


class ConnectionPool:
    """The connections to one address that are open, and who waits for one. `side`: as what they are counted."""

    def __init__(
        self,
        clock: Callable[[], float],
        idle_limit_s: float,
        timers: Timers,
        observer: Observer,
        side: Side = Side.UPSTREAM,
    ) -> None:
        self.side = side
        self._clock = clock
        self._idle_limit_s = idle_limit_s
        self._timers = timers
        self._observer = observer
        self._idle: list[UpstreamConnection] = []
        self._waiters: dict[Waiter, Terms] = {}
        self._open = 0
        self.epoch = 0
        """Which process the app is: the number of those that it was before. Connections know theirs."""
        self.leaving = 0
        """Open connections to those before."""
        self.on_left: Callable[[], None] = _nothing
        """Called when the last of them has ended."""
        self.shut = False
        """Nothing is kept: no exchange is to come."""

    @property
    def idle(self) -> int:
        """Connections that wait for an exchange."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections that carry one."""
        return self._open - len(self._idle)

    @property
    def waiting(self) -> int:
        """Who has no connection yet."""
        return len(self._waiters)

    def take(self, *, validate: bool) -> UpstreamConnection | None:
        """The connection that was used last: the one whose idle time at the app is the shortest.

        `validate`: look into its socket first, for the app may have closed it.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport.is_closing() or (validate and readable(connection.transport)):
                connection.transport.abort()
                continue
            connection.reused = True
            return connection
        return None

    def wait(self, waiter: Waiter, terms: Terms) -> None:
        """Wait behind all who do already."""
        self._waiters[waiter] = terms

    def forget(self, waiter: Waiter) -> None:
        """It does not want a connection any more."""
        self._waiters.pop(waiter, None)

    def pop_overdue(self, now: float) -> list[Waiter]:
        """Who has waited as long as it may, and waits no more. Infinity: everybody."""
        overdue = [waiter for waiter, terms in self._waiters.items() if now >= terms.until]
        for waiter in overdue:
            del self._waiters[waiter]
        return overdue

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection was made. It is handed over before anything is read from it, for the app may speak first."""
        self.joined(connection)
        if connection.epoch != self.epoch:  # it was dialled before the change
            self.leaving += 1
            connection.transport.close()
            return
        for waiter in self._waiters:
            del self._waiters[waiter]
            waiter.connected(connection)
            return
        self.put(connection)

    def joined(self, _: UpstreamConnection) -> None:
        """There is one more, and somebody has it already."""
        self._open += 1
        self._observer.opened(self.side)

    def unasked(self, connection: UpstreamConnection, _: bytes) -> None:
        """The app has said something on a connection that nobody has."""
        connection.transport.abort()

    def put(self, connection: UpstreamConnection) -> None:
        """An exchange is over. The connection waits for the next, but never longer than the app may keep it."""
        if connection.transport.is_closing():
            return
        if self.shut or connection.epoch != self.epoch:
            connection.transport.close()
            return
        if self._waiters and self._lend_again(connection):
            return
        connection.idle_since = self._clock()
        self._idle.append(connection)
        if connection.bucket is None:
            self._timers.watch(connection, connection.idle_since + self._idle_limit_s)

    def _lend_again(self, connection: UpstreamConnection) -> bool:
        """Hand a connection that was given back to whoever has waited longest and will take it."""
        for waiter, terms in self._waiters.items():
            if not terms.fresh and not (terms.validate and readable(connection.transport)):
                del self._waiters[waiter]
                connection.reused = True
                waiter.connected(connection)
                return True
        return False

    def expire(self, connection: UpstreamConnection, now: float) -> None:
        """Close the connection if it is idle and has been for long enough."""
        if connection.lent or connection.transport.is_closing():
            return
        deadline = connection.idle_since + self._idle_limit_s
        if now < deadline:
            self._timers.watch(connection, deadline)
        elif connection in self._idle:
            self._idle.remove(connection)
            connection.transport.close()

    def retire(self, connection: UpstreamConnection) -> Closing:
        """Close a connection that no exchange will have any more."""
        return Closing(connection.transport, self._timers, self._clock())

    def gone(self, connection: UpstreamConnection) -> None:
        """A connection has ended."""
        self._open -= 1
        self._timers.forget(connection)
        if not connection.lent and connection in self._idle:
            self._idle.remove(connection)
        if connection.epoch != self.epoch:
            self.leaving -= 1
            if not self.leaving:
                self.on_left()

    def renew(self) -> None:
        """The app is, or will be, another process: what is lent serves its exchange and no other, what is idle ends."""
        self.epoch += 1
        self.leaving = self._open
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    def next_overdue_at(self) -> float | None:
        """When the first waiter has waited as long as it may; None: nobody waits."""
        return min([terms.until for terms in self._waiters.values()], default=None)

    def keep(self, *, keep: bool) -> None:
        """Whether connections wait for a next exchange. If not, those that wait are closed."""
        self.shut = not keep
        if self.shut:
            for connection in self._idle:
                connection.transport.close()
            self._idle.clear()

    def close(self) -> None:
        """Drop every connection that is not lent."""
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()


def _nothing() -> None:
    pass
