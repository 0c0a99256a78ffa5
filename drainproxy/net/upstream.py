"""One connection to the app: lent to a session for an exchange, kept for the next one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from drainproxy.net.flow import ReadGate, last_words, readable, reset
from drainproxy.observe.observer import Side

if TYPE_CHECKING:
    import asyncio

    from drainproxy.net.closing import Closing
    from drainproxy.net.pair import Pair


class Keeper(Protocol):
    """Who keeps the connections, and is told what becomes of each."""

    side: Side

    def opened(self, connection: UpstreamConnection) -> None:
        """It was made."""

    def put(self, connection: UpstreamConnection) -> None:
        """It is free for the next exchange."""

    def unasked(self, connection: UpstreamConnection, data: bytes) -> None:
        """Something was said on a connection that nobody has."""

    def expire(self, connection: UpstreamConnection, now: float) -> None:
        """Its time as an idle connection may be over."""

    def retire(self, connection: UpstreamConnection) -> Closing:
        """Close it once the app has taken what was written, unless it takes nothing more."""

    def gone(self, connection: UpstreamConnection) -> None:
        """It has ended."""


class UpstreamConnection:
    """An upstream socket (an asyncio.Protocol in all but name: docs/compiled.md), and the Upstream port of a session.

    Idle, anything that comes ends it.
    """

    __slots__ = (
        "_attempt", "_closing", "_ended", "_keeper", "_pair", "_said_all", "bucket", "epoch", "full", "gate",
        "idle_since", "reused", "sibling", "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    gate: ReadGate

    def __init__(self, keeper: Keeper, attempt: asyncio.Timeout, epoch: int = 0) -> None:
        self.epoch = epoch
        self.reused = False
        self.sibling = keeper.side is Side.SUCCESSOR
        """It leads to another replica, not to the app."""
        self.full = False
        self.idle_since = 0.0
        self.bucket: int | None = None
        self._keeper = keeper
        self._attempt: asyncio.Timeout | None = attempt
        self._pair: Pair | None = None
        self._closing: Closing | None = None
        self._ended = False
        self._said_all = False  # nothing may be written any more: we have half-closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.gate = ReadGate(self.transport)
        assert self._attempt is not None, "a connection is made once"
        if self._attempt.expired():
            self.transport.abort()
            return
        # The attempt ends here. A busy loop may come back to it only when its time is over: to be cancelled then would
        # close a connection that is lent already, and uvloop would not even say so.
        self._attempt.reschedule(None)
        self._attempt = None
        self._keeper.opened(self)

    def data_received(self, data: bytes) -> None:
        pair = self._pair
        if pair is not None:
            pair.session.upstream_bytes(data)
        else:
            self._keeper.unasked(self, data)

    def eof_received(self) -> bool:
        """The app has closed its side. A tunnel may go on in the other direction, nothing else does."""
        if self._pair is None:
            return False
        self._ended = True
        session = self._pair.session
        if session.half_closes:
            session.upstream_closed(clean=True)
            return True
        self._part()
        session.upstream_closed(clean=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._attempt is not None:
            return  # it came too late, and was never lent
        if exc is not None and self._pair is not None:
            for data in last_words(self.transport):
                self.data_received(data)
        if self._closing is not None:
            self._closing.stop()
        self._keeper.gone(self)
        if self._pair is not None:
            session = self._pair.session
            self._part()
            if exc is not None or not self._ended:
                session.upstream_closed(clean=exc is None)

    def pause_writing(self) -> None:
        self.full = True
        if self._pair is not None:
            self._pair.upstream_full()

    def resume_writing(self) -> None:
        self.full = False
        if self._pair is not None:
            self._pair.upstream_drained()

    def alarm(self, now: float) -> None:
        self._keeper.expire(self, now)

    @property
    def lent(self) -> bool:
        """A session has it."""
        return self._pair is not None

    def lend(self, pair: Pair) -> None:
        """From now on it is this pair's, until its session gives it back."""
        self._pair = pair
        pair.join(self)

    def _part(self) -> None:
        if self._pair is not None:
            self._pair.part()
            self._pair = None

    def write(self, data: bytes) -> None:
        if not self._said_all:
            self.transport.write(data)

    def write_both(self, first: bytes, second: memoryview) -> None:
        if not self._said_all and not self.transport.is_closing():  # as ClientConnection.write_both
            self.transport.writelines((first, second))

    def write_eof(self) -> None:
        """TLS knows no half-closed connection in asyncio: to a sibling nothing is said, and its answer still comes."""
        if not self._said_all and not self.transport.is_closing() and self.transport.can_write_eof():
            self._said_all = True
            with suppress(OSError):  # the stock loop's, if the app has reset the connection: the reader learns it, too
                self.transport.write_eof()

    def is_silent(self) -> bool:
        return not readable(self.transport)

    def release(self) -> None:
        assert self._pair is not None, "only who has it gives it back"
        self._pair.part()
        self._pair = None
        self._keeper.put(self)

    def discard(self) -> None:
        self._part()
        if self._closing is None:
            self._closing = self._keeper.retire(self)

    def abort(self) -> None:
        self._part()
        reset(self.transport)
