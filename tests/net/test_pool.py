"""Does everybody who wants a connection to the app get one, or an answer?"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from drainproxy.config.loading import load
from drainproxy.config.values import Address
from drainproxy.net.dial import MAX_DIALS, Dialler
from drainproxy.net.pool import ConnectionPool
from drainproxy.net.timers import Timers
from drainproxy.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.observe.observer import Observer, Side


class Counting:
    """The part of an observer that a pool reports to."""

    def opened(self, side: Side) -> None:
        """Not counted here."""


class Wanting:
    """The part of a client that a pool hands a connection to."""

    def __init__(self, on_connected: Callable[[], None] = lambda: None) -> None:
        self.got = asyncio.Event()
        self.on_connected = on_connected
        self.reason: Reason | None = None
        self.upstream: UpstreamConnection | None = None

    def connected(self, upstream: UpstreamConnection) -> None:
        self.upstream = upstream
        self.got.set()
        self.on_connected()

    def refused(self, reason: Reason) -> None:
        self.reason = reason
        self.got.set()

    def let_go(self) -> None:
        if self.upstream is not None:
            self.upstream.transport.abort()


@asynccontextmanager
async def pool_to(
    app: socket.socket, connect_timeout: str = "1s", connect_wait: str = "5s"
) -> AsyncIterator[tuple[ConnectionPool, Dialler]]:
    """A pool of connections to a listening socket: the kernel accepts in the app's place."""
    loop = asyncio.get_running_loop()
    address = Address("127.0.0.1", app.getsockname()[1])
    config = load({"connect-timeout": connect_timeout, "connect-wait": connect_wait}, {}, {})
    pool = ConnectionPool(loop.time, config.upstream_idle_s, Timers(loop), cast("Observer", Counting()))
    dialler = Dialler(loop, address, config, pool)
    try:
        async with asyncio.timeout(2):
            yield pool, dialler
    finally:
        await dialler.close()
        pool.close()
        app.close()


async def test_who_wants_a_connection_while_another_one_is_handed_over_gets_one_too() -> None:
    async with pool_to(socket.create_server(("127.0.0.1", 0))) as (_, dialler):
        second = Wanting()
        first = Wanting(on_connected=lambda: dialler.want(second, fresh=True, validate=False))
        dialler.want(first, fresh=True, validate=False)
        await first.got.wait()
        await second.got.wait()
        first.let_go()
        second.let_go()


async def test_a_crowd_shares_the_connections_that_are_given_back_and_never_dials_all_at_once() -> None:
    loop = asyncio.get_running_loop()
    most_dials = 0

    def done_with(wanting: Wanting) -> None:
        nonlocal most_dials
        most_dials = max(most_dials, sum(task.get_name().startswith("dial ") for task in asyncio.all_tasks()))
        assert wanting.upstream is not None
        loop.call_soon(pool.put, wanting.upstream)  # its exchange takes one turn of the loop

    async with pool_to(socket.create_server(("127.0.0.1", 0), backlog=1024)) as (pool, dialler):
        crowd = [Wanting() for _ in range(1000)]
        for wanting in crowd:
            wanting.on_connected = partial(done_with, wanting)
            dialler.want(wanting, fresh=False, validate=False)
        for wanting in crowd:
            await wanting.got.wait()
        connections = {wanting.upstream for wanting in crowd}
        assert most_dials <= MAX_DIALS
        assert len(connections) < len(crowd) / 2
        await asyncio.sleep(0)
        for upstream in connections:
            assert upstream is not None
            upstream.transport.abort()


async def test_a_connection_that_is_given_back_goes_to_the_first_who_takes_a_used_one() -> None:
    async with pool_to(socket.create_server(("127.0.0.1", 0))) as (pool, dialler):
        first = Wanting()
        dialler.want(first, fresh=False, validate=False)
        await first.got.wait()
        assert first.upstream is not None
        tunnel, request = Wanting(), Wanting()
        dialler.want(tunnel, fresh=True, validate=False)
        dialler.want(request, fresh=False, validate=True)
        pool.put(first.upstream)
        assert request.upstream is first.upstream
        assert request.upstream.reused
        await tunnel.got.wait()
        assert tunnel.upstream is not first.upstream
        first.let_go()
        tunnel.let_go()


async def test_a_connection_that_the_app_is_closing_is_not_handed_to_a_request_that_cannot_be_repeated() -> None:
    app = socket.create_server(("127.0.0.1", 0))
    async with pool_to(app) as (pool, dialler):
        first = Wanting()
        dialler.want(first, fresh=False, validate=False)
        await first.got.wait()
        assert first.upstream is not None
        accepted, _ = app.accept()
        accepted.close()  # the loop has not seen it yet
        upload = Wanting()
        dialler.want(upload, fresh=False, validate=True)
        pool.put(first.upstream)
        assert upload.upstream is None
        await upload.got.wait()
        assert upload.upstream is not first.upstream
        first.let_go()
        upload.let_go()


