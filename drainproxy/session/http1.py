"""How does an HTTP/1 conversation go? One exchange after the other, streamed both ways, on two connections.

    request side   IDLE ─▶ HEAD ─▶ BODY ─▶ SENT ─▶ IDLE …           (or CLOSED: nothing more is read)
    response side  NONE ─▶ DIALLING ─▶ WAITING ─▶ ANSWERING ─▶ NONE …   (DIALLING again: sent once more)

`NEXT_REQUEST_STATES` and `NEXT_RESPONSE_STATES` have every step.

An exchange is open from the complete head on: exactly while the response side is not NONE. Requests that come while one
is being answered wait in `_pending`; answers keep the order of the requests. Any doubt about where a message ends
closes both connections: nothing of a bad message leaks into the next one.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Phase
from drainproxy.protocol.framing import Chunked, Length, UntilClose
from drainproxy.protocol.http1 import (
    REQUEST_TIMEOUT,
    SERVICE_UNAVAILABLE,
    SWITCHING_PROTOCOLS,
    as_hop,
    parse_request,
    parse_response,
)
from drainproxy.protocol.reasons import BadMessage, Reason
from drainproxy.protocol.replies import reply
from drainproxy.session.ports import Hold, Wait
from drainproxy.session.tunnel import TunnelSession
from drainproxy.session.websocket import WebSocketSession

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.protocol.framing import Framing
    from drainproxy.protocol.http1 import Forwarding, RequestHead, ResponseHead
    from drainproxy.session.ports import Client, Session, Upstream

WORTH_TWO_PIECES: Final = 16 * 1024
"""Bytes of a body behind its changed head from which on both are sent as two pieces: measured; fewer are copied."""
MAX_PENDING: Final = 64 * 1024
"""Bytes of further requests that are kept while one is being answered; then reading is held."""

WORTH_PASSING: Final = 256 * 1024
"""Bytes of a body still to come from which on it is worth while that they pass unread: measured; fewer are read."""


class RequestState(Enum):
    """The request side."""

    IDLE = "between requests"
    HEAD = "a head has begun"
    BODY = "a body is on its way"
    SENT = "complete"
    CLOSED = "nothing more is read"


class ResponseState(Enum):
    """The response side."""

    NONE = "nothing to answer"
    DIALLING = "admitted, without a connection to the app"
    WAITING = "the app has the request"
    ANSWERING = "the response is on its way"


NEXT_REQUEST_STATES: dict[RequestState, frozenset[RequestState]] = {
    RequestState.IDLE: frozenset(
        {RequestState.HEAD, RequestState.BODY, RequestState.SENT, RequestState.CLOSED},
    ),
    RequestState.HEAD: frozenset(
        {RequestState.IDLE, RequestState.BODY, RequestState.SENT, RequestState.CLOSED},  # IDLE: it was empty lines
    ),
    RequestState.BODY: frozenset({RequestState.SENT, RequestState.CLOSED}),
    RequestState.SENT: frozenset({RequestState.IDLE, RequestState.CLOSED}),
    RequestState.CLOSED: frozenset(),
}
NEXT_RESPONSE_STATES: dict[ResponseState, frozenset[ResponseState]] = {
    ResponseState.NONE: frozenset({ResponseState.DIALLING}),
    ResponseState.DIALLING: frozenset({ResponseState.WAITING, ResponseState.NONE}),
    ResponseState.WAITING: frozenset({ResponseState.ANSWERING, ResponseState.DIALLING, ResponseState.NONE}),
    ResponseState.ANSWERING: frozenset({ResponseState.NONE}),
}
"""Which state may follow which. The tests of every session watch each step (tests/support/transitions.py)."""

# Members as globals: CPython 3.11 looks one up through its class in Python code, some twenty times a request.
_IDLE: Final = RequestState.IDLE
_HEAD: Final = RequestState.HEAD
_BODY: Final = RequestState.BODY
_SENT: Final = RequestState.SENT
_CLOSED: Final = RequestState.CLOSED
_NONE: Final = ResponseState.NONE
_DIALLING: Final = ResponseState.DIALLING
_WAITING: Final = ResponseState.WAITING
_ANSWERING: Final = ResponseState.ANSWERING
_SERVING: Final = Phase.SERVING
_FORCING: Final = Phase.FORCING
_RESPONSE: Final = Wait.RESPONSE
_STREAM: Final = Wait.STREAM
_WELL: Final = Ended.WELL

_CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
_UPGRADE: Final = b"Connection: Upgrade\r\n"
_NO_APP: Final = reply(Reason.APP_UNAVAILABLE, head_only=True)
"""What a sibling says that has no app either. To the byte: an app may relay the like, which says nothing of itself."""
_NOT_FOR_THE_CLIENT: Final = frozenset((REQUEST_TIMEOUT, SERVICE_UNAVAILABLE))
"""Statuses that may be said of the connection, or of the sibling, and not of the request."""
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")
_WORTH_PARSING: Final = re.compile(rb"\r\n\r\n|(?<!\r)\n|\0|\A\r\n")
"""In what came of a head: its end, or a fault. Without either, more of it is awaited, at no cost."""


class Http1Session:
    """The conversation on one client connection. See Session for the contract."""

    __slots__ = (
        "_client", "_closing", "_config", "_eof", "_forwarding", "_outgoing", "_partial", "_pending", "_phase",
        "_request", "_request_body", "_request_state", "_response_body", "_response_state", "_retriable", "_reusable",
        "_status", "_upstream",
    )  # fmt: skip

    half_closes = False
    whole = False

    def __init__(self, client: Client, config: Config, forwarding: Forwarding, phase: Phase) -> None:
        self._client = client
        self._config = config
        self._forwarding = forwarding
        self._phase = phase
        self._request_state = _IDLE
        self._response_state = _NONE
        self._upstream: Upstream | None = None
        self._request: RequestHead | None = None
        self._request_body: Framing | None = None
        self._response_body: Framing | None = None
        self._pending = b""  # bytes of a head that is not complete, or of further requests
        self._partial = b""  # bytes of a response head that is not complete
        self._outgoing = b""  # what the app must get once there is a connection, or again on a retry
        self._retriable = False  # the request may be sent once more
        self._reusable = False  # the upstream connection may be used for the next exchange
        self._closing = False  # this exchange is the client connection's last
        self._eof = False  # the client has closed its side
        self._status = 0  # of the response, once its head was sent to the client

    def __repr__(self) -> str:
        return f"<Http1Session {self._request_state.name} {self._response_state.name} {self._phase.name}>"

    @property
    def idle(self) -> bool:
        return self._request_state is _IDLE and self._response_state is _NONE

    @property
    def hop(self) -> bool:
        request = self._request
        return self._forwarding.hopped or (request is not None and request.hop and self._forwarding.hops)

    def start(self) -> None:
        """Nothing is done before a request has come."""

    def client_bytes(self, data: bytes) -> None:
        state = self._request_state
        if state is _IDLE:
            self._read_head(data)
        elif state is _BODY:
            self._read_body(data)
        elif state is _HEAD:
            self._read_more_head(data)
        elif state is _SENT:
            self._pending += data
            if len(self._pending) > MAX_PENDING:
                self._client.hold(Hold.PIPELINE)

    def _read_head(self, data: bytes) -> None:
        if data[:1] == b"\r":  # RFC 9112 §2.2: empty lines before a request are tolerated
            data = _EMPTY_LINES.sub(b"", data, 1)
            if not data:
                self._request_state = _IDLE
                self._client.wait(Wait.IDLE)
                return
        try:
            head = parse_request(data, self._config.max_header_size) if data != b"\r" else None
        except BadMessage as bad:
            self._refuse(bad.reason)
            return
        if head is not None:
            self._begin(head, data)
        else:
            self._pending = data
            self._request_state = _HEAD
            self._client.wait(Wait.HEADER)

    def _read_more_head(self, data: bytes) -> None:
        before = len(self._pending)
        self._pending += data
        found = _WORTH_PARSING.search(self._pending, max(0, before - 3))
        if found or len(self._pending) > self._config.max_header_size:
            data, self._pending = self._pending, b""
            self._read_head(data)

    def _begin(self, head: RequestHead, data: bytes) -> None:
        """A request has arrived: admit it and find it a connection."""
        client = self._client
        self._request = head
        client.begin(head.method, head.target, is_work=not head.is_probe)
        self._response_state = _DIALLING
        self._status = 0
        self._closing = head.close
        if head.method == b"CONNECT":
            self._reject(Reason.CONNECT_METHOD)
            return
        if self._phase is _FORCING:
            self._reject(Reason.DRAINING, Ended.CUT)
            return
        if head.length or head.chunked:
            stop = self._open_body(head, data)
            if stop < 0:
                return
            self._retriable = False
        else:
            stop = head.end
            self._request_state = _SENT
            self._retriable = head.replayable
            if len(data) != stop:
                self._pending = data[stop:]
        upstream = client.connect(fresh=False, validate=not self._retriable)
        if upstream is not None and stop - head.end >= WORTH_TWO_PIECES and not upstream.sibling:
            self._outgoing = head.forward(self._forwarding, head.end)
            self._send(upstream, memoryview(data)[head.end : stop])
            return
        self._outgoing = head.forward(self._forwarding, stop)
        if upstream is not None:
            self._send(upstream)
        elif self._request_state is _BODY:
            client.hold(Hold.DIALLING)

    def _open_body(self, head: RequestHead, data: bytes) -> int:
        """Index in `data` behind what has come of the body; -1 if the request was refused."""
        limit = self._config.max_body
        if limit and (head.length or 0) > limit:
            self._reject(Reason.BODY_TOO_LARGE)
            return -1
        self._request_state = _BODY
        self._request_body = head.framing(self._config.max_header_size)
        return self._follow_body(self._request_body, data, head.end)

    def _follow_body(self, body: Framing, data: bytes, start: int) -> int:
        try:
            stop = body.feed(data, start)
        except BadMessage as bad:
            self._break_off(bad.reason)
            return -1
        if self._config.max_body and body.payload > self._config.max_body:
            self._break_off(Reason.BODY_TOO_LARGE)
            return -1
        if body.done:
            self._request_state = _SENT
            self._request_body = None
            if stop != len(data):
                self._pending = data[stop:]
        return stop

    def _read_body(self, data: bytes) -> None:
        """More of the request's body, and perhaps of what follows it."""
        assert self._request_body is not None, "a body is being read"
        stop = self._follow_body(self._request_body, data, 0)
        if stop < 0:
            return
        part = data if stop == len(data) else data[:stop]
        if self._upstream is None:
            self._outgoing += part
            return
        self._upstream.write(part)
        if self._request_state is _SENT and self._response_state is _WAITING:
            self._client.wait(_RESPONSE)

    def _passed_up(self, size: int) -> None:
        body = self._request_body
        assert isinstance(body, Length), "it was offered"
        body.skip(size)
        if body.done:
            self._request_state = _SENT
            self._request_body = None
            if self._response_state is _WAITING:
                self._client.wait(_RESPONSE)

    def client_eof(self) -> None:
        """A client that has sent its request may half-close and still read the answer (RFC 9112 §9.6).

        So may one that has gone: there is no telling them apart until the answer is sent (`departed-clients`).
        """
        self._eof = True
        if self._request_state is _BODY:
            self._break_off(Reason.INCOMPLETE_BODY, Ended.DEPARTED)
        elif self._request_state is not _SENT:
            self._request_state = _CLOSED
            self._client.close()
        elif self._config.departed_clients == "cut":
            self._request_state = _CLOSED
            self._give_up(Ended.DEPARTED)
            self._client.close()
        else:
            self._client.departed()
            if self._upstream is not None and not self._pending:
                self._reusable = False
                self._upstream.write_eof()  # the app sees what it would see without us

    def client_gone(self) -> None:
        self._request_state = _CLOSED
        self._give_up(Ended.DEPARTED)

    def upstream_ready(self, upstream: Upstream) -> None:
        self._client.unhold(Hold.DIALLING)
        self._send(upstream)

    def _send(self, upstream: Upstream, rest: memoryview | None = None) -> None:
        """`rest`: what is to be sent behind `_outgoing`, if that is not all."""
        self._upstream = upstream
        self._response_state = _WAITING
        self._retriable = self._retriable and upstream.reused
        if upstream.sibling:
            self._send_to_sibling(upstream)
        else:
            if rest is None:
                upstream.write(self._outgoing)
            else:
                upstream.write_both(self._outgoing, rest)
            if not self._retriable:
                self._outgoing = b""
        if self._request_state is _SENT:
            self._client.wait(_RESPONSE)
            if self._eof and not self._pending:
                upstream.write_eof()
            return
        body, request = self._request_body, self._request
        if isinstance(body, Length) and body.left >= WORTH_PASSING and request is not None and not request.upgrade:
            self._client.pass_up(body.left, self._passed_up)

    def _send_to_sibling(self, upstream: Upstream) -> None:
        """The request is kept while it is whole: a sibling may turn it down, and another one be asked."""
        upstream.write(as_hop(self._outgoing))
        if self._request_state is not _SENT:
            self._outgoing = b""

    def upstream_refused(self, reason: Reason) -> None:
        if reason is Reason.APP_UNAVAILABLE:
            self._answer_ourselves(reason, Ended.BROKEN)
        else:
            self._client.upstream_error(reason)
            self._hand_over()

    def _hand_over(self, *, turned_down: bool = False) -> None:
        """The app cannot be had: a sibling may. What a sibling has handed over itself goes nowhere else: no loops."""
        request = self._request
        assert request is not None, "a connection is asked for by a request"
        request.attempts += 1
        if self.hop or not self._client.hand_over(request.attempts, turned_down=turned_down):
            self._answer_ourselves(Reason.APP_UNAVAILABLE, Ended.BROKEN)

    def upstream_bytes(self, data: bytes) -> None:
        if self._response_state is _WAITING:
            if self._partial:
                data = self._partial + data
            self._read_response_head(data)
        else:
            self._read_response_body(data)

    def _read_response_head(self, data: bytes) -> None:
        limit = self._config.max_header_size
        try:
            head = parse_response(data, limit)
            while head is not None and head.is_interim and head.status != SWITCHING_PROTOCOLS:
                self._relay_interim(head)
                data = data[head.end :]
                head = parse_response(data, limit) if data else None
        except BadMessage as bad:
            self._client.upstream_error(bad.reason)
            self._answer_ourselves(Reason.UPSTREAM_BAD_RESPONSE, Ended.BROKEN)
            return
        if head is None:
            self._partial = data
            self._retriable = False
            return
        if head.status in _NOT_FOR_THE_CLIENT and self._is_asked_elsewhere(head, data):
            return
        self._partial = b""
        if head.status == SWITCHING_PROTOCOLS:
            self._open_tunnel(head, data)
        else:
            self._relay_response(head, data)

    def _is_asked_elsewhere(self, head: ResponseHead, data: bytes) -> bool:
        upstream = self._upstream
        assert upstream is not None, "a response comes from an upstream"
        if head.status == REQUEST_TIMEOUT:
            # Said to the idle connection, not to this request, whose answer it would become (RFC 9110 §15.5.9).
            if self._retriable:
                self._retry_elsewhere()
                return True
            return False
        if not (upstream.sibling and self._outgoing and data[: head.end] == _NO_APP):
            return False
        self._upstream = None
        self._partial = b""
        upstream.discard()
        self._response_state = _DIALLING
        self._hand_over(turned_down=True)
        return True

    def _relay_interim(self, head: ResponseHead) -> None:
        self._retriable = False
        if self._request is not None and self._request.minor:
            self._client.write(head.forward(b"", head.end))

    def _relay_response(self, head: ResponseHead, data: bytes) -> None:
        """The final head has come, and often the whole body with it."""
        request = self._request
        assert request is not None, "a response belongs to a request"
        self._response_state = _ANSWERING
        self._status = head.status
        length = head.length
        self._reusable = not head.close and not self._eof
        if self._is_last(request, head):
            self._closing = True
        connection = _CLOSE if self._closing else b"" if request.minor else _KEEP_ALIVE
        size = len(data)
        decode = head.chunked and not request.minor
        if head.is_bodyless(request.method):
            self._client.write(head.forward(connection, head.end, decode=decode))
            self._end_response(poisoned=head.end != size)
        elif length is not None and size - head.end == length:
            self._relay_head(head, connection, data, size)
            self._end_response(poisoned=False)
        elif decode:
            self._response_body = head.framing(self._config.max_header_size, decode=True)
            self._client.write(head.forward(connection, head.end, decode=True))
            self._client.wait(_STREAM)
            if size != head.end:
                self._read_response_body(data[head.end :])
        else:
            self._begin_body(head, connection, data)

    def _relay_head(self, head: ResponseHead, connection: bytes, data: bytes, stop: int) -> None:
        """The client gets the head, and with it what is behind it in `data`, up to `stop`."""
        if stop - head.end < WORTH_TWO_PIECES or head.stays(connection):
            self._client.write(head.forward(connection, stop))
        else:
            self._client.write_both(head.forward(connection, head.end), memoryview(data)[head.end : stop])

    def _begin_body(self, head: ResponseHead, connection: bytes, data: bytes) -> None:
        """Of the body, a part has come with the head, or nothing; or more than it has."""
        self._response_body = body = head.framing(self._config.max_header_size, decode=False)
        try:
            stop = body.feed(data, head.end)
        except BadMessage as bad:
            self._client.write(head.forward(connection, head.end))
            self._cut(bad.reason, Ended.BROKEN)
            return
        self._relay_head(head, connection, data, stop)
        if body.done:
            self._end_response(poisoned=stop != len(data))
            return
        self._client.wait(_STREAM)
        if isinstance(body, Length) and body.left >= WORTH_PASSING:
            self._client.pass_down(body.left, self._passed_down)

    def _is_last(self, request: RequestHead, head: ResponseHead) -> bool:
        """Whether the response says `Connection: close`.

        During a drain every one does, except those that further requests already wait behind: their answers could not
        be sent any more. An unfinished upload cannot be told from a next request. A body that ends with the connection,
        or that loses its chunks for an HTTP/1.0 client, needs the close as its end.
        """
        if self._phase is not _SERVING and not self._pending:
            return True
        if self._request_state is _BODY:
            return True
        ends_with_close = head.length is None and not (head.chunked and request.minor)
        return ends_with_close and not head.is_bodyless(request.method)

    def _read_response_body(self, data: bytes) -> None:
        body = self._response_body
        if body is None:
            self._cut(Reason.UNASKED_BYTES, Ended.BROKEN)
            return
        try:
            stop = body.feed(data, 0)
        except BadMessage as bad:
            self._cut(bad.reason, Ended.BROKEN)
            return
        if isinstance(body, Chunked) and body.decoding:
            self._client.write(b"".join(body.spans))
        else:
            self._client.write(data if stop == len(data) else data[:stop])
        if body.done:
            self._end_response(poisoned=stop != len(data))

    def _passed_down(self, size: int) -> None:
        """What the app has sent behind the body has not been seen yet."""
        body, upstream = self._response_body, self._upstream
        assert isinstance(body, Length) and upstream is not None, "it was offered"
        body.skip(size)
        if body.done:
            self._end_response(poisoned=not upstream.is_silent())

    def upstream_closed(self, *, clean: bool) -> None:
        self._upstream = None
        if self._response_state is _WAITING:
            self._answer_missing()
            return
        body = self._response_body
        if body is not None and clean and body.end():
            self._reusable = False
            self._end_response(poisoned=True)
        else:
            self._cut(Reason.CLOSED_EARLY, Ended.BROKEN)

    def _retry_elsewhere(self) -> None:
        upstream, self._upstream = self._upstream, None
        assert upstream is not None, "a response comes from an upstream"
        upstream.abort()
        self._answer_missing()

    def _answer_missing(self) -> None:
        """The app has closed before it answered: once more if that is safe (RFC 9110 §9.2.2), else 502."""
        if not self._retriable:
            self._client.upstream_error(Reason.CLOSED_EARLY)
            self._answer_ourselves(Reason.UPSTREAM_BROKE, Ended.BROKEN)
            return
        self._retriable = False
        self._client.retried()
        self._response_state = _DIALLING
        upstream = self._client.connect(fresh=True, validate=False)
        if upstream is not None:
            self._send(upstream)

    def _open_tunnel(self, head: ResponseHead, data: bytes) -> None:
        request, upstream = self._request, self._upstream
        assert request is not None, "a response belongs to a request"
        assert upstream is not None, "a response comes from an upstream"
        if not request.upgrade:
            self._client.upstream_error(Reason.UNASKED_UPGRADE)
            self._answer_ourselves(Reason.UPSTREAM_BAD_RESPONSE, Ended.BROKEN)
            return
        kind = Kind.WEBSOCKET if request.upgrade == b"websocket" else Kind.TCP
        client = self._client
        client.upgraded(kind)
        if kind is Kind.WEBSOCKET:
            patient = self._config.websocket_drain == "wait"
            tunnel: Session = WebSocketSession(client, upstream, self._phase, patient=patient)
        else:
            tunnel = TunnelSession(client, upstream)
        client.switch(tunnel)
        client.wait(_STREAM)
        client.write(head.forward(_UPGRADE, head.end))
        if len(data) != head.end:
            tunnel.upstream_bytes(data[head.end :])
        if self._pending:
            client.unhold(Hold.PIPELINE)
            tunnel.client_bytes(self._pending)
        if self._eof:
            tunnel.client_eof()

    def _end_response(self, *, poisoned: bool) -> None:
        """The response is complete. With the request complete, too, so is the exchange.

        `poisoned`: bytes that nobody asked for stand behind the response; they must not become the next one.
        """
        if self._request_state is _BODY:
            self._request_body = None
            self._give_up(Ended.WELL)
            self._request_state = _CLOSED
            self._client.finish()
            return
        upstream = self._upstream
        self._upstream = None
        if upstream is not None:
            if self._reusable and not poisoned:
                upstream.release()
            else:
                upstream.discard()
        self._response_state = _NONE
        self._response_body = None
        self._request_state = _CLOSED if self._closing else _IDLE
        self._client.end(self._status, _WELL)
        self._next()

    def _next(self) -> None:
        """What follows a complete exchange on this connection."""
        if self._closing:
            assert self._request is not None, "the last exchange had one"
            if self._request.close and not self._pending:
                self._client.close()  # it asked for it, and sends nothing more
            else:
                self._client.finish()
            self._request = None
            return
        self._request = None  # nothing of an exchange is kept for an idle connection: it may have been large
        self._outgoing = b""
        if self._pending:
            data, self._pending = self._pending, b""
            self._read_head(data)
            if self._request_state is not _SENT or len(self._pending) <= MAX_PENDING:
                self._client.unhold(Hold.PIPELINE)
        if self._eof and self._request_state is not _SENT:
            self.client_eof()

    def _give_up(self, ended: Ended) -> None:
        """End the exchange, the connection's last, as it stands. Whatever the app still does for it is cut."""
        upstream = self._upstream
        self._upstream = None
        if upstream is not None:
            upstream.abort()
        elif self._response_state is _DIALLING:
            self._client.stop_connecting()
            self._client.unhold(Hold.DIALLING)
        self._request = None
        self._response_body = None
        self._partial = self._outgoing = self._pending = b""
        if self._response_state is not _NONE:
            self._response_state = _NONE
            self._client.end(self._status, ended)

    def _answer_ourselves(self, reason: Reason, ended: Ended) -> None:
        """Answer in the app's place, end the exchange and the connection."""
        head_only = self._request is not None and self._request.method == b"HEAD"
        self._status = reason.status or 0
        self._request_state = _CLOSED
        self._client.write(reply(reason, head_only=head_only))
        self._give_up(ended)
        self._client.finish()

    def _reject(self, reason: Reason, ended: Ended = Ended.REFUSED) -> None:
        """Answer a request that is not let through."""
        self._client.rejected(reason)
        self._answer_ourselves(reason, ended)

    def _refuse(self, reason: Reason) -> None:
        """Answer what never became a request."""
        self._client.begin(b"", b"", is_work=False)
        self._response_state = _DIALLING
        self._request = None
        self._reject(reason)

    def _break_off(self, reason: Reason, ended: Ended = Ended.REFUSED) -> None:
        """The request turns out bad in its body: the app must not take what it got for the whole."""
        if self._response_state is _ANSWERING:
            self._client.rejected(reason)
            self._cut(None, ended)
        else:
            self._reject(reason, ended)

    def _cut(self, upstream_error: Reason | None, ended: Ended) -> None:
        """The response has begun and cannot be completed: end so that the client notices."""
        if upstream_error is not None:
            self._client.upstream_error(upstream_error)
        ends_with_close = isinstance(self._response_body, UntilClose) or (
            isinstance(self._response_body, Chunked) and self._response_body.decoding
        )
        self._request_state = _CLOSED
        self._give_up(ended)
        if ends_with_close:
            self._client.abort()
        else:
            self._client.close()

    def timed_out(self, what: Wait) -> None:
        if what is Wait.IDLE:
            self.wind_down()
        elif what is Wait.HEADER and self._request_state is _HEAD:
            self._refuse(Reason.HEADER_TIMEOUT)
        elif self._response_state is _ANSWERING:
            self._cut(Reason.TIMEOUT, Ended.TIMED_OUT)
        elif self._response_state is not _NONE and self._request_state is _BODY:
            self._reject(Reason.BODY_TIMEOUT)
        elif self._response_state is not _NONE:
            self._client.upstream_error(Reason.TIMEOUT)
            self._answer_ourselves(Reason.RESPONSE_TIMEOUT, Ended.TIMED_OUT)

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is not _FORCING:
            return
        if self._response_state is _ANSWERING:
            self._cut(None, Ended.CUT)
        elif self._response_state is _DIALLING and self._client.rescue():
            pass  # the app has seen nothing of it
        elif self._response_state is not _NONE:
            self._reject(Reason.DRAINING, Ended.CUT)
        elif self._request_state is _HEAD:
            self._refuse(Reason.DRAINING)

    def wind_down(self) -> None:
        """An exchange that is open says `Connection: close` when it is answered."""
        if self.idle and self._client.close_if_silent():
            self._request_state = _CLOSED
