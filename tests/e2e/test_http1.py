"""A real app behind drainproxy behaves as it does without it."""

from __future__ import annotations

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import free_port, gunicorn, need, nginx, node, uvicorn
from tests.support.proxy import Proxy, serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_every_method_reaches_the_app(shared: Proxy, method: str) -> None:
    seen = httpx.request(method, f"{shared.url}/echo?a=1", content=b"body").json()
    assert (seen["method"], seen["target"], seen["body"]) == (method, "/echo?a=1", "body")


def test_head_has_length_and_no_body(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        wire.send(b"HEAD /bytes/1000 HTTP/1.1\r\nHost: test\r\n\r\n")
        status, fields, _ = wire.response(bodyless=True)
        assert (status, fields["content-length"]) == (200, "1000")
        assert wire.get("/bytes/3").response()[2] == b"\x00\x01\x02"


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body_keep_the_connection(shared: Proxy, status: int) -> None:
    with Wire(shared.address) as wire:
        assert wire.get(f"/status/{status}").response()[0] == status
        assert wire.get("/bytes/1").response()[0] == 200


def test_forwarding_fields_are_added(shared: Proxy) -> None:
    seen = httpx.get(
        f"{shared.url}/echo", headers={"X-Forwarded-For": "192.0.2.7", "Connection": "X-Hop", "X-Hop": "1"}
    )
    headers = {name.lower(): value for name, value in seen.json()["headers"]}
    assert headers["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"]
    assert len(headers["x-request-id"]) == 32
    assert "x-hop" not in headers
    assert "connection" not in headers


def test_chunks_and_trailers_pass_both_ways(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        status, fields, body = wire.get("/chunks/100000").response()
        assert (status, len(body), fields["trailer x-sum"]) == (200, 100000, "100000")
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        wire.send(b"3;ext=1\r\nabc\r\n").send(b"2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
        assert json.loads(wire.response()[2])["body"] == "abcde"


def test_pipelined_requests_are_answered_in_order(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        wire.get("/sleep/0.2").send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").get("/bytes/1")
        assert wire.response()[2] == b"slept 0.2\n"
        assert json.loads(wire.response()[2])["body"] == "hi"
        assert wire.response()[2] == b"\x00"


def test_a_request_in_single_bytes_is_understood(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            wire.send(bytes([byte]))
        assert json.loads(wire.response()[2])["body"] == "abc"


@pytest.mark.parametrize("keep_alive", [False, True])
def test_http_1_0_clients_are_served(shared: Proxy, keep_alive: bool) -> None:
    with Wire(shared.address) as wire:
        header = b"Connection: keep-alive\r\n" if keep_alive else b""
        wire.send(b"GET /bytes/4 HTTP/1.0\r\n" + header + b"\r\n")
        status, fields, body = wire.response()
        assert (status, body) == (200, b"\x00\x01\x02\x03")
        assert fields.get("connection") == ("keep-alive" if keep_alive else "close")
        if keep_alive:
            wire.send(b"GET /bytes/1 HTTP/1.0\r\n\r\n")
            assert wire.response()[0] == 200
        assert wire.closed()


def test_http_1_0_clients_get_chunked_bodies_without_chunks(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        wire.send(b"GET /chunks/70000 HTTP/1.0\r\n\r\n")
        status, fields, body = wire.response()
        assert (status, len(body)) == (200, 70000)
        assert "transfer-encoding" not in fields


def test_half_closed_clients_get_their_answer(shared: Proxy) -> None:
    with Wire(shared.address) as wire:
        wire.get("/sleep/0.1")
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.response()[2] == b"slept 0.1\n"
        assert wire.closed()


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no-host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "several-hosts"),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400, "obs-fold"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, "space-before-colon"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "length-and-encoding",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            "different-content-lengths",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad-chunk-size"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "connect-refused"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 70000 + b"\r\n\r\n", 431, "header-too-large"),
        (b"GET / HTTP/2.1\r\nHost: a\r\n\r\n", 505, "http-version"),
    ],
)
def test_bad_requests_are_refused_and_closed(shared: Proxy, request_bytes: bytes, status: int, reason: str) -> None:
    with Wire(shared.address) as wire:
        wire.send(request_bytes)
        got, fields, _ = wire.response()
        assert (got, fields["x-drainproxy"], fields["connection"]) == (status, reason, "close")
        assert wire.closed()


def test_nothing_of_a_refused_request_leaks_into_the_next(shared: Proxy) -> None:
    key = str(shared.address[1])
    with Wire(shared.address) as wire:
        smuggled = f"GET /echo?key={key} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        wire.send(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + smuggled
        )
        assert wire.response()[0] == 400
        assert wire.rest() == b""
    assert httpx.get(f"{shared.url}/count?key={key}").text == "0"


def test_an_upload_of_a_gibibyte_streams_through(shared: Proxy) -> None:
    before = shared.resident_kib()
    size = 1 << 30

    def blocks() -> object:
        block = b"x" * (1 << 20)
        for _ in range(size >> 20):
            yield block

    seen = httpx.post(f"{shared.url}/echo", content=blocks(), headers={"Content-Length": str(size)}, timeout=60).json()  # type: ignore[arg-type]  # a generator of bytes
    assert seen["body"] == str(size)
    assert shared.resident_kib() - before < 8 << 10


def test_a_download_of_a_gibibyte_streams_through(shared: Proxy) -> None:
    before = shared.resident_kib()
    total = 0
    with httpx.stream("GET", f"{shared.url}/bytes/{1 << 30}", timeout=60) as response:
        for block in response.iter_raw(1 << 20):
            total += len(block)
    assert total == 1 << 30
    assert shared.resident_kib() - before < 8 << 10


def test_a_slow_reader_blocks_only_itself(shared: Proxy) -> None:
    before = shared.resident_kib()
    with Wire(shared.address) as slow:
        slow.get(f"/bytes/{1 << 28}")
        slow.read(1000)
        assert httpx.get(f"{shared.url}/bytes/10").content == bytes(range(10))
        assert shared.resident_kib() - before < 8 << 10


def test_max_body_is_answered_413(app: str) -> None:
    with serve(app, max_body="10B") as proxy:
        proxy.await_ready()
        assert httpx.post(f"{proxy.url}/echo", content=b"x" * 11).status_code == 413
        assert httpx.post(f"{proxy.url}/echo", content=b"x" * 10).status_code == 200
        with Wire(proxy.address) as wire:
            wire.send(
                b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nxxxxxxxxxxx\r\n0\r\n\r\n"
            )
            assert wire.response()[0] == 413


def test_gunicorn_behind_it(shared: Proxy) -> None:
    with (
        gunicorn("--threads", "8") as address,
        serve(address) as proxy,
        httpx.Client(base_url=proxy.await_ready().url) as client,
    ):
        assert client.post("/x", content=b"abc").json()["body"] == "abc"
        assert client.get("/nothing").status_code == 204
        assert client.get("/stream").text == "".join(f"{n}\n" for n in range(1000))
        with ThreadPoolExecutor(8) as pool:
            assert {r.status_code for r in pool.map(client.get, ["/x"] * 200)} == {200}
    del shared


@pytest.mark.slow
def test_gunicorns_two_second_keep_alive_loses_no_request() -> None:
    """The sync worker closes after each response, the threaded one after two idle seconds: neither costs a 502."""
    with gunicorn("--threads", "4", "--keep-alive", "1") as address, serve(address, upstream_idle="10s") as proxy:
        proxy.await_ready()
        with httpx.Client(base_url=proxy.url) as client:
            for _ in range(4):
                assert client.get("/x").status_code == 200
                wait_for(
                    lambda: proxy.status()["connections"]["upstream_idle"] == 0, "gunicorn to close its connection"
                )


def test_uvicorn_behind_it_streams_events_at_once() -> None:
    with uvicorn() as address, serve(address) as proxy:
        proxy.await_ready()
        assert httpx.post(f"{proxy.url}/x", content=b"abc").json()["body"] == "abc"
        with httpx.stream("GET", f"{proxy.url}/events") as response:
            events = response.iter_text()
            assert next(events) == "data: 0\n\n"  # 200 ms before the next: nothing was held back


def test_node_behind_it_hints_early_and_sends_trailers() -> None:
    with node() as address, serve(address) as proxy:
        proxy.await_ready()
        with Wire(proxy.address) as wire:
            status, fields, _ = wire.get("/hints").response()
            assert (status, fields["link"]) == (103, "</style.css>; rel=preload; as=style")
            assert wire.response()[0] == 200
            assert wire.get("/trailers", "TE: trailers", "Connection: TE").response()[1]["trailer x-sum"] == "4"
            wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert wire.response()[0] == 100
            wire.send(b"abc")
            assert json.loads(wire.response()[2])["body"] == "abc"


def test_nginx_behind_it_serves_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"z" * 3_000_000)
    with nginx(tmp_path) as address, serve(address) as proxy:
        proxy.await_ready()
        assert len(httpx.get(f"{proxy.url}/file").content) == 3_000_000
        part = httpx.get(f"{proxy.url}/file", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, b"z" * 10)
        assert httpx.get(f"{proxy.url}/nothing").status_code == 204


def test_curl_sees_no_difference(shared: Proxy, app: str) -> None:
    curl = need("curl", "curl")
    for options in (["-I"], ["-X", "OPTIONS"], ["-d", "a=b"], ["--http1.0"], ["--compressed"], ["-T", "/etc/hostname"]):
        outputs = [
            subprocess.run(
                [curl, "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", *options, f"{base}/echo"],
                capture_output=True,
                check=True,
            ).stdout
            for base in (f"http://{app}", shared.url)
        ]
        assert outputs[0] == outputs[1], options


def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with gunicorn("-b", f"unix:{path}") as _, serve(f"unix:{path}", listen=f"unix:{tmp_path}/in.sock") as proxy:
        proxy.await_ready()
        transport = httpx.HTTPTransport(uds=f"{tmp_path}/in.sock")
        with httpx.Client(transport=transport, base_url="http://app") as client:
            assert client.get("/x").json()["headers"]["HTTP_X_FORWARDED_FOR"] == "unix"


def test_ipv6_clients_and_dual_stack(app: str) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serve(app, listen=f":{free_port()}") as proxy:
        proxy.await_ready()
        port = proxy.address[1]
        assert httpx.get(f"http://[::1]:{port}/echo").status_code == 200
        seen = httpx.get(f"http://127.0.0.1:{port}/echo").json()
        assert {"X-Forwarded-For": "127.0.0.1"}.items() <= dict(seen["headers"]).items()
