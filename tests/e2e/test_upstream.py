"""What the app may do wrong, and what clients see of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.apps import free_port, http_server
from tests.support.proxy import serve, wait_for
from tests.support.scripted import Peer, upstream
from tests.support.wire import Wire

HEAD = b"HTTP/1.1 200 OK\r\n"


def test_the_keep_alive_race_loses_no_replayable_request() -> None:
    """The app closes a kept connection just when the next request has arrived on it."""
    seen: Counter[bytes] = Counter()

    def script(peer: Peer) -> None:
        for number in range(2):
            request = peer.request()
            if not request or b"/health" in request:
                return
            if number == 0 or peer.number % 2:
                seen[request.split()[1]] += 1
                peer.ok()

    with upstream(script) as address, serve(address, upstream_idle="30s") as proxy, httpx.Client() as client:
        proxy.await_ready()
        for number in range(50):
            assert client.get(f"{proxy.url}/{number}").status_code == 200
        assert proxy.metric("drainproxy_upstream_retries_total") > 5
    assert set(seen.values()) == {1}


def test_a_post_is_never_sent_twice() -> None:
    seen: Counter[bytes] = Counter()

    def script(peer: Peer) -> None:
        for number in range(2):
            request = peer.request()
            if not request:
                return
            seen[request.split()[1]] += 1
            if number == 0:
                peer.ok()

    with upstream(script) as address, serve(address, upstream_idle="30s") as proxy, httpx.Client() as client:
        proxy.await_ready()
        codes = Counter(client.post(f"{proxy.url}/{number}", content=b"x").status_code for number in range(20))
    assert set(seen.values()) == {1}
    assert set(codes) == {200, 502}


def test_a_post_on_a_connection_that_the_app_has_closed_gets_another_one() -> None:
    """The close has arrived before the request: nothing was sent, so nothing can be sent twice."""
    closed = threading.Event()

    def script(peer: Peer) -> None:
        if peer.request():
            peer.ok()
            peer.sock.close()
            closed.set()

    with upstream(script) as address, serve(address, upstream_idle="30s") as proxy, httpx.Client() as client:
        proxy.await_ready()
        for _ in range(50):
            assert client.post(proxy.url, content=b"x").status_code == 200
            assert closed.wait(5)
            closed.clear()


def test_requests_are_held_while_the_app_starts() -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", connect_wait="10s") as proxy, ThreadPoolExecutor(20) as pool:
        assert proxy.ask("/readyz").status == 503
        assert proxy.ask("/startupz").status == 503
        answers = [pool.submit(httpx.get, f"{proxy.url}/bytes/1", timeout=20) for _ in range(20)]
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 20, "held requests")
        with http_server(port):
            assert {answer.result().status_code for answer in answers} == {200}
            proxy.await_ready()
            assert proxy.ask("/startupz").status == 200


def test_requests_are_refused_when_the_app_stays_away() -> None:
    with serve(f"127.0.0.1:{free_port()}", connect_wait="300ms") as proxy:
        began = time.monotonic()
        answer = httpx.get(f"{proxy.url}/x")
        assert 0.3 <= time.monotonic() - began < 3
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["x-drainproxy"] == "app-unavailable"
        assert answer.text.count("\n") == 1
        assert proxy.metric("drainproxy_upstream_errors_total", reason="connect-refused") == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"A : b\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        HEAD + b"A: " + b"x" * 70000 + b"\r\n\r\n",
    ],
)
def test_bad_responses_become_502(response: bytes) -> None:
    def script(peer: Peer) -> None:
        if peer.request():
            peer.send(response)
            peer.request()

    with upstream(script) as address, serve(address) as proxy:
        answer = httpx.get(f"{proxy.await_ready().url}/x")
        assert (answer.status_code, answer.headers["x-drainproxy"]) == (502, "upstream-bad-response")


def test_what_the_app_says_unasked_is_no_answer_to_the_next_request() -> None:
    def script(peer: Peer) -> None:
        while peer.request():
            peer.send(HEAD + b"Content-Length: 2\r\n\r\nok" + HEAD + b"Content-Length: 4\r\n\r\nevil")

    with upstream(script) as address, serve(address) as proxy, httpx.Client() as client:
        proxy.await_ready()
        assert {client.get(proxy.url).text for _ in range(10)} == {"ok"}


def test_a_response_that_breaks_off_is_seen_to_be_incomplete() -> None:
    bodies = {
        "/length": HEAD + b"Content-Length: 100\r\n\r\nabc",
        "/chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "/badchunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxx\r\n",
    }

    def script(peer: Peer) -> None:
        request = peer.request()
        if request:
            peer.send(bodies[request.split()[1].decode()])

    with upstream(script) as address, serve(address) as proxy:
        proxy.await_ready()
        for path in bodies:
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(proxy.url + path)


def test_a_body_that_ends_with_the_connection_is_whole_on_close_and_cut_on_reset() -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        if request:
            peer.send(HEAD + b"\r\nabc")
        if b"/reset" in request:
            peer.reset()

    with upstream(script) as address, serve(address) as proxy:
        proxy.await_ready()
        assert httpx.get(proxy.url + "/close").text == "abc"
        with pytest.raises(httpx.TransportError):
            httpx.get(proxy.url + "/reset")


@pytest.mark.parametrize("stock_loop", [False, True])
def test_an_early_answer_to_an_unfinished_upload_is_relayed(stock_loop: bool) -> None:
    """The app answers 413 after the head, and closes with the upload unread: the kernel resets the connection."""

    def script(peer: Peer) -> None:
        if peer.head():
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")

    with upstream(script) as address, serve(address, stock_loop=stock_loop) as proxy:
        proxy.await_ready()
        for _ in range(50):
            with Wire(proxy.address) as wire:
                with contextlib.suppress(OSError):
                    wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
                    for _ in range(50):
                        wire.send(b"x" * 65536)
                status, fields, body = wire.response()
                assert (status, body, fields["connection"]) == (413, b"nope", "close")


def test_an_answer_that_streams_while_the_upload_goes_on_is_relayed_both_ways() -> None:
    def script(peer: Peer) -> None:
        if peer.head():
            peer.send(HEAD + b"Content-Length: 6\r\n\r\n")
            for _ in range(3):
                while len(peer.buffer) < 2:
                    peer.buffer += peer.sock.recv(10)
                peer.send(peer.buffer[:2])
                peer.buffer = peer.buffer[2:]

    with upstream(script) as address, serve(address) as proxy, Wire(proxy.await_ready().address) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        wire.read_until(b"\r\n\r\n")
        for part in (b"ab", b"cd", b"ef"):
            assert wire.send(part).read(2) == part


def test_bytes_behind_the_101_are_not_lost() -> None:
    def script(peer: Peer) -> None:
        if peer.head():
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nfirst")
            while data := peer.sock.recv(100):
                peer.send(data)
            peer.send(b"last")

    with upstream(script) as address, serve(address) as proxy, Wire(proxy.await_ready().address) as wire:
        wire.get("/", "Connection: Upgrade", "Upgrade: echo")
        status, fields, _ = wire.response()
        assert (status, fields["upgrade"], fields["connection"]) == (101, "echo", "Upgrade")
        assert wire.read(5) == b"first"
        assert wire.send(b"abc").read(3) == b"abc"
        assert proxy.status()["in_flight"]["tcp"] == 1
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"last"


def test_response_timeout_is_504_and_closes_the_upstream_connection() -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        if peer.request():
            with contextlib.suppress(OSError):
                peer.sock.recv(1)
            ended.set()

    with upstream(script) as address, serve(address, response_timeout="300ms") as proxy:
        began = time.monotonic()
        answer = httpx.get(f"{proxy.await_ready().url}/x", timeout=10)
        assert (answer.status_code, answer.headers["x-drainproxy"]) == (504, "response-timeout")
        assert time.monotonic() - began < 5
        assert ended.wait(5)


def test_header_and_idle_timeouts_end_what_says_nothing(app: str) -> None:
    with serve(app, header_timeout="300ms", idle_timeout="500ms") as proxy:
        proxy.await_ready()
        with Wire(proxy.address) as wire:
            wire.send(b"GET / HTTP/1.1\r\nHo")
            assert wire.response()[0] == 408
        with Wire(proxy.address) as wire:
            assert wire.closed()


def test_stream_idle_timeout_cuts_a_stalled_response() -> None:
    def script(peer: Peer) -> None:
        if peer.request():
            peer.send(HEAD + b"Content-Length: 100\r\n\r\nabc")
            with contextlib.suppress(OSError):
                peer.sock.recv(1)

    with upstream(script) as address, serve(address, stream_idle_timeout="400ms") as proxy:
        proxy.await_ready()
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(proxy.url, timeout=10)


def test_accepting_pauses_at_the_limit_and_goes_on(app: str) -> None:
    with serve(app, max_connections="3") as proxy:
        proxy.await_ready()
        wires = [Wire(proxy.address) for _ in range(3)]
        for wire in wires:
            assert wire.get("/bytes/1").response()[0] == 200
        with Wire(proxy.address) as waiting:  # the kernel accepts it, drainproxy not yet
            waiting.get("/bytes/1").sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.sock.recv(1)
            waiting.sock.settimeout(10)
            wires[0].sock.close()
            assert waiting.response()[0] == 200
        for wire in wires:
            wire.sock.close()


def test_the_readiness_gate_and_the_health_path(app: str, tmp_path: object) -> None:
    from pathlib import Path  # noqa: PLC0415 - only here

    gate = Path(str(tmp_path)) / "gate"
    with serve(app, ready_gate=str(gate), ready_interval="50ms", ready_path="/status/204") as proxy:
        wait_for(lambda: "gate" in proxy.ask("/readyz").body, "the gate to be told")
        gate.write_text("false")
        assert proxy.ask("/readyz").status == 503
        gate.write_text("true")
        proxy.await_ready()
    with serve(app, ready_interval="50ms", ready_path="/status/500") as proxy:
        wait_for(lambda: "answered 500" in proxy.ask("/readyz").body, "the health check's answer")
        assert proxy.status()["state"] == "starting"


def test_an_unasked_408_on_an_idle_connection_is_no_answer() -> None:
    """Some apps say it before they close an idle connection; a GET that crosses it is asked again on a new one."""

    def script(peer: Peer) -> None:
        if peer.request():
            peer.ok()
            if peer.request():
                peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with upstream(script) as address, serve(address, upstream_idle="30s") as proxy, httpx.Client() as client:
        proxy.await_ready()
        assert [client.get(proxy.url).status_code for _ in range(6)] == [200] * 6
        assert proxy.metric("drainproxy_upstream_retries_total") == 5
