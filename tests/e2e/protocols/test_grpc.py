"""gRPC with grpcio's own clients: every kind of call, alone and while replicas are replaced."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drainproxy.tools.cluster.balancer import Balancer
from drainproxy.tools.cluster.endpoints import Endpoint
from tests.e2e.protocols.calls import KINDS, Tally, call, call_aio, load, load_aio, methods
from tests.e2e.protocols.conftest import grpc_app
from tests.support.apps import free_port
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

LATE_S = 0.2
"""The balancer learns this late that a replica ends: less than the floor, as it should be."""


def target(proxy: Proxy) -> str:
    return "{}:{}".format(*proxy.address)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call(rpc: Proxy, kind: str) -> None:
    with grpc.insecure_channel(target(rpc)) as channel:
        for _ in range(20):
            call(methods(channel), kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_with_asyncio(rpc: Proxy, kind: str) -> None:
    async with grpc.aio.insecure_channel(target(rpc)) as channel:
        for _ in range(20):
            await call_aio(methods(channel), kind)


def test_a_message_of_4_mib_passes_both_ways(rpc: Proxy) -> None:
    options = [("grpc.max_receive_message_length", 8 << 20)]
    with grpc.insecure_channel(target(rpc), options=options) as channel:
        message = random.Random(1).randbytes((4 << 20) - 100)
        assert methods(channel)["unary"](message) == message


def test_health_checks_pass_through(rpc: Proxy) -> None:
    with grpc.insecure_channel(target(rpc)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_streams_are_counted_and_listed(rpc: Proxy) -> None:
    before = rpc.metric("drainproxy_requests_total", method="other", code="relayed")
    with grpc.insecure_channel(target(rpc)) as channel:
        slow = methods(channel)["unary"].future(b"sleep 1")
        wait_for(lambda: rpc.status()["in_flight"]["http2"] == 1, "the stream in /status")
        assert rpc.status()["oldest"][0]["kind"] == "http2"
        assert slow.result() == b"sleep 1"
    wait_for(lambda: rpc.metric("drainproxy_requests_total", method="other", code="relayed") == before + 1, "the count")


def test_a_client_that_cancels_is_counted_as_not_answered(rpc: Proxy) -> None:
    before = rpc.metric("drainproxy_requests_total", method="other", code="none")
    with grpc.insecure_channel(target(rpc)) as channel:
        slow = methods(channel)["unary"].future(b"sleep 2")
        wait_for(lambda: rpc.status()["in_flight"]["http2"] == 1, "the stream in /status")
        slow.cancel()
        wait_for(lambda: rpc.status()["in_flight"]["http2"] == 0, "the end of the stream")
    assert rpc.metric("drainproxy_requests_total", method="other", code="none") == before + 1


def test_a_call_waits_for_an_app_that_is_not_there_yet() -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", connect_wait="10s") as proxy, grpc.insecure_channel(target(proxy)) as channel:
        waiting = methods(channel)["unary"].future(b"hello", wait_for_ready=True)
        time.sleep(0.3)  # the point is that the app is late
        server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Unary": handler}),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        assert waiting.result(10) == b"hello"
        server.stop(None).wait()


def test_at_the_deadline_a_call_fails_with_a_status_that_says_so() -> None:
    with grpc_app() as address, serve(address, drain_timeout="1s") as proxy:
        proxy.await_ready()
        with grpc.insecure_channel(target(proxy)) as channel:
            stuck = methods(channel)["unary"].future(b"sleep 5")
            wait_for(lambda: proxy.status()["in_flight"]["http2"] == 1, "the stream in /status")
            answer = proxy.ask("/drain")
            assert answer.status == 504
            assert answer.json["aborted"] == 1
            error = stuck.exception(10)
            assert isinstance(error, grpc.RpcError)
            assert error.code() is grpc.StatusCode.INTERNAL


class Replicas:
    """Two replicas behind a balancer: an app and a drainproxy each, replaced one after the other."""

    def __init__(self, balancer: Balancer, **options: Any) -> None:
        self._learn = balancer.learner("node")
        self._options: dict[str, Any] = {"grace_period": "40s", "propagation_delay": "1s"} | options
        self._running: list[tuple[ExitStack, ExitStack, Proxy]] = []

    async def add(self) -> None:
        """One more."""

        def start() -> tuple[ExitStack, ExitStack, Proxy]:
            app, sidecar = ExitStack(), ExitStack()
            address = app.enter_context(grpc_app())
            proxy = sidecar.enter_context(serve(address, **self._options))
            return app, sidecar, proxy.await_ready()

        self._running.append(await asyncio.to_thread(start))
        self.tell()

    def tell(self, without: Proxy | None = None) -> None:
        """The balancer learns who is there."""
        proxies = [proxy for _, _, proxy in self._running if proxy is not without]
        self._learn(tuple(Endpoint("pod", *proxy.address, serving=True, terminating=False) for proxy in proxies))

    async def replace_oldest(self) -> None:
        """As a rolling update does it: a new one first; then the old one's preStop; then its app and it are stopped."""
        app, sidecar, proxy = self._running[0]
        drain = asyncio.create_task(asyncio.to_thread(proxy.ask, "/drain"))
        await asyncio.sleep(LATE_S)
        self.tell(without=proxy)
        answer = await drain
        assert answer.status == 200, answer.body
        del self._running[0]
        await asyncio.to_thread(app.close)
        proxy.signal(signal.SIGTERM)
        assert await asyncio.to_thread(proxy.wait) == 0
        sidecar.close()
        await self.add()

    async def close(self) -> None:
        for app, sidecar, _ in self._running:
            await asyncio.to_thread(sidecar.close)
            await asyncio.to_thread(app.close)


