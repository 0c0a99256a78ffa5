"""HTTP/2 with the clients that people use: no protocol error, ever; bounded buffers; a drain that they survive."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from drainproxy.protocol.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    EMPTY_SETTINGS,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PING,
    PREFACE,
    SETTINGS,
    frame,
)
from drainproxy.protocol.reasons import ErrorCode
from tests.e2e.protocols.conftest import nghttpd
from tests.support.apps import http_server, need
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = bytes(range(256)) * (1 << 14)
BLOCK = bytes.fromhex("828684 0103617070")  # GET http / and :authority app, without the dynamic table


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def h2load(url: str, *options: str) -> str:
    out = run(need("h2load", "nghttp2-client"), *options, url)
    found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert found, out
    assert found[1] == found[2], out
    return out


class Raw:
    """An HTTP/2 client that says what a test wants, right or wrong."""

    def __init__(self, proxy: Proxy) -> None:
        self.sock = socket.create_connection(proxy.address, timeout=20)
        self.sock.sendall(PREFACE + EMPTY_SETTINGS)
        self._data = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> tuple[int, int, int, bytes] | None:
        """The next frame: type, flags, stream, payload; None at the end."""
        head = self._exactly(9)
        if head is None:
            return None
        word, flags, stream = struct.unpack(">IBI", head)
        return word & 0xFF, flags, stream, self._exactly(word >> 8) or b""

    def close(self) -> None:
        self.sock.close()

    def until(self, kind: int) -> tuple[int, int, int, bytes]:
        """The next frame of this type."""
        while (got := self.read()) is not None:
            if got[0] == kind:
                return got
        raise AssertionError(f"the connection ended before a frame of type {kind}")

    def closed(self) -> bool:
        """Nothing more comes."""
        try:
            while self.read() is not None:
                pass
        except ConnectionResetError:
            pass
        return True

    def _exactly(self, size: int) -> bytes | None:
        while len(self._data) < size:
            more = self.sock.recv(1 << 16)
            if not more:
                return None
            self._data += more
        data, self._data = self._data[:size], self._data[size:]
        return data


@pytest.fixture
def raw(files: Proxy) -> Iterator[Raw]:
    """A client that says what a test wants."""
    with closing(Raw(files)) as client:
        yield client


def test_curl_gets_and_posts(files: Proxy) -> None:
    curl = need("curl", "curl")
    common = (
        curl,
        "-sS",
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code} %{size_download}",
    )
    assert run(*common, f"{files.url}/small") == "2 200 100"
    assert run(*common, f"{files.url}/large") == f"2 200 {len(LARGE)}"
    assert run(*common, "--data-binary", "x" * 100_000, f"{files.url}/small").startswith("2 200")


def test_http1_and_http2_share_a_port() -> None:
    with http_server() as app, serve(app) as proxy:
        proxy.await_ready()
        curl = need("curl", "curl")
        assert run(curl, "-sS", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", proxy.url) == "1.1 200"


def test_nghttp_sees_no_error(files: Proxy) -> None:
    out = run(
        need("nghttp", "nghttp2-client"),
        "-nv",
        *[f"{files.url}/small?{number}" for number in range(5)],
        f"{files.url}/large",
    )
    assert out.count(":status: 200") == 6
    assert "RST_STREAM" not in out
    assert "error_code=NO_ERROR" in out


@pytest.mark.parametrize("options", [("-n", "5000", "-c", "8", "-m", "16"), ("-n", "200", "-c", "100", "-m", "1")])
def test_h2load_succeeds_in_every_request(files: Proxy, options: tuple[str, ...]) -> None:
    h2load(f"{files.url}/small", *options)


def test_h2load_gets_large_bodies(files: Proxy) -> None:
    h2load(f"{files.url}/large", "-n", "40", "-c", "4", "-m", "4")


def test_httpx_reads_what_was_sent(files: Proxy) -> None:
    with httpx.Client(http1=False, http2=True) as client:
        for _ in range(3):
            response = client.get(f"{files.url}/large")
            assert response.http_version == "HTTP/2"
            assert response.content == LARGE


def test_httpx_goes_elsewhere_when_it_is_told_to(tmp_path: Path) -> None:
    """A drain under steady requests: each one is answered, on a new connection where the old one is ended."""
    (tmp_path / "small").write_bytes(b"ok")
    with nghttpd(tmp_path) as app, serve(app) as proxy, httpx.Client(http1=False, http2=True) as client:
        proxy.await_ready()
        assert client.get(f"{proxy.url}/small").content == b"ok"
        assert proxy.ask("/drain?wait=0").status == 202
        answered = 0
        while proxy.status()["state"] != "drained":
            assert client.get(f"{proxy.url}/small").content == b"ok"
            answered += 1
        assert answered > 3
        assert proxy.status()["drain"]["aborted"] == 0


def test_the_departure_on_the_wire(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"ok")
    with nghttpd(tmp_path) as app, serve(app) as proxy, closing(Raw(proxy.await_ready())) as raw:
        raw.send(frame(SETTINGS, ACK, 0, b""))
        raw.until(SETTINGS)
        proxy.ask("/drain?wait=0")
        payload = raw.until(GOAWAY)[3]
        assert struct.unpack(">II", payload[:8]) == (MAX_STREAM_ID, ErrorCode.NO_ERROR)
        opaque = raw.until(PING)[3]
        raw.send(frame(HEADERS, END_HEADERS | 1, 1, BLOCK) + frame(PING, ACK, 0, opaque))
        assert raw.until(HEADERS)[2] == 1
        payload = raw.until(GOAWAY)[3]
        assert struct.unpack(">II", payload[:8]) == (1, ErrorCode.NO_ERROR)
        assert raw.closed()


def test_a_stream_that_crosses_the_last_goaway_is_served_before_the_app_may_be_stopped(tmp_path: Path) -> None:
    """A client that is asked at the very end: what it sends until it answers is finished first."""
    (tmp_path / "index.html").write_text("hello")
    with (
        nghttpd(tmp_path) as address,
        serve(address, propagation_delay="100ms", quiet_period="900ms", quiet_limit="10s") as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.await_ready()
        drain = pool.submit(proxy.ask, "/drain")
        wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
        with closing(Raw(proxy)) as client:
            assert client.until(GOAWAY)[3][:4] == MAX_STREAM_ID.to_bytes(4)
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK))
            ping = client.until(PING)[3]
            assert client.until(DATA)[3] == b"hello"
            client.send(frame(PING, ACK, 0, ping))
            assert client.until(GOAWAY)[3][:4] == (1).to_bytes(4)
            summary = drain.result(20).json
    assert (summary["outcome"], summary["completed"], summary["late"]) == ("clean", 1, 1)


def test_a_client_that_does_not_answer_holds_the_drain_for_one_quiet_period(tmp_path: Path) -> None:
    with nghttpd(tmp_path) as address, serve(address, quiet_period="500ms") as proxy:
        proxy.await_ready()
        with closing(Raw(proxy)) as client:
            client.until(SETTINGS)
            summary = proxy.ask("/drain").json
    assert summary["outcome"] == "clean"
    assert 0.3 + 2 * 0.5 <= summary["elapsed_s"] < 5


def test_a_client_that_does_not_read_bounds_our_memory(tmp_path: Path) -> None:
    """Windows wide open, nothing read: the socket to the app is not read either."""
    (tmp_path / "huge").write_bytes(b"x" * (256 << 20))
    path = b"/huge"
    block = bytes.fromhex("8286") + b"\x04" + bytes((len(path),)) + path + bytes.fromhex("0103617070")
    with nghttpd(tmp_path) as app, serve(app) as proxy, closing(Raw(proxy.await_ready())) as raw:
        before = proxy.resident_kib()
        window = (1 << 31) - 1
        raw.send(
            frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)) + frame(8, 0, 0, struct.pack(">I", window - 65_535))
        )
        raw.send(frame(HEADERS, END_HEADERS | 1, 1, block))
        raw.until(DATA)
        settled = [0]

        def stands_still() -> bool:
            settled.append(int(proxy.metric("drainproxy_bytes_total", direction="sent")))
            return len(settled) > 20 and settled[-1] == settled[-10]

        wait_for(stands_still, "the relay to stand still")
        assert settled[-1] < 32 << 20
        assert proxy.resident_kib() - before < 8 << 10


FAULTS = {
    "frame too large": (struct.pack(">IBI", (16 * 1024 + 1) << 8 | DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "a frame on stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "continuations without end": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"") * 1000,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "rapid resets": (
        b"".join(
            frame(HEADERS, END_HEADERS | 1, 2 * n + 1, BLOCK) + frame(3, 0, 2 * n + 1, struct.pack(">I", 8))
            for n in range(20_000)
        ),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of pings": (frame(PING, 0, 0, b"12345678") * 100_000, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of settings": (EMPTY_SETTINGS * 100_000, ErrorCode.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_misbehaviour_ends_the_connection_and_nothing_else(files: Proxy, raw: Raw, fault: str) -> None:
    data, code = FAULTS[fault]
    raw.until(SETTINGS)
    before = files.resident_kib()
    sender = threading.Thread(target=_send_all, args=(raw, data))
    sender.start()
    codes = []
    try:
        while (got := raw.read()) is not None:
            if got[0] == GOAWAY:
                codes.append(struct.unpack(">II", got[3][:8])[1])
    except ConnectionResetError:
        pass
    sender.join()
    assert code in codes
    wait_for(lambda: files.status()["in_flight"]["http2"] == 0, "no stream to be left")
    assert files.resident_kib() - before < 8 << 10
    h2load(f"{files.url}/small", "-n", "100", "-c", "2", "-m", "4")


def _send_all(raw: Raw, data: bytes) -> None:
    with suppress(OSError):  # it may be closed meanwhile, as it should be
        raw.send(data)