def refusing() -> socket.socket:
    """An app that is gone: its port is kept, so that nobody else gets it, and refuses."""
    app = socket.socket()
    app.bind(("127.0.0.1", 0))
    return app


async def test_while_the_app_refuses_a_request_is_held_until_it_is_there() -> None:
    app = refusing()
    async with pool_to(app) as (_, dialler):
        held = Wanting()
        dialler.want(held, fresh=True, validate=False)
        await asyncio.sleep(0.01)
        app.listen()
        await held.got.wait()
        assert held.reason is None
        held.let_go()


@pytest.mark.parametrize("given_up_before", [True, False])
async def test_nobody_is_held_for_an_app_that_refuses_and_is_not_expected_back(given_up_before: bool) -> None:
    async with pool_to(refusing(), connect_wait="1h") as (pool, dialler):
        wanting = Wanting()
        if given_up_before:
            dialler.expected = False
        dialler.want(wanting, fresh=True, validate=False)
        await asyncio.sleep(0)
        dialler.expected = False
        await wanting.got.wait()
        assert wanting.reason is Reason.CONNECT_REFUSED
        assert pool.waiting == 0


async def test_whoever_was_held_as_long_as_it_may_is_refused() -> None:
    async with pool_to(refusing(), connect_wait="100ms") as (pool, dialler):
        wanting = Wanting()
        dialler.want(wanting, fresh=True, validate=False)
        await wanting.got.wait()
        assert wanting.reason is Reason.CONNECT_REFUSED
        assert pool.waiting == 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_that_was_handed_over_in_time_stays_open_when_the_loop_is_late(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def hand_over_late() -> bytes:
        app = socket.create_server(("127.0.0.1", 0))
        app.settimeout(2)
        async with pool_to(app, connect_timeout="50ms") as (_, dialler):
            wanting = Wanting(on_connected=lambda: time.sleep(0.1))  # the attempt's time is over when the loop goes on
            dialler.want(wanting, fresh=True, validate=False)
            await wanting.got.wait()
            await asyncio.sleep(0.01)  # turns of the loop in which the attempt ends
            assert wanting.upstream is not None
            wanting.upstream.write(b"hello")
            accepted, _ = app.accept()
            with accepted:
                accepted.settimeout(2)
                said = accepted.recv(5)
            wanting.let_go()
            await asyncio.sleep(0)
            return said

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(hand_over_late()) == b"hello"


async def test_an_app_that_is_slow_to_accept_does_not_make_others_wait_for_one_attempt_at_a_time() -> None:
    """An attempt that times out says that the app is busy, not that it is gone: as many as may be are under way."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as app:
        filling = [socket.socket() for _ in range(8)]
        for each in filling:  # the accept queue is full: who comes now is not answered
            each.setblocking(False)
            each.connect_ex(app.getsockname())
        async with pool_to(app, connect_timeout="100ms", connect_wait="1h") as (pool, dialler):
            waiting = [Wanting() for _ in range(6)]
            for waiter in waiting:
                dialler.want(waiter, fresh=True, validate=False)
            await asyncio.sleep(0.3)
            assert dialler._dialling == len(waiting) == pool.waiting
            for each in filling:
                each.close()
            taking = asyncio.create_task(take_all(app))
            await asyncio.gather(*(waiter.got.wait() for waiter in waiting))
            for waiter in waiting:
                waiter.let_go()
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


async def take_all(app: socket.socket) -> None:
    app.setblocking(False)
    loop, taken = asyncio.get_running_loop(), []
    try:
        while True:
            taken.append((await loop.sock_accept(app))[0])
    finally:
        for each in taken:
            each.close()


async def test_no_exception_of_any_kind_ends_dialling() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    async with pool_to(refusing(), connect_wait="50ms") as (pool, dialler):

        async def broken() -> list[str]:
            raise LookupError("a bug")

        dialler._resolver.hosts = broken  # type: ignore[method-assign]  # what may fail in any way
        for _ in range(2):
            wanting = Wanting()
            dialler.want(wanting, fresh=True, validate=False)
            async with asyncio.timeout(5):
                await wanting.got.wait()
            assert wanting.reason is Reason.CONNECT_FAILED
        assert pool.waiting == dialler._dialling == 0
        assert all(isinstance(failure, LookupError) for failure in failures)
        assert failures
