"""One client's connection: the socket on one side, its session on the other, and nothing decided in between."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from drainproxy.drain.ledger import Kind, Work
from drainproxy.drain.phase import LATE, Phase
from drainproxy.drain.turns import ASK_AGAIN_S
from drainproxy.net.flow import ReadGate, has_news, reset
from drainproxy.protocol.http1 import Forwarding
from drainproxy.session.ports import UNREAD, Hold, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.net.listener import Listener
    from drainproxy.net.splice import Splice
    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.protocol.reasons import Reason
    from drainproxy.session.ports import Passed, Session

# Members as globals: looking one up through its class costs 0.13 µs on CPython 3.11, some ten times a request.
_IDLE, _HEADER, _STREAM = Wait.IDLE, Wait.HEADER, Wait.STREAM
_SERVING = Phase.SERVING
_PEER_FULL = Hold.PEER_FULL

LINGER_S = 2.0
"""How long a connection that we end is still read from, so that our last bytes are not lost to a reset."""


class ClientConnection(asyncio.Protocol):
    """A client socket, and the Client port of its session."""

    __slots__ = (
        "__weakref__",
        "_is_work",
        "_lingering",
        "_moved",
        "_since",
        "_streams",
        "_to_session",
        "_waiting",
        "bucket",
        "down",
        "full",
        "gate",
        "listener",
        "received",
        "reported",
        "sent",
        "session",
        "transport",
        "up",
        "upstream",
        "work",
    )  # fmt: skip

    transport: asyncio.Transport
    gate: ReadGate
    session: Session
    work: Work
    _to_session: Callable[[bytes], None]

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.upstream: UpstreamConnection | None = None
        self.up: Splice | None = None
        self.down: Splice | None = None
        self.full = False
        self.received = 0
        self.sent = 0
        self.reported = (0, 0)
        self.bucket: int | None = None
        self._waiting = _IDLE
        self._since = 0.0
        self._moved = 0
        self._is_work = False
        self._lingering = False
        self._streams = 0

    # --- as asyncio's protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        listener = self.listener
        self.transport = cast("asyncio.Transport", transport)
        self.gate = ReadGate(self.transport)
        address = peer_address(transport.get_extra_info("peername"))
        self.work = Work(Kind.HTTP, address)
        self.session = listener.session_for(self, forwarding(address, listener.scheme))
        self._to_session = self.session.client_bytes
        listener.opened(self)
        self._rest(listener.loop.time())
        self.session.start()

    def data_received(self, data: bytes) -> None:
        """The client has sent this."""
        self.received += len(data)
        self._to_session(data)

    def eof_received(self) -> bool:
        """The client sends no more. It may still read: the session decides when the connection ends."""
        if self._lingering:
            return False
        self.session.client_eof()
        return not self.listener.tls  # TLS knows no half-closed connection in asyncio: there the connection ends

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.listener.timers.forget(self)
        self.stop_passing()
        if not self._lingering:
            self.session.client_gone()
        self._turn_to(_IDLE)
        self.listener.closed(self)

    def pause_writing(self) -> None:
        """The client does not read as fast as the app answers."""
        self.full = True
        if self.upstream is not None:
            self.upstream.gate.hold(_PEER_FULL)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.full = False
        if self.upstream is not None:
            self.upstream.gate.unhold(_PEER_FULL)
        if self.down is not None:
            self.down.go()

    # --- as the session's Client --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See Client."""
        self.sent += len(data)
        self.transport.write(data)

    def write_eof(self) -> None:
        """See Client."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()  # TLS: what comes from the client after our end has nowhere to go

    def finish(self) -> None:
        """See Client."""
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._to_session = _drop
        self._lingering = True
        self.gate.open()
        self.transport.write_eof()
        self.listener.loop.call_later(LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def close(self) -> None:
        """See Client."""
        self._lingering = True
        self.transport.close()

    def close_if_silent(self) -> bool:
        """See Client."""
        if self.transport.is_closing() or has_news(self.transport):
            return False
        self.close()
        return True

    def abort(self) -> None:
        """See Client."""
        self._lingering = True
        reset(self.transport)

    def hold(self, why: Hold) -> None:
        """See Client."""
        self.gate.hold(why)

    def unhold(self, why: Hold) -> None:
        """See Client."""
        self.gate.unhold(why)

    def pass_up(self, size: int, passed: Passed) -> None:
        """See Client."""
        if self.upstream is not None:
            self.up = self.listener.splices.begin(self, self.upstream, size, self._count_up, passed)

    def pass_down(self, size: int, passed: Passed) -> None:
        """See Client."""
        if self.upstream is not None:
            self.down = self.listener.splices.begin(self.upstream, self, size, self._count_down, passed)

    def _count_up(self, size: int) -> None:
        self.received += size

    def _count_down(self, size: int) -> None:
        self.sent += size

    def stop_passing(self) -> None:
        """One of the two connections ends."""
        for splice in (self.up, self.down):
            if splice is not None:
                splice.stop()
        self.up = self.down = None

    def connect(self, *, fresh: bool, careful: bool) -> UpstreamConnection | None:
        """See Client."""
        upstream = None if fresh else self.listener.pool.take(careful=careful)
        if upstream is None:
            self.listener.pool.want(self, fresh=fresh, careful=careful)
        else:
            self.upstream = upstream
            upstream.attach(self)
        return upstream

    def connected(self, upstream: UpstreamConnection) -> None:
        """The pool has the connection that was asked for."""
        self.upstream = upstream
        upstream.attach(self)
        self.session.upstream_ready(upstream)

    def stop_connecting(self) -> None:
        """See Client."""
        self.listener.pool.forget(self)

    def begin(self, method: bytes, target: bytes, *, is_work: bool) -> None:
        """See Client."""
        listener = self.listener
        now = listener.loop.time()
        work = self.work
        work.method = method.decode("latin-1")
        work.target = target.decode("latin-1")
        self._is_work = is_work
        if is_work:
            listener.ledger.enter(work, now)
        else:
            work.started_at = now
        self._since = now
        if self._waiting is _HEADER:
            listener.ledger.head_ended()
        self._waiting = _STREAM
        if listener.limits[_STREAM]:
            self._watch(now)

    def end(self, status: int, *, completed: bool) -> None:
        """See Client."""
        listener = self.listener
        now = listener.loop.time()
        work = self.work
        if self._is_work:
            listener.ledger.leave(work, completed=completed)
        listener.observer.exchange(work, status, now - work.started_at, completed=completed)
        self._rest(now)

    def stream_begun(self) -> Work:
        """See Client."""
        listener = self.listener
        now = listener.loop.time()
        work = Work(Kind.HTTP2, self.work.client)
        listener.ledger.enter(work, now)
        self._streams += 1
        if self._streams == 1:
            self._turn_to(_STREAM)
            self._since = now
            if listener.limits[_STREAM]:
                self._watch(now)
        return work

    def stream_ended(self, work: Work, *, completed: bool) -> None:
        """See Client."""
        listener = self.listener
        now = listener.loop.time()
        listener.ledger.leave(work, completed=completed)
        listener.observer.exchange(work, UNREAD if completed else 0, now - work.started_at, completed=completed)
        self._streams -= 1
        if not self._streams:
            self._turn_to(_IDLE)
            self._since = now
            if self.bucket is None and listener.limits[_IDLE]:
                self._watch(now)

    def now(self) -> float:
        """See Client."""
        return self.listener.loop.time()

    def upgraded(self, kind: Kind) -> None:
        """See Client."""
        self.work.kind = kind
        if self.listener.phase in LATE:
            self.listener.turns.again(self, self.listener.loop.time())

    def switch(self, session: Session) -> None:
        """See Client."""
        self.session = session
        self._to_session = session.client_bytes
        if self.upstream is not None:
            self.upstream.session = session

    def rejected(self, reason: Reason) -> None:
        """See Client."""
        self.listener.observer.rejected(reason)

    def upstream_error(self, reason: Reason) -> None:
        """See Client."""
        self.listener.observer.upstream_error(reason)

    def retried(self) -> None:
        """See Client."""
        self.listener.observer.retried()

    def wind_down(self) -> None:
        """It is this connection's turn to be asked to go. One that was only just made is about to say something."""
        now = self.listener.loop.time()
        if not self.received and now - self._since < ASK_AGAIN_S:
            self.listener.turns.again(self, now)
        else:
            self.session.wind_down()

    # --- time ---------------------------------------------------------------------------------------------------------

    def wait(self, what: Wait) -> None:
        """See Client."""
        self._turn_to(what)
        self._since = self.listener.loop.time()
        if self.listener.limits[what]:
            self._watch(self._since)

    def _turn_to(self, what: Wait) -> None:
        """Wait for this from now on. While part of a head has come, the ledger knows of it."""
        if what is _HEADER and self._waiting is not _HEADER:
            self.listener.ledger.head_begun()
        elif what is not _HEADER and self._waiting is _HEADER:
            self.listener.ledger.head_ended()
        self._waiting = what

    def _rest(self, now: float) -> None:
        """Between exchanges."""
        self._waiting = _IDLE
        self._since = now
        if self.bucket is None and self.listener.limits[_IDLE]:
            self._watch(now)
        if self.listener.phase is not _SERVING and self.listener.phase in LATE and self.session.idle:
            self.listener.turns.again(self, now)

    def _watch(self, now: float) -> None:
        limit = self.listener.limits[self._waiting]
        deadline = self._since + limit
        if self._waiting is _STREAM:
            deadline = min(deadline, now + limit / 4)  # bytes are only looked at, not timed: so look in between
        self.listener.timers.watch(self, deadline)

    def alarm(self, now: float) -> None:
        """See Timed."""
        if self._lingering:
            return
        if self._waiting is _STREAM and self.received + self.sent != self._moved:
            self._moved = self.received + self.sent
            self._since = now
        limit = self.listener.limits[self._waiting]
        if not limit:
            return
        if now >= self._since + limit:
            self.session.timed_out(self._waiting)
        else:
            self._watch(now)


def _drop(data: bytes) -> None:
    """What a client sends after the connection's last response."""


def new_request_id() -> bytes:
    """32 hexadecimal digits, unique for all practical purposes; not a secret."""
    return b"%032x" % random.getrandbits(128)


def peer_address(peername: object) -> str:
    """The client's IP address; `unix` for a unix socket. An IPv4 client of a dual-stack socket is shown as IPv4."""
    if not isinstance(peername, tuple) or not peername:
        return "unix"
    return str(peername[0]).removeprefix("::ffff:")


@lru_cache(maxsize=1024)
def forwarding(address: str, scheme: bytes) -> Forwarding:
    """What requests of a client with this address get added. Clients come back: made anew it would cost 0.6 µs."""
    return Forwarding(address.encode(), scheme, _is_near(address), new_request_id)


def _is_near(address: str) -> bool:
    """Whether the hop before us is part of the cluster: only then is what it says of the client's own request kept."""
    if address == "unix":
        return True
    try:
        return not ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False
