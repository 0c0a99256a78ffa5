"""How long may a client's connection wait for what comes next? One wait at a time, with the time limit of its kind.

While it waits for the rest of a head, the ledger knows of that: the app must not be stopped between two packets.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from drainproxy.session.ports import Wait

if TYPE_CHECKING:
    from drainproxy.net.route import RouteContext

_IDLE: Final = Wait.IDLE  # as globals: see net/pair.py
_HEADER: Final = Wait.HEADER
_STREAM: Final = Wait.STREAM
_LEFT: Final = Wait.LEFT

LOOKS: Final = 4
"""Bytes of a body set no timer. The connection is looked at so many times in a limit, to see whether any have moved."""


class Watched(Protocol):
    """A connection with time limits."""

    received: int
    sent: int

    def timed_out(self, what: Wait) -> None:
        """This wait has lasted too long."""


class Waits:
    """What one connection waits for, and since when."""

    __slots__ = ("_alarm_at", "_moved", "_route", "_watched", "_what", "bucket", "since")

    def __init__(self, watched: Watched, route: RouteContext, now: float) -> None:
        self.bucket: int | None = None
        self.since = now
        self._watched = watched
        self._route = route
        self._what = _IDLE
        self._moved = 0
        self._alarm_at = inf
        limit_s = route.limits[_IDLE]
        if limit_s:
            self._watch(now + limit_s)

    def begin(self, what: Wait, now: float) -> None:
        """Wait for this from now on."""
        route = self._route
        if self._what is _HEADER:
            if what is not _HEADER:
                route.ledger.head_ended()
        elif what is _HEADER:
            route.ledger.head_begun()
        self._what = what
        self.since = now
        limit_s = route.limits[what]
        if limit_s:
            at = now + limit_s / LOOKS if what is _STREAM or what is _LEFT else now + limit_s
            if at < self._alarm_at:
                self._watch(at)

    def stop(self) -> None:
        """The connection has ended."""
        if self._what is _HEADER:
            self._route.ledger.head_ended()
            self._what = _IDLE
        self._route.timers.forget(self)

    def _watch(self, at: float) -> None:
        """Have an alarm at this time. One that comes earlier would be enough: it looks again."""
        self._alarm_at = at
        self._route.timers.watch(self, at)

    def alarm(self, now: float) -> None:
        """The wait has lasted too long, or a new one has begun since, or bytes have moved."""
        self._alarm_at = inf
        what = self._what
        limit_s = self._route.limits[what]
        if not limit_s:
            return
        by_bytes = what is _STREAM or what is _LEFT
        moved = self._watched.received + self._watched.sent
        if by_bytes and moved != self._moved:
            self._moved = moved
            self.since = now
        ends_at = self.since + limit_s
        if now >= ends_at:
            self._watched.timed_out(what)
        else:
            self._watch(min(ends_at, now + limit_s / LOOKS) if by_bytes else ends_at)
