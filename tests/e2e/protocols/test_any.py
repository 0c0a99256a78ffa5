"""A route for whatever comes: HTTP as on other routes, the rest as bytes, and an app that speaks first is heard."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.e2e.protocols.test_tcp import redis_cli
from tests.support.apps import free_port, http_server, need, running
from tests.support.proxy import Proxy, serve, wait_for
from tests.support.scripted import Peer, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def anything(address: str) -> Iterator[Proxy]:
    """drainproxy with an `any` route to this address."""
    with serve(address, "--route", f"127.0.0.1:0={address},protocol=any") as proxy:
        yield proxy.await_ready()


def test_redis_works(tmp_path: Path) -> None:
    program, port = need("redis-server", "redis-server"), free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with running(command, port), anything(f"127.0.0.1:{port}") as proxy:
        assert redis_cli(proxy, "SET", "key", "value") == "OK\n"
        assert redis_cli(proxy, "GET", "key") == "value\n"


def test_an_app_that_speaks_first_is_heard() -> None:
    def greets(peer: Peer) -> None:
        peer.send(b"220 mail.example\r\n")
        peer.send(b"250 " + peer.sock.recv(100))

    with upstream(greets) as address, anything(address) as proxy, socket.create_connection(proxy.address, 20) as client:
        assert client.recv(100) == b"220 mail.example\r\n"
        assert proxy.status()["in_flight"]["tcp"] == 1
        client.sendall(b"EHLO me\r\n")
        assert client.recv(100) == b"250 EHLO me\r\n"


def test_http_is_served_to_a_client_that_connected_long_before_it_asked() -> None:
    with http_server() as address, anything(address) as proxy, socket.create_connection(proxy.address, 20) as client:
        wait_for(lambda: proxy.status()["connections"]["client"] == 1, "the connection")
        assert proxy.status()["in_flight"] == {"http": 0, "http2": 0, "websocket": 0, "tcp": 0}
        client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        with httpx.Client() as other:
            assert other.get(proxy.url).status_code == 200
            assert other.get(proxy.url).status_code == 200
        assert proxy.metric("drainproxy_requests_total", method="GET", code="200") == 3


def test_http_is_as_strict_as_ever() -> None:
    bad = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with http_server() as address, anything(address) as proxy, socket.create_connection(proxy.address, 20) as client:
        client.sendall(bad)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 400")


def test_a_silent_connection_does_not_hold_the_drain() -> None:
    with http_server() as address, anything(address) as proxy, socket.create_connection(proxy.address, 20) as client:
        wait_for(lambda: proxy.status()["connections"]["client"] == 1, "the connection")
        assert proxy.ask("/drain").json["outcome"] == "clean"
        assert client.recv(1) == b""
