"""Whatever a client sends, it gets through drainproxy what it gets from the server directly, byte for byte."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance.websocket.cases import BYE, CASES, PING, TEXT, frame
from tests.support.apps import free_port, running
from tests.support.proxy import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MARKER = b"all before this has been answered"
UNFINISHED = ("nothing", "half a header", "half a payload", "a length beyond reason")
"""The client ends its side after these: the server would wait for more."""


@dataclass
class Pair:
    """The same server, directly and through drainproxy."""

    direct: tuple[str, int]
    proxied: tuple[str, int]


@pytest.fixture(scope="module", params=["websockets", "aiohttp"])
def servers(request: pytest.FixtureRequest) -> Iterator[Pair]:
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(running([sys.executable, str(HERE / "servers.py"), request.param, str(port)], port))
        proxy = stack.enter_context(serve(f"127.0.0.1:{port}"))
        yield Pair(("127.0.0.1", port), proxy.await_ready().address)


@dataclass
class Answer:
    """What came behind the handshake until the server closed. `cut`: by a reset, which may have eaten last words."""

    data: bytes
    cut: bool


def talk(address: tuple[str, int], data: bytes, *, piece: int, ends: bool) -> Answer:
    """Send it in pieces. A BYE at its end waits until a marker has come back: echoes and the answer to a Close race."""
    with socket.create_connection(address, timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(HANDSHAKE)
        got = b""
        while b"\r\n\r\n" not in got:
            more = sock.recv(1 << 16)
            assert more, got
            got += more
        head, _, got = got.partition(b"\r\n\r\n")
        assert ACCEPTED in head
        steps = [data.removesuffix(BYE) + frame(TEXT, MARKER), BYE] if data.endswith(BYE) and data != BYE else [data]
        try:
            for step in steps:
                for start in range(0, len(step), piece):
                    sock.sendall(step[start : start + piece])
                if ends:
                    sock.shutdown(socket.SHUT_WR)
                while (step is not BYE and step is not data and not got.endswith(MARKER)) or step is steps[-1]:
                    more = sock.recv(1 << 16)
                    if not more:
                        return Answer(got, cut=False)
                    got += more
        except (ConnectionResetError, BrokenPipeError):
            return Answer(got, cut=True)
    raise AssertionError("the last step reads to the end")


def same(direct: Answer, proxied: Answer) -> bool:
    """A reset may cut either answer short: then what is there must agree."""
    if direct.cut or proxied.cut:
        return direct.data.startswith(proxied.data) or proxied.data.startswith(direct.data)
    return direct.data == proxied.data


@pytest.mark.parametrize("case", CASES)
def test_the_same_comes_back_through_the_proxy(servers: Pair, case: str) -> None:
    data, ends = CASES[case], case in UNFINISHED
    direct = talk(servers.direct, data, piece=1 << 20, ends=ends)
    for piece in (1 << 20, 7 if len(data) < 5_000 else 1_000):
        proxied = talk(servers.proxied, data, piece=piece, ends=ends)
        assert same(direct, proxied), (direct.data[:200], proxied.data[:200])


def test_the_suite_compares_whole_answers_of_many_kinds(servers: Pair) -> None:
    """A suite in which everything is answered alike, or cut, would compare nothing."""
    answers = [talk(servers.direct, CASES[case], piece=1 << 20, ends=case in UNFINISHED) for case in list(CASES)[20:]]
    assert sum(answer.cut for answer in answers) < len(answers) / 10
    assert len({answer.data for answer in answers}) > 20
    said = talk(servers.direct, frame(PING, b"x") + BYE, piece=99, ends=False)
    assert said.data.startswith(b"\x8a\x01x\x81")
