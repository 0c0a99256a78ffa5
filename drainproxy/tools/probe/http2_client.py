"""What does an HTTP/2 client see during a rollout? One stream in, one `Reply` out, over h2 (sans-I/O).

A connection that the server asked to leave (GOAWAY) gets no new stream and ends with its last one: that is no failure.
A stream that the server says it has not processed (REFUSED_STREAM, or above GOAWAY's last stream; RFC 9113 section 8.7)
may be sent again: `retry` does that, and says so. h2 takes every GOAWAY for the end of all streams
(python-hyper/h2#1181), so GOAWAY is read here and kept from it.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from drainproxy.protocol import http2 as frames
from drainproxy.tools.probe import verdict
from drainproxy.tools.probe.faults import classify
from drainproxy.tools.probe.http_client import IDEMPOTENT
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.tools.probe.load import Traffic

_REFUSED = "the server did not process the stream"
_GOAWAY_SIZE = 8
HELLO = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 2, 0))
"""The preface and SETTINGS_ENABLE_PUSH = 0: all else is as RFC 9113 has it, and so as h2 assumes it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect, and how."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None = None


class Http2Client:
    """Streams over kept connections that take turns, and over one of its own where the traffic asks for a fresh one."""

    def __init__(
        self,
        traffic: Traffic,
        place: Place,
        target: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        ok: Callable[[int], bool] = lambda status: status < 400,  # noqa: PLR2004 - RFC 9110: 4xx and 5xx are errors
        retry: bool = False,
    ) -> None:
        self.on_loss: Callable[[Reply], None] = lambda _: None
        self._traffic, self._place = traffic, place
        self._body, self._ok = body, ok
        self._retry = retry and method.upper() in IDEMPOTENT
        host = f"[{place.host}]" if ":" in place.host else place.host
        self._head = [
            (":method", method.upper()),
            (":scheme", "https" if place.tls else "http"),
            (":authority", f"{host}:{place.port}"),
            (":path", target),
            *((name.lower(), value) for name, value in traffic.headers),
        ]
        if body:
            self._head.append(("content-length", str(len(body))))
        self._kept: list[_Connection | None] = [None] * traffic.connections
        self._turn = 0

    async def send(self, number: int) -> Reply:
        """One request; the failure class says how it ended if not well."""
        fresh = self._traffic.wants_fresh(number)
        reply = await self._once(fresh=fresh)
        if self._retry and reply.fault == verdict.STREAM_RESET and reply.detail == _REFUSED:
            return replace(await self._once(fresh=True), retried=True)
        return reply

    async def close(self) -> None:
        for connection in self._kept:
            if connection is not None:
                connection.close()

    async def _once(self, *, fresh: bool) -> Reply:
        stream = _Stream()
        try:
            async with asyncio.timeout(self._traffic.timeout_s):
                if fresh:
                    connection = await self._connect()
                    try:
                        await connection.exchange(self._head, self._body, stream)
                    finally:
                        connection.close()
                else:
                    await (await self._next()).exchange(self._head, self._body, stream)
        except TimeoutError:
            return Reply(verdict.TIMEOUT, f"nothing complete after {self._traffic.timeout_s:g} s", reused=stream.reused)
        except (OSError, ssl.SSLError) as error:
            fault, detail = classify(error)
            return Reply(fault, detail, reused=stream.reused)
        return self._reply(stream)

    def _reply(self, stream: _Stream) -> Reply:
        fault, detail = stream.fault, stream.detail
        if not fault and not self._ok(stream.status):
            fault = detail = str(stream.status)
        pod = stream.fields.get(self._traffic.pod_header.lower(), "")
        return Reply(fault, detail, stream.status, pod, stream.size, stream.reused)

    async def _next(self) -> _Connection:
        """The next kept connection in turn, made anew if the server has ended it or asked to leave."""
        place = self._turn % len(self._kept)
        self._turn += 1
        connection = self._kept[place]
        if connection is None or connection.leaving:
            connection = self._kept[place] = await self._connect()
        return connection

    async def _connect(self) -> _Connection:
        name = (self._place.server_name or self._place.host) if self._place.tls else None
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, self._place.host, self._place.port, ssl=self._place.tls, server_hostname=name
        )
        return connection


