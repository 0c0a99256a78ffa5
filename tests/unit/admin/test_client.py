"""Does the small client get whole answers, and say in one line why there is none?"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from drainproxy.admin.client import Answer, ask
from drainproxy.config.values import Address, parse_address
from drainproxy.errors import AdminError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nServer: drainproxy\r\nContent-Length: 6\r\n\r\nready\n"
OURS = b"HTTP/1.1 %s\r\nServer: drainproxy\r\n"


class Script:
    """A server that answers every connection with these bytes, and notes what it was asked."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.asked: list[bytes] = []


@contextmanager
def answering(data: bytes, *, path: str = "", stay: bool = False, drip: bool = False) -> Iterator[Script]:
    """`stay`: keep the connection open behind the answer; `drip`: and send on, byte by byte."""
    server = socket.socket(socket.AF_UNIX) if path else socket.create_server(("127.0.0.1", 0))
    if path:
        server.bind(path)
        server.listen()
    script = Script(Address(path=path) if path else Address("127.0.0.1", server.getsockname()[1]))
    done = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            script.asked.append(connection.recv(65536))
            connection.sendall(data)
            while drip and not done.wait(0.02):
                connection.sendall(b"x")
            if stay:
                done.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield script
    finally:
        done.set()
        server.close()
        thread.join(10)


def get(script: Script, timeout_s: float | None = 5.0, token: str | None = None) -> Answer:
    return ask(script.address, "GET", "/x", token=token, timeout_s=timeout_s)


def test_the_answer_is_whole() -> None:
    with answering(OK) as script:
        assert get(script) == Answer(200, b"ready\n")
    (asked,) = script.asked
    assert asked.startswith(b"GET /x HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Connection: close\r\n" in asked
    assert b"Authorization" not in asked


def test_the_token_is_sent() -> None:
    with answering(OK) as script:
        get(script, token="s3cret")
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in script.asked[0]


def test_a_unix_socket_is_asked(tmp_path: Path) -> None:
    with answering(OK, path=str(tmp_path / "s")) as script:
        assert get(script).status == 200


@pytest.mark.parametrize("host", ["", "[::]", "0.0.0.0"])
def test_all_addresses_means_loopback(host: str) -> None:
    with answering(OK) as script:
        assert ask(parse_address(f"{host}:{script.address.port}"), "GET", "/", token=None, timeout_s=5).status == 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200", "not an answer from drainproxy"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP: 'SSH-2.0-OpenSSH'"),
        (OK[:-2], "cut off"),
        (OURS % b"401 Unauthorized" + b"Content-Length: 5\r\n\r\ntoken", "refuses: token"),
        (OURS % b"403 Forbidden" + b"Content-Length: 5\r\n\r\npod\n\n", "refuses: pod"),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n", "not an answer from drainproxy, but of 'nginx'"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not an answer from drainproxy, but of"),
    ],
)
def test_what_is_no_answer_is_said_in_one_line(data: bytes, says: str) -> None:
    with answering(data) as script, pytest.raises(AdminError, match=says) as caught:
        get(script)
    assert "\n" not in str(caught.value)


def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_asked() -> None:
    with answering(b"HTTP/1.1 200", stay=True) as script, pytest.raises(AdminError, match=r"within 0\.1s"):
        get(script, timeout_s=0.1)


@pytest.mark.parametrize("stay", [False, True])
def test_what_comes_behind_the_answer_is_not_waited_for(stay: bool) -> None:
    with answering(OK, stay=stay) as script:
        assert get(script, timeout_s=None) == Answer(200, b"ready\n")


def test_a_server_that_sends_byte_by_byte_for_ever_does_not_pass_the_time_limit() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nX: ", drip=True) as script, pytest.raises(AdminError, match=r"within 0\.3s"):
        get(script, timeout_s=0.3)


def test_nobody_there_says_where_it_looked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        AdminError, match=rf"no drainproxy at :{port} \(Connection refused\): is `drainproxy serve` run"
    ):
        ask(Address(port=port), "GET", "/", token=None, timeout_s=5)


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b'{"a": '])
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(AdminError, match=r"not an answer from drainproxy \(200\)"):
        Answer(200, body).document()
