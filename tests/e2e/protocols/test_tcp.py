"""Raw TCP: every byte both ways, half-closed as the ends do it, bounded buffers, a drain that waits and then cuts."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import free_port, need, running
from tests.support.proxy import Proxy, serve, wait_for
from tests.support.scripted import Peer, upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def tcp(address: str, **options: Any) -> Iterator[Proxy]:
    """drainproxy with a `tcp` route to this address."""
    with serve(address, "--route", f"127.0.0.1:0={address},protocol=tcp", **options) as proxy:
        yield proxy.await_ready()


@contextmanager
def talking_to(script: Callable[[Peer], None], **options: Any) -> Iterator[tuple[Proxy, socket.socket]]:
    """A client of a `tcp` route whose app does what the script says. Health checks say nothing and leave."""
    with (
        upstream(script) as address,
        tcp(address, **options) as proxy,
        socket.create_connection(proxy.address, timeout=20) as client,
    ):
        yield proxy, client


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(1 << 16):
        data += more
    return data


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A ready proxy in front of a real Redis."""
    program, port = need("redis-server", "redis-server"), free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, port), tcp(f"127.0.0.1:{port}") as proxy:
        yield proxy


def redis_cli(proxy: Proxy, *words: str, given: bytes | None = None) -> str:
    program = need("redis-cli", "redis-tools")
    host, port = proxy.address
    command = [program, "-h", host, "-p", str(port), *words]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout.decode()


def test_redis_works(redis: Proxy) -> None:
    assert redis_cli(redis, "SET", "key", "value") == "OK\n"
    assert redis_cli(redis, "GET", "key") == "value\n"
    big = random.Random(1).randbytes(8 << 20)
    assert redis_cli(redis, "-x", "SET", "big", given=big) == "OK\n"
    assert redis_cli(redis, "STRLEN", "big") == f"{len(big)}\n"
    mass = b"".join(b"SET k%d %d\r\n" % (number, number) for number in range(20_000))
    assert re.search(r"errors: 0, replies: 20000", redis_cli(redis, "--pipe", given=mass))


