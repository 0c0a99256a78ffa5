"""What does an HTTP/2 client see during a rollout? A server that fails in known ways, and the name each must get."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from drainproxy.protocol import http2 as frames
from drainproxy.tools.cluster.balancer import reset
from drainproxy.tools.probe.http2_client import HELLO, Http2Client, Place
from drainproxy.tools.probe.load import Traffic
from tests.support.asyncio_server import serving

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.tools.probe.verdict import Reply

    Behave = Callable[["Server", int], None]

OK = [(":status", "200"), ("x-pod", "web-1")]


def goaway(last: int) -> bytes:
    return frames.frame(frames.GOAWAY, 0, 0, struct.pack(">II", last, 0))


class Server:
    """One connection of a server; `behave(server, stream)` is called for each complete request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behave: Behave) -> None:
        self.reader, self.writer, self.behave = reader, writer, behave
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.requests: list[int] = []
        self.bodies: dict[int, bytes] = {}

    async def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.bodies[event.stream_id or 0] = self.bodies.get(event.stream_id or 0, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded):
                    self.requests.append(event.stream_id)
                    self.behave(self, event.stream_id)
            self.flush()

    def answer(self, stream: int, body: bytes = b"hello", head: list[tuple[str, str]] | None = None) -> None:
        self.h2.send_headers(stream, head or OK)
        self.h2.send_data(stream, body, end_stream=True)

    def flush(self) -> None:
        if not self.writer.is_closing():
            self.writer.write(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        self.flush()
        self.writer.write(data)


async def answered_by(
    behave: Behave, requests: int = 1, *, retry: bool = False, body: bytes = b"", fresh: float = 0.0
) -> list[Reply]:
    """The replies to requests one after the other, on one kept connection unless `fresh`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Server(reader, writer, behave).run()
        except ConnectionError:
            pass
        finally:
            writer.close()

    method = "POST" if body else "GET"
    async with serving(serve) as port:
        place = Place("127.0.0.1", port, None)
        client = Http2Client(Traffic(1, fresh, 1.0), place, "/?a=1", method=method, body=body, retry=retry)
        try:
            return [await client.send(number) for number in range(requests)]
        finally:
            await client.close()


def fine(server: Server, stream: int) -> None:
    server.answer(stream)


def empty(server: Server, stream: int) -> None:
    server.flush()
    server.writer.write_eof()


def torn(server: Server, stream: int) -> None:
    server.flush()
    reset(server.writer)


def cut(server: Server, stream: int) -> None:
    server.h2.send_headers(stream, OK)
    server.h2.send_data(stream, b"hel")
    server.flush()
    server.writer.write_eof()


def cancelled(server: Server, stream: int) -> None:
    server.h2.send_headers(stream, OK)
    server.h2.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)


def refused(server: Server, stream: int) -> None:
    server.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)


def not_processed(server: Server, stream: int) -> None:
    server.raw(goaway(0))


def unavailable(server: Server, stream: int) -> None:
    server.answer(stream, head=[(":status", "503")])


def garbage(server: Server, stream: int) -> None:
    server.raw(frames.frame(frames.DATA, 0, 0, b"no stream"))


def mute(server: Server, stream: int) -> None:
    """Never answers."""


@pytest.mark.parametrize(
    ("behave", "fault", "detail"),
    [
        (fine, "", ""),
        (empty, "empty reply", "the connection was closed without a response"),
        (torn, "reset", "the connection was reset without a response"),
        (cut, "cut body", "status 200, then the connection ended after 3 bytes"),
        (cancelled, "stream reset", "status 200, then RST_STREAM INTERNAL_ERROR"),
        (refused, "stream reset", "the server did not process the stream"),
        (not_processed, "stream reset", "the server did not process the stream"),
        (unavailable, "503", "503"),
        (garbage, "bad reply", "what came back is not valid HTTP/2"),
        (mute, "timeout", "nothing complete after 1 s"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_each_way_to_fail_has_its_name(behave: Behave, fault: str, detail: str) -> None:
    (reply,) = await answered_by(behave)
    assert (reply.fault, reply.detail) == (fault, detail)


async def test_an_answer_tells_status_size_and_pod_and_a_kept_connection_is_reused() -> None:
    first, second = await answered_by(fine, 2)
    assert (first.status, first.size, first.pod, first.reused) == (200, 5, "web-1", False)
    assert second.reused
    assert not any(reply.reused for reply in await answered_by(fine, 2, fresh=1.0))


async def test_a_connection_that_is_asked_to_leave_ends_its_stream_and_gets_no_other() -> None:
    connections = set()

    def leave_in_the_middle(server: Server, stream: int) -> None:
        connections.add(server)
        server.h2.send_headers(stream, OK)
        server.raw(goaway(frames.MAX_STREAM_ID) + frames.ping(b"drained?") + goaway(stream))
        server.h2.send_data(stream, b"hello", end_stream=True)

    replies = await answered_by(leave_in_the_middle, 3)
    assert [(reply.fault, reply.size, reply.reused) for reply in replies] == [("", 5, False)] * 3
    assert len(connections) == 3


async def test_retry_repeats_only_what_the_server_says_it_has_not_processed() -> None:
    def first_refused(server: Server, stream: int) -> None:
        seen.append(stream)
        (refused if len(seen) == 1 else fine)(server, stream)

    seen: list[int] = []
    (reply,) = await answered_by(first_refused, retry=True)
    assert (reply.fault, reply.retried, len(seen)) == ("", True, 2)
    seen.clear()
    (reply,) = await answered_by(cancelled, retry=True)
    assert (reply.fault, reply.retried) == ("stream reset", False)


async def test_a_body_larger_than_the_servers_windows_arrives_whole() -> None:
    seen = []

    def count(server: Server, stream: int) -> None:
        seen.append(server.bodies[stream])
        server.answer(stream)

    body = b"x" * 200_000
    (reply,) = await answered_by(count, body=body)
    assert reply.fault == ""
    assert seen == [body]


async def test_the_client_is_not_taken_for_one_that_a_goaway_would_break() -> None:
    settings = HELLO[len(frames.PREFACE) + frames.HEADER_SIZE :]
    assert list(struct.iter_unpack(">HI", settings)) == [(2, 0)]
    assert not frames.ends_at_goaway(settings)
