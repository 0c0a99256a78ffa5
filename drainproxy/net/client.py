"""One client's connection: the socket on one side, its session on the other, and nothing decided in between."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, cast

from drainproxy.drain.handover import Why
from drainproxy.drain.ledger import Ended, Kind, Work
from drainproxy.drain.phase import LATE, Phase
from drainproxy.drain.turns import ASK_AGAIN_S
from drainproxy.net.closing import Closing
from drainproxy.net.flow import ReadGate, Taken, all_taken, half_close, readable, reset
from drainproxy.net.pair import Pair
from drainproxy.net.peer import forwarding, peer_address
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.net.waits import Waits
from drainproxy.protocol.reasons import Reason
from drainproxy.session.ports import UNREAD, Wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.drain.turns import Turns
    from drainproxy.net.route import RouteContext
    from drainproxy.net.successor import Handover
    from drainproxy.protocol.hello import Question
    from drainproxy.protocol.http1 import Forwarding
    from drainproxy.session.ports import Hold, Passed, Session

P = ParamSpec("P")

_IDLE: Final = Wait.IDLE  # as globals: see net/pair.py
_STREAM: Final = Wait.STREAM
_SERVING: Final = Phase.SERVING
_WELL: Final = Ended.WELL
_APP_GONE: Final = Why.APP_GONE
_DRAIN: Final = Why.DRAIN
_REFUSED: Final = Reason.CONNECT_REFUSED

TLS_BUFFER: Final = 64 * 1024
"""Bytes that wait for a TLS client before the app is not read any more. The loop's own limit is eight times this."""
LINGER_S: Final = 2.0
"""How long a connection that we end is still read from, so that our last bytes are not lost to a reset."""


class Owner(Protocol):
    """Who accepts clients: it knows every open connection, and tells their sessions of the phase."""

    phase: Phase
    diverting: bool
    turns: Turns[ClientConnection]

    def opened(self, connection: ClientConnection) -> None:
        """A client has connected."""

    def closed(self, connection: ClientConnection) -> None:
        """Its connection has ended."""


