"""What is bounded stays bounded: file descriptors, clients that never read, hostile neighbours."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from drainproxy.net.listener import ACCEPTS
from tests.support.proxy import QUICK, Proxy, serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def poor(app: str) -> Iterator[Proxy]:
    """A proxy that may open 262 files: 64 spare, 64 of the route, 34 for large bodies, two for each of 50 clients."""
    options = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "upstream": app, "log-format": "json", **QUICK}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "drainproxy", "serve", *flags],
        stderr=subprocess.PIPE,
        text=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (262, 262))
    proxy = Proxy(process)
    try:
        yield proxy.await_ready()
    finally:
        process.kill()
        proxy.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_file_descriptors_do_not_run_out(poor: Proxy) -> None:
    assert poor.await_log("the limit of open files allows fewer connections")["max_connections"] == 50
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(poor.address)) for _ in range(100)]
        for wire in wires:
            wire.get("/sleep/0.2")
        for wire in wires[:50]:
            assert wire.response()[0] == 200
            wire.sock.close()
        for wire in wires[50:]:  # they waited in the backlog
            assert wire.response()[0] == 200
        assert poor.ask("/readyz").status == 200
    assert not any(line["level"] == "error" for line in poor.log)


@pytest.mark.parametrize("stock_loop", [False, True], ids=["uvloop", "stock"])
def test_a_crowd_passes_the_limit_of_connections_by_few(stock_loop: bool, app: str) -> None:
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(serve(app, stock_loop=stock_loop, max_connections="3")).await_ready()
        assert proxy.is_accepting()
        proxy.process.send_signal(signal.SIGSTOP)  # so that all of them are there at once
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(200)]
        proxy.process.send_signal(signal.SIGCONT)
        wait_for(lambda: not proxy.is_accepting(), "accepting to pause")
        clients = proxy.metric("drainproxy_connections", side="client")
        assert 3 <= clients <= 3 + 3 * ACCEPTS  # until the loop has stopped
        for wire in wires:  # nobody is lost: each has its turn as others go
            assert wire.get("/bytes/1").response()[0] == 200
            wire.sock.close()


def test_a_client_that_never_reads_costs_bounded_memory_and_ends_with_the_drain(app: str, proxy: Proxy) -> None:
    before = proxy.resident_kib()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Wire(proxy.address)).get(f"/bytes/{1 << 28}")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 20, "twenty downloads")
        assert httpx.get(f"{proxy.url}/bytes/1").status_code == 200
        assert proxy.resident_kib() - before < 30 << 10
    wait_for(lambda: proxy.status()["in_flight"]["http"] == 0, "the clients' end to be noticed")


def test_endless_pipelining_without_reading_is_held_back(proxy: Proxy) -> None:
    before = proxy.resident_kib()
    with Wire(proxy.address) as wire:
        wire.sock.settimeout(1)
        request = b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
        with pytest.raises(TimeoutError):
            for _ in range(3000):
                wire.send(request)
        assert proxy.resident_kib() - before < 10 << 10
        assert httpx.get(f"{proxy.url}/bytes/1").status_code == 200
