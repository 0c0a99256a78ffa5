"""One connection to the app: lent to a session for an exchange, kept for the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from drainproxy.net.flow import ReadGate, has_news, last_words, reset
from drainproxy.observe.observer import Side
from drainproxy.session.ports import Hold

if TYPE_CHECKING:
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.pool import Pool
    from drainproxy.session.ports import Session

_PEER_FULL = Hold.PEER_FULL  # as a global: see net/client.py


class UpstreamConnection(asyncio.Protocol):
    """An upstream socket. While `session` is set, what comes goes there; idle, anything that comes ends it."""

    __slots__ = (
        "_dialling", "_ended", "bucket", "client", "full", "gate", "idle_since", "pool", "reused", "session",
        "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    gate: ReadGate

    def __init__(self, pool: Pool, dialling: asyncio.Timeout) -> None:
        self.pool = pool
        self._dialling: asyncio.Timeout | None = dialling
        self.client: ClientConnection | None = None
        self.session: Session | None = None
        self.reused = False
        self.full = False
        self.idle_since = 0.0
        self.bucket: int | None = None
        self._ended = False

    # --- as asyncio's protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The app has accepted."""
        self.transport = cast("asyncio.Transport", transport)
        self.gate = ReadGate(self.transport)
        assert self._dialling is not None, "a connection is made once"
        if self._dialling.expired():
            self.transport.abort()
            return
        # The attempt ends here. A busy loop may come back to it only when its time is over: to be cancelled then would
        # close a connection that is lent already, and uvloop would not even say so.
        self._dialling.reschedule(None)
        self._dialling = None
        self.pool.observer.opened(Side.UPSTREAM)
        self.pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """The app has sent this: to the session, or unasked."""
        if self.session is not None:
            self.session.upstream_bytes(data)
        else:
            self.transport.abort()

    def eof_received(self) -> bool:
        """The app has closed its side. A tunnel may go on in the other direction, nothing else does."""
        session = self.session
        if session is None:
            return False
        self._ended = True
        if session.half_closes:
            session.upstream_closed(clean=True)
            return True
        self._detach()
        session.upstream_closed(clean=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._dialling is not None:
            return  # it came too late, and was never lent
        if exc is not None and self.session is not None:
            for data in last_words(self.transport):
                self.data_received(data)
        self.pool.gone(self)
        session = self.session
        self._detach()
        if session is not None and not (self._ended and exc is None):
            session.upstream_closed(clean=exc is None)

    def pause_writing(self) -> None:
        """The app does not read as fast as the client sends."""
        self.full = True
        if self.client is not None:
            self.client.hold(_PEER_FULL)

    def resume_writing(self) -> None:
        """The app has caught up."""
        self.full = False
        if self.client is not None:
            self.client.unhold(_PEER_FULL)
            if self.client.up is not None:
                self.client.up.go()

    # --- as a session's Upstream --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See Upstream."""
        self.transport.write(data)

    def write_eof(self) -> None:
        """See Upstream."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def is_silent(self) -> bool:
        """See Upstream."""
        return not has_news(self.transport)

    def release(self) -> None:
        """See Upstream."""
        self._detach()
        self.pool.put(self)

    def discard(self) -> None:
        """See Upstream."""
        self._detach()
        self.transport.close()

    def abort(self) -> None:
        """See Upstream."""
        self._detach()
        reset(self.transport)

    # --- lending ------------------------------------------------------------------------------------------------------

    def attach(self, client: ClientConnection) -> None:
        """Lend it to this client's session."""
        self.client = client
        self.session = client.session
        if client.full:
            self.gate.hold(_PEER_FULL)

    def _detach(self) -> None:
        client = self.client
        if client is not None:
            client.upstream = None
            if client.up is not None or client.down is not None:
                client.stop_passing()
            client.unhold(_PEER_FULL)
            self.client = None
            self.session = None
            self.gate.unhold(_PEER_FULL)

    def alarm(self, now: float) -> None:
        """It has been idle long enough to be closed, or has been used since."""
        self.pool.expire(self, now)