async def roll(
    drive: Callable[[str, threading.Event, Tally], Coroutine[Any, Any, None]],
    channels: int = 2,
    kinds: tuple[str, ...] = KINDS,
    **options: Any,
) -> Tally:
    """Replace both replicas while `drive` makes calls of these kinds; what became of the calls."""
    balancer = Balancer(random.Random(7))
    port = await balancer.start("127.0.0.1")
    replicas = Replicas(balancer, **options)
    stop, tally = threading.Event(), Tally()
    try:
        await replicas.add()
        await replicas.add()
        load_ = [asyncio.create_task(drive(f"127.0.0.1:{port}", stop, tally)) for _ in range(channels)]
        while not all(tally.done[kind] > 20 for kind in kinds):  # noqa: ASYNC110 - the calls are counted in threads
            await asyncio.sleep(0.01)
        await replicas.replace_oldest()
        await replicas.replace_oldest()
        stop.set()
        await asyncio.gather(*load_)
    finally:
        stop.set()
        await replicas.close()
        await balancer.close()
    return tally


@pytest.mark.slow
async def test_a_rolling_stop_of_each_replica_fails_no_call() -> None:
    async def drive(address: str, stop: threading.Event, tally: Tally) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            for thread in list(load(channel, stop, tally)):
                await asyncio.to_thread(thread.join)

    tally = await roll(drive)
    assert tally.failed == []
    assert min(tally.done[kind] for kind in KINDS) > 100


@pytest.mark.slow
async def test_a_rolling_stop_of_each_replica_fails_no_call_with_asyncio() -> None:
    async def drive(address: str, stop: threading.Event, tally: Tally) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            await asyncio.gather(*(load_aio(channel, kind, stop, tally) for kind in KINDS))

    tally = await roll(drive)
    assert tally.failed == []
    assert min(tally.done[kind] for kind in KINDS) > 100


@contextmanager
def busy_processors() -> Iterator[None]:
    """Somebody else needs every processor."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.slow
async def test_streams_back_to_back_survive_the_end_of_a_drain_on_busy_processors() -> None:
    """Each begins the moment the one before has ended: some cross the GOAWAY of the last call."""

    async def drive(address: str, stop: threading.Event, tally: Tally) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            await load_aio(channel, "server stream", stop, tally)

    with busy_processors():
        tally = await roll(drive, 4, ("server stream",), close_spread="20s", quiet_limit="100ms")
    assert tally.failed == []


async def stream_through_a_stop(count: int, pause_s: float) -> list[Any]:
    balancer = Balancer(random.Random(7))
    port = await balancer.start("127.0.0.1")
    replicas = Replicas(balancer)
    try:
        await replicas.add()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = methods(channel)["server stream"](b"%d %f" % (count, pause_s))
            pieces = aiter(stream)
            got = [await anext(pieces)]
            await replicas.add()
            stopping = asyncio.create_task(replicas.replace_oldest())
            got += [piece async for piece in pieces]
            await stopping
            await call_aio(methods(channel), "unary")
    finally:
        await replicas.close()
        await balancer.close()
    return got


@pytest.mark.slow
async def test_a_stream_in_flight_completes_before_its_replica_stops() -> None:
    assert await stream_through_a_stop(12, 0.25) == [b"%d" % number for number in range(12)]


@pytest.mark.slow
async def test_a_stream_of_20_s_in_flight_completes_before_its_replica_stops() -> None:
    assert await stream_through_a_stop(40, 0.5) == [b"%d" % number for number in range(40)]
