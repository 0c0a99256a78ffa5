"""What does an HTTP client see during a rollout? One scripted server for each way to fail, and the name it must get."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.cluster.balancer import reset
from drainproxy.tools.probe.http_client import HttpClient
from drainproxy.tools.probe.load import Traffic
from tests.support.asyncio_server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from drainproxy.tools.probe.verdict import Reply

    Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Pod: web-1\r\n\r\nhello"


def saying(*pieces: bytes, end: str = "close") -> Script:
    """Read a request, say the pieces, then close, reset, or stay."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end == "reset":
            reset(writer)
        elif end == "stay":
            await reader.read()

    return script


async def answered_by(script: Script, requests: int = 1, method: str = "GET", **traffic: object) -> list[Reply]:
    """The replies to `requests` requests, one after the other, from a server that runs `script` on each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    retry = bool(traffic.pop("retry", False))
    kinds = {"connections": 1, "fresh": 0.0, "timeout_s": 1.0, **traffic}
    async with serving(serve) as port:
        client = HttpClient(Traffic(**kinds), lambda _: f"http://127.0.0.1:{port}/", method=method, retry=retry)  # type: ignore[arg-type]
        try:
            return [await client.send(number) for number in range(requests)]
        finally:
            await client.close()


async def test_a_whole_response_is_no_failure_and_tells_the_pod() -> None:
    (reply,) = await answered_by(saying(WHOLE))
    assert (reply.fault, reply.status, reply.size, reply.pod) == ("", 200, 5, "web-1")


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (saying(), "empty reply"),
        (saying(end="reset"), "reset"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), "cut body"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", end="reset"), "cut body"),
        (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"), "cut body"),
        (saying(b"HTTP/1.1 200 OK\r\nConte"), "cut body"),
        (saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), "502"),
        (saying(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "503"),
        (saying(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), "504"),
        (saying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "404"),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "bad reply"),
        (saying(end="stay"), "timeout"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", end="stay"), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_way_to_fail_has_its_name(script: Script, fault: str) -> None:
    (reply,) = await answered_by(script)
    assert reply.fault == fault, reply.detail
    assert reply.detail


async def test_the_first_line_of_an_errors_body_is_in_the_example() -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 22\r\n\r\n"
    (reply,) = await answered_by(saying(head, b"no endpoints\nsome more"))
    assert reply.detail == "503 Service Unavailable: no endpoints"
    (reply,) = await answered_by(saying(head, b"<html>503 and so on</>"))
    assert reply.detail == "503 Service Unavailable"


async def test_a_closed_port_is_refused() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it meanwhile
        client = HttpClient(Traffic(), lambda _: f"http://127.0.0.1:{held.getsockname()[1]}/")
        reply = await client.send(0)
        await client.close()
    assert reply.fault == "refused"


async def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    client = HttpClient(Traffic(), lambda _: "http://nobody.invalid/")
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "dns"


async def test_a_keep_alive_connection_that_dies_under_a_request_is_seen_not_repeated_silently() -> None:
    seen: list[int] = []

    async def once_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(1)
        writer.write(WHOLE)
        await reader.readuntil(b"\r\n\r\n")
        seen.append(2)

    first, second = await answered_by(once_then_hang_up, requests=2)
    assert (first.fault, first.reused) == ("", False)
    assert (second.fault, second.reused, second.retried) == ("empty reply", True, False)
    assert seen == [1, 2]


@pytest.mark.parametrize(("method", "retried"), [("GET", True), ("POST", False)])
async def test_retry_repeats_idempotent_requests_only_and_says_so(method: str, retried: bool) -> None:
    async def once_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)
        await reader.readuntil(b"\r\n\r\n")

    _, second = await answered_by(once_then_hang_up, requests=2, method=method, retry=True)
    assert (second.fault == "", second.retried) == (retried, retried)


async def test_a_body_without_length_is_counted_as_unchecked() -> None:
    (reply,) = await answered_by(saying(b"HTTP/1.1 200 OK\r\n\r\nhello"))
    assert (reply.fault, reply.unchecked) == ("", True)
    (reply,) = await answered_by(saying(WHOLE))
    assert not reply.unchecked


async def test_fresh_and_kept_connections_are_mixed_as_asked() -> None:
    connections: list[int] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        while True:
            await reader.readuntil(b"\r\n\r\n")
            connections[-1] += 1
            writer.write(WHOLE)

    replies = await answered_by(keep, requests=10, fresh=0.5)
    assert sum(reply.reused for reply in replies) == 4  # five on the kept connection, the first of them opens it
    assert len(connections) == 6


async def test_a_request_never_waits_for_a_busy_connection() -> None:
    all_have_come = asyncio.Barrier(5)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await all_have_come.wait()  # one after the other, the first would never be answered
            writer.write(WHOLE)

    async with serving(_quietly(slow)) as port:
        client = HttpClient(Traffic(connections=1, fresh=0.0, timeout_s=5), lambda _: f"http://127.0.0.1:{port}/")
        replies = await asyncio.gather(*(client.send(number) for number in range(5)))
        await client.close()
    assert all(reply.fault == "" for reply in replies)


def _quietly(script: Script) -> Script:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return serve


async def test_an_upload_that_the_server_breaks_is_a_failure() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)

    async with serving(_quietly(hang_up)) as port:
        client = HttpClient(
            Traffic(timeout_s=5), lambda _: f"http://127.0.0.1:{port}/", method="POST", body_of=lambda _: body()
        )
        reply = await client.send(0)
        await client.close()
    assert reply.fault in ("reset", "empty reply"), reply