@dataclass(slots=True)
class _Stream:
    """One exchange under way; `done` is set at its end, whatever that was."""

    status: int = 0
    size: int = 0
    fault: str = ""
    detail: str = ""
    reused: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    unsent: bytes = b""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, fault: str, detail: str) -> None:
        if not self.done.is_set():
            self.fault, self.detail = fault, detail
            self.done.set()


class _Connection(asyncio.Protocol):
    """One connection: bytes to h2, its events to the streams they are for."""

    def __init__(self) -> None:
        self.leaving = False
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._streams: dict[int, _Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._used = False
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a connection has a transport that writes"
        self._transport = transport
        self._h2.initiate_connection()
        self._h2.data_to_send()
        transport.write(HELLO)

    async def exchange(self, head: list[tuple[str, str]], body: bytes, stream: _Stream) -> None:
        """Send a request, and wait for the end of its response."""
        stream.reused, self._used = self._used, True
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, head, end_stream=not body)
        except h2.exceptions.ProtocolError:
            stream.fail(verdict.STREAM_RESET, _REFUSED)  # the server allows no more streams now, or the ids are used up
            return
        stream.unsent = body
        self._streams[number] = stream
        self._send_bodies()
        try:
            await stream.done.wait()
        finally:
            del self._streams[number]

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        try:
            while frame := self._next_frame():
                if frame[3] == frames.GOAWAY and len(frame) >= frames.HEADER_SIZE + _GOAWAY_SIZE:
                    self._leave(int.from_bytes(frame[9:13]) & frames.MAX_STREAM_ID)
                    continue
                for event in self._h2.receive_data(frame):
                    self._hear(event)
        except h2.exceptions.ProtocolError:
            self._end(verdict.BAD_REPLY, "what came back is not valid HTTP/2")
            self.close()
            return
        self._send_bodies()

    def _next_frame(self) -> bytes:
        """The next whole frame; empty if none has come. A length that h2 refuses is passed on for it to refuse."""
        if len(self._unread) < frames.HEADER_SIZE:
            return b""
        length = int.from_bytes(self._unread[:3])
        size = frames.HEADER_SIZE + (length if length <= frames.DEFAULT_FRAME_SIZE else 0)
        if len(self._unread) < size:
            return b""
        frame, self._unread = self._unread[:size], self._unread[size:]
        return frame

    def connection_lost(self, exc: Exception | None) -> None:
        self.leaving = True
        fault, words = (verdict.RESET, "reset") if exc is not None else (verdict.EMPTY, "closed")
        self._end(fault, f"the connection was {words} without a response")

    def _end(self, fault: str, detail: str) -> None:
        """Every stream fails: `fault` if its response had not begun."""
        self.leaving = True
        for stream in self._streams.values():
            if stream.status:
                stream.fail(verdict.CUT, f"status {stream.status}, then the connection ended after {stream.size} bytes")
            else:
                stream.fail(fault, detail)

    def _hear(self, event: h2.events.Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.fields = {str(name): str(value) for name, value in event.headers}
            stream.status = int(stream.fields[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.size += len(event.data)
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.done.set()
        elif isinstance(event, h2.events.StreamReset):
            self._was_reset(stream, event.error_code)

    def _leave(self, last: int) -> None:
        """GOAWAY: streams above the last one were not processed, the others go on."""
        self.leaving = True
        for number, stream in self._streams.items():
            if number > last:
                stream.fail(verdict.STREAM_RESET, _REFUSED)

    @staticmethod
    def _was_reset(stream: _Stream, code: int | h2.errors.ErrorCodes) -> None:
        if code == h2.errors.ErrorCodes.REFUSED_STREAM:
            stream.fail(verdict.STREAM_RESET, _REFUSED)
            return
        name = code.name if isinstance(code, h2.errors.ErrorCodes) else str(code)
        began = f"status {stream.status}, then " if stream.status else ""
        stream.fail(verdict.STREAM_RESET, f"{began}RST_STREAM {name}")

    def _send_bodies(self) -> None:
        """As much of each body as the server's windows allow."""
        for number, stream in self._streams.items():
            while stream.unsent and not stream.done.is_set():
                room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
                if room <= 0:
                    break
                piece, stream.unsent = stream.unsent[:room], stream.unsent[room:]
                self._h2.send_data(number, piece, end_stream=not stream.unsent)
        self._flush()

    def _flush(self) -> None:
        assert self._transport is not None, "bytes are sent on a connection that was made"
        if not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())