def test_an_app_that_speaks_first_is_heard() -> None:
    def greet(peer: Peer) -> None:
        peer.send(b"220 hello\r\n")
        peer.sock.recv(100)

    with talking_to(greet) as (_, client):
        assert client.recv(100) == b"220 hello\r\n"


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    def count(peer: Peer) -> None:
        peer.send(b"%d" % len(read_all(peer.sock)))

    with talking_to(count) as (_, client):
        client.sendall(b"x" * 1_000_000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"1000000"


def test_an_app_that_half_closes_still_gets_the_rest() -> None:
    got: list[bytes] = []

    def end_first(peer: Peer) -> None:
        if peer.sock.recv(5) == b"hello":
            peer.sock.shutdown(socket.SHUT_WR)
            got.append(read_all(peer.sock))

    with talking_to(end_first) as (_, client):
        client.sendall(b"hello")
        assert client.recv(100) == b""
        client.sendall(b"the rest")
        client.close()
        wait_for(lambda: got == [b"the rest"], "the rest at the app")


@pytest.mark.slow
def test_both_ways_at_once_and_slowly() -> None:
    """64 MiB each way, the reader on either side slower than its peer: all of it arrives, in order."""
    size = 64 << 20
    block = random.Random(2).randbytes(1 << 20)

    def echo(peer: Peer) -> None:
        while data := peer.sock.recv(10_000):
            peer.send(data)

    with talking_to(echo) as (_, client):

        def send() -> None:
            for _ in range(size // len(block)):
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        seen, total = hashlib.sha256(), 0
        while more := client.recv(30_000):
            seen.update(more)
            total += len(more)
        sender.join()
        expected = hashlib.sha256()
        for _ in range(size // len(block)):
            expected.update(block)
        assert (total, seen.digest()) == (size, expected.digest())


@pytest.mark.parametrize("reader", ["client", "app"])
def test_a_reader_that_does_not_read_bounds_our_memory(reader: str) -> None:
    stop = threading.Event()
    block = bytes(1 << 16)

    def script(peer: Peer) -> None:
        if reader == "app":
            stop.wait(30)
            return
        while not stop.is_set():
            peer.send(block)

    with talking_to(script) as (proxy, client):
        before = proxy.resident_kib()
        client.settimeout(1)
        sent = 0
        try:
            while reader == "app" and sent < 1 << 28:
                sent += client.send(block)
        except TimeoutError:
            pass
        assert sent < 1 << 28
        wait_for(lambda: proxy.metric("drainproxy_in_flight", kind="tcp") >= 1, "the connection")
        assert proxy.resident_kib() - before < 8 << 10
        stop.set()


def test_a_reset_by_either_end_reaches_the_other() -> None:
    with talking_to(lambda peer: peer.reset() if peer.sock.recv(5) else None) as (_, client):
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_a_drain_waits_for_a_connection_to_end() -> None:
    def echo(peer: Peer) -> None:
        while data := peer.sock.recv(100):
            peer.send(data)

    with talking_to(echo) as (proxy, client):
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        assert proxy.ask("/drain?wait=0").status == 202
        wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
        assert proxy.status()["in_flight"]["tcp"] == 1
        client.sendall(b"b")
        assert client.recv(1) == b"b"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        assert proxy.ask("/drain").status == 200
        assert proxy.metric("drainproxy_drain_completed_total", kind="tcp") == 1


def test_the_deadline_cuts_a_connection_with_a_reset() -> None:
    ended: list[str] = []

    def wait(peer: Peer) -> None:
        try:
            if peer.sock.recv(100) and peer.sock.recv(100) == b"":
                ended.append("closed")
        except ConnectionResetError:
            ended.append("reset")

    with talking_to(wait, drain_timeout="1s", quiet_limit="500ms") as (proxy, client):
        client.sendall(b"x")
        wait_for(lambda: proxy.status()["in_flight"]["tcp"] == 1, "the connection")
        assert proxy.ask("/drain").status == 504
        with pytest.raises(ConnectionResetError):
            read_all(client)
        wait_for(lambda: ended == ["reset"], "the app to notice")
        assert proxy.metric("drainproxy_drain_aborted_total", kind="tcp", by="us") == 1


def test_a_connection_waits_for_an_app_that_is_not_there_yet() -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with (
        serve(address, "--route", f"127.0.0.1:0={address},protocol=tcp", connect_wait="10s") as proxy,
        socket.create_connection(proxy.address, timeout=20) as client,
    ):
        client.sendall(b"early")
        wait_for(lambda: proxy.status()["in_flight"]["tcp"] == 1, "the connection")
        with upstream(lambda peer: peer.send(peer.sock.recv(100)), port=port):
            assert client.recv(100) == b"early"


def test_several_routes_share_one_drain(redis: Proxy, tmp_path: Path) -> None:
    from tests.e2e.protocols.conftest import grpc_app, nghttpd  # noqa: PLC0415 - only here
    from tests.support.apps import http_server  # noqa: PLC0415 - only here

    (tmp_path / "small").write_bytes(b"ok")
    with http_server() as http1, nghttpd(tmp_path) as http2, grpc_app() as rpc:
        flags = [
            *("--route", f"127.0.0.1:0={http1},protocol=http1"),
            *("--route", f"127.0.0.1:0={http2},protocol=http2"),
            *("--route", f"127.0.0.1:0={rpc}"),
            *("--route", f"127.0.0.1:0={http1},protocol=tcp"),
        ]
        with serve(http1, *flags) as proxy:
            proxy.await_ready()
            curl = need("curl", "curl")
            ways = [((), "1.1 200"), (("--http2-prior-knowledge",), "2 200"), None, ((), "1.1 200")]
            for (host, port), way in zip(proxy.addresses, ways, strict=True):
                if way is None:
                    continue
                url = f"http://{host}:{port}/{'small' if way[0] else ''}"
                command = [curl, "-sS", *way[0], "-o", "/dev/null", "-w", "%{http_version} %{http_code}", url]
                assert subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout == way[1]
            routes = proxy.status()["routes"]
            assert [route["protocol"] for route in routes] == ["http1", "http2", "auto", "tcp"]
            host, port = proxy.addresses[3]
            with socket.create_connection((host, port)):
                wait_for(lambda: proxy.status()["in_flight"]["tcp"] == 1, "the connection")
                assert proxy.ask("/drain?wait=0").status == 202
                wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
            assert proxy.ask("/drain").status == 200