class ClientConnection:
    """A client socket (an asyncio.Protocol in all but name: docs/compiled.md), and the Client port of its session."""

    __slots__ = (
        "_closing", "_elsewhere", "_is_work", "_owner", "_reported", "_route", "_said_all", "_streams", "_through",
        "_to_session", "_unconfirmed", "full", "gate", "handshake", "pair", "received", "sent", "transport", "waits",
        "work",
    )  # fmt: skip

    transport: asyncio.Transport
    gate: ReadGate
    pair: Pair
    waits: Waits
    work: Work
    _to_session: Callable[[bytes], None]

    def __init__(self, route: RouteContext, owner: Owner) -> None:
        # Nothing made here may refer to the connection: a handshake that fails must let it go at once (Listener).
        self.full = False
        self.handshake: object = None
        """By this the owner counts a TLS client until `opened`: it lives no longer than the connection."""
        self.received = 0
        self.sent = 0
        self._route = route
        self._owner = owner
        self._reported = (0, 0)
        self._elsewhere = False  # the upstream that was lent last is a sibling's
        self._is_work = False
        self._through = False  # the session has ended the connection, and wants to hear no more of it
        self._said_all = False  # nothing may be written any more: we have half-closed
        self._closing: Closing | None = None
        self._streams = 0
        # Answers to a client that has sent FIN: work, status, duration. Open until it is known whether they arrived.
        self._unconfirmed: tuple[tuple[Work, int, float], ...] = ()

    @property
    def session(self) -> Session:
        """Who has the conversation now."""
        return self.pair.session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        route = self._route
        self.transport = cast("asyncio.Transport", transport)
        self.gate = ReadGate(self.transport)
        if route.tls:
            self.transport.set_write_buffer_limits(high=TLS_BUFFER)
        address = peer_address(transport.get_extra_info("peername"))
        self.work = Work(Kind.HTTP, address)
        added = forwarding(address, route.scheme, route.handover is not None)
        if route.tracing is not None:
            added = replace(added, trace=route.tracing.for_work(self.work))
        session = self._hello(added) if added.hops else route.session_for(self, added, self._owner.phase)
        self.pair = Pair(self, session, route.splices)
        self._to_session = session.client_bytes
        self._owner.opened(self)
        now = route.loop.time()
        self.waits = Waits(self, route, now)
        if session.idle:
            self._ask_again_if_late(now)
        session.start()

    def _hello(self, added: Forwarding) -> Session:
        """A client that may be a sibling."""

        def conversation(hop: bool) -> Session:
            return self._route.session_for(self, replace(added, hopped=True) if hop else added, self._owner.phase)

        return self._handover.hello(self, conversation)

    @property
    def _handover(self) -> Handover:
        handover = self._route.handover
        assert handover is not None, "siblings matter where there is a successor"
        return handover

    def introduce(self, question: Question) -> bytes:
        return self._handover.introduce(question)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._to_session(data)

    def eof_received(self) -> bool:
        """The client sends no more. It may still read: the session decides when the connection ends."""
        if self._through:
            return False
        self.pair.session.client_eof()
        return not self._route.tls  # TLS knows no half-closed connection in asyncio: there the connection ends

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self.pair.stop_passing()
            if not self._through:
                self.pair.session.client_gone()
            if self._unconfirmed:
                self._confirm(arrived=exc is None and self._closing is not None and self._closing.delivered)
        finally:  # whatever failed: nothing is kept of a connection that has ended, and no place
            if self._closing is not None:
                self._closing.stop()
            self.waits.stop()
            self.report()
            self._owner.closed(self)

    def pause_writing(self) -> None:
        self.full = True
        self.pair.client_full()

    def resume_writing(self) -> None:
        self.full = False
        self.pair.client_drained()

    def write(self, data: bytes) -> None:
        if not self._said_all:
            self.sent += len(data)
            self.transport.write(data)

    def write_both(self, first: bytes, second: memoryview) -> None:
        # The stock loop's writelines fails on a lost connection, on some versions of Python (cpython issue 136234).
        if not self._said_all and not self.transport.is_closing():
            self.sent += len(first) + len(second)
            self.transport.writelines((first, second))

    def write_eof(self) -> None:
        if self._said_all or self.transport.is_closing():
            return
        self._said_all = True
        if self.transport.can_write_eof():
            half_close(self.transport)
        else:
            self._end()  # TLS: what comes from the client after our end has nowhere to go

    def finish(self) -> None:
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.close()
            return
        self.write_eof()
        self._through = True
        self._to_session = _drop
        self.gate.open()
        self._end(linger_s=LINGER_S)

    def close(self) -> None:
        self._through = True
        if self._unconfirmed and self.transport.can_write_eof():
            self.write_eof()
        self._end()

    def _end(self, *, linger_s: float = 0.0) -> None:
        if self._closing is not None:
            self._closing.stop()
        now, confirm = self._route.loop.time(), bool(self._unconfirmed)
        self._closing = Closing(self.transport, self._route.timers, now, linger_s=linger_s, acknowledged=confirm)

    def close_if_silent(self) -> bool:
        if self.transport.is_closing() or readable(self.transport):
            return False
        self.close()
        return True

    def abort(self) -> None:
        self._through = True
        reset(self.transport)

    def hold(self, why: Hold) -> None:
        self.gate.hold(why)

    def unhold(self, why: Hold) -> None:
        self.gate.unhold(why)

    def pass_up(self, size: int, passed: Passed) -> None:
        self.pair.pass_up(size, self._count_up, passed)

    def pass_down(self, size: int, passed: Passed) -> None:
        self.pair.pass_down(size, self._count_down, passed)

    def _count_up(self, size: int) -> None:
        self.received += size

    def _count_down(self, size: int) -> None:
        self.sent += size

    def connect(self, *, fresh: bool, validate: bool) -> UpstreamConnection | None:
        upstream = None if fresh else self._route.pool.take(validate=validate)
        if upstream is None:
            return self._connect_anew(fresh=fresh, validate=validate)
        upstream.lend(self.pair)
        return upstream

    def _connect_anew(self, *, fresh: bool, validate: bool) -> UpstreamConnection | None:
        """No connection to the app is idle: one is made, or a sibling answers."""
        route, session, diverting = self._route, self.pair.session, self._owner.diverting
        if session.hop or not (diverting or route.dialler.skips()):
            route.dialler.want(self, fresh=fresh, validate=validate)
            return None
        if not diverting:
            route.observer.upstream_error(_REFUSED)  # as if it had been asked
        sibling = None if fresh or session.whole else self._handover.lend(self._why, validate=validate)
        if sibling is None:
            self._find_sibling(fresh=fresh)
        else:
            sibling.lend(self.pair)
            self._elsewhere = True
            route.ledger.goes_elsewhere(self.work)
        return sibling

    @property
    def stays_with_the_app_before(self) -> bool:
        """It has a connection to the process that the app was, and will not give it back by itself soon."""
        upstream = cast("UpstreamConnection | None", self.pair.upstream)
        if upstream is None or upstream.sibling or not self.pair.session.whole:
            return False
        return upstream.epoch != self._route.pool.epoch

    def connected(self, upstream: UpstreamConnection) -> None:
        upstream.lend(self.pair)
        self._elsewhere = upstream.sibling
        if self._elsewhere:
            self._route.ledger.goes_elsewhere(self.work)
        else:
            self._route.ledger.comes_back(self.work)
        self.pair.session.upstream_ready(upstream)

    def refused(self, reason: Reason) -> None:
        self.pair.session.upstream_refused(reason)

    def hand_over(self, attempt: int, *, turned_down: bool = False) -> bool:
        handover = self._route.handover
        if handover is None or handover.closed or self.pair.session.hop:
            return False
        if turned_down and not handover.turned_down(self._why, attempt):
            return False
        self._find_sibling(fresh=turned_down)
        return True

    def rescue(self) -> bool:
        self.stop_connecting()
        return self.hand_over(1)

    @property
    def _why(self) -> Why:
        return _APP_GONE if self._owner.phase is _SERVING else _DRAIN

    def _find_sibling(self, *, fresh: bool) -> None:
        whole = self.pair.session.whole
        asked_at = self._route.loop.time() if whole else self.work.started_at
        self._handover.find(self, self._why, asked_at, whole=whole, fresh=fresh)

    def stop_connecting(self) -> None:
        self._route.pool.forget(self)
        if self._route.handover is not None:
            self._route.handover.forget(self)

    def begin(self, method: bytes, target: bytes, *, is_work: bool) -> None:
        route = self._route
        now = route.loop.time()
        work = self.work
        if work.client_left:
            self._confirm(arrived=True)  # one of several requests that came together: it was not the last word
        work.method = method.decode("latin-1")
        work.target = target.decode("latin-1")
        self._is_work = is_work
        if is_work:
            route.ledger.enter(work, now)
        else:
            work.started_at = now
        self.waits.begin(_STREAM, now)

    def end(self, status: int, ended: Ended) -> None:
        route = self._route
        now = route.loop.time()
        work = self.work
        if work.client_left and ended is _WELL:
            self._unconfirmed += ((work, status, now - work.started_at),)
        else:
            if self._is_work:
                route.ledger.leave(work, now, ended)
            route.observer.exchange(work, status, now - work.started_at, completed=ended is _WELL)
        if self._elsewhere:
            self._elsewhere = False
            self._handover.handed.took(now - work.started_at)
            work.handed_over = work.client_left  # else it is used again
        self.waits.begin(_IDLE, now)
        if self._owner.phase is not _SERVING and self.pair.session.idle:
            self._ask_again_if_late(now)

    def stream_begun(self) -> Work:
        route = self._route
        now = route.loop.time()
        work = Work(Kind.HTTP2, self.work.client)
        route.ledger.enter(work, now)
        if self._elsewhere:
            route.ledger.goes_elsewhere(work)
        self._streams += 1
        if self._streams == 1:
            self.waits.begin(_STREAM, now)
        return work

    def stream_ended(self, work: Work, ended: Ended) -> None:
        route = self._route
        now = route.loop.time()
        completed = ended is _WELL
        if work.client_left and completed:
            self._unconfirmed += ((work, UNREAD, now - work.started_at),)
        else:
            route.ledger.leave(work, now, ended)
            route.observer.exchange(work, UNREAD if completed else 0, now - work.started_at, completed=completed)
        if self._elsewhere:
            self._handover.handed.took(now - work.started_at)
        self._streams -= 1
        if not self._streams:
            self.waits.begin(_IDLE, now)

    def goes_elsewhere(self, work: Work | None = None) -> None:
        self._route.ledger.goes_elsewhere(work or self.work)

    @property
    def bound(self) -> bool:
        """It holds a connection to our app, perhaps for longer than one exchange."""
        upstream = self.pair.upstream
        return isinstance(upstream, UpstreamConnection) and not upstream.sibling

    def departed(self) -> None:
        self.work.client_left = True

    def _confirm(self, *, arrived: bool) -> None:
        """It is known what became of the answers to a client that has sent FIN."""
        unconfirmed, self._unconfirmed = self._unconfirmed, ()
        route, now = self._route, self._route.loop.time()
        ended = _WELL if arrived else Ended.DEPARTED
        for work, status, duration_s in unconfirmed:
            if self._is_work or work is not self.work:
                route.ledger.leave(work, now, ended)
            route.observer.exchange(work, status, duration_s, completed=arrived)

    def now(self) -> float:
        return self._route.loop.time()

    def upgraded(self, kind: Kind) -> None:
        self.work.kind = kind
        self.work.client_left = False  # in a tunnel each direction ends on its own
        self._ask_again_if_late(self.now())

    def farewell_begun(self) -> None:
        self._route.ledger.farewell_begun()

    def farewell_ended(self) -> None:
        self._route.ledger.farewell_ended()

    def ask_again(self) -> None:
        self._owner.turns.again(self, self.now())

    def switch(self, session: Session) -> None:
        self.pair.session = session
        self._to_session = session.client_bytes

    def wait(self, what: Wait) -> None:
        self.waits.begin(what, self._route.loop.time())

    def timed_out(self, what: Wait) -> None:
        if not self._through:
            self._guard(self.pair.session.timed_out, what)

    def enter(self, phase: Phase) -> None:
        """The drain has moved on."""
        if not self._through:
            self._guard(self.pair.session.enter, phase)
        elif phase is Phase.FORCING and self._unconfirmed:
            self._confirm(arrived=all_taken(self.transport) is Taken.ALL)

    def _guard(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Whoever calls this has others to call, too: a session that fails ends its own connection, and no more."""
        try:
            step(*args, **kwargs)
        except Exception as error:
            context = {"message": "a session failed: its connection is cut", "exception": error}
            self._route.loop.call_exception_handler(context)
            reset(self.transport)

    def rejected(self, reason: Reason) -> None:
        self._route.observer.rejected(reason)

    def upstream_error(self, reason: Reason) -> None:
        self._route.observer.upstream_error(reason)

    def retried(self) -> None:
        self._route.observer.retried()

    def report(self) -> None:
        """Hand the bytes that were carried since the last report to the observer."""
        before_up, before_down = self._reported
        self._reported = (self.received, self.sent)
        self._route.observer.transferred(self.received - before_up, self.sent - before_down)

    def _ask_again_if_late(self, now: float) -> None:
        if self._owner.phase in LATE:
            self._owner.turns.again(self, now)

    def wind_down(self) -> None:
        """It is this connection's turn to be asked to go. One that was only just made is about to say something."""
        now = self._route.loop.time()
        if not self.received and now - self.waits.since < ASK_AGAIN_S:
            self._owner.turns.again(self, now)
        elif not self._through:
            self._guard(self.pair.session.wind_down)


def _drop(data: bytes) -> None:
    """What a client sends after the connection's last response."""
