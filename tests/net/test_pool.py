"""Does everybody who wants a connection to the app get one, or an answer?"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from drainproxy.config import load
from drainproxy.net.pool import Pool
from drainproxy.net.timers import Timers
from drainproxy.values import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from drainproxy.net.client import ClientConnection
    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.observer import Observer, Side


class Counting:
    """The part of an observer that a pool reports to."""

    def opened(self, side: Side) -> None:
        """Not counted here."""

    def closed(self, side: Side) -> None:
        """Not counted here."""


class Wanting:
    """The part of a client that a pool hands a connection to."""

    def __init__(self, on_connected: Callable[[], None] = lambda: None) -> None:
        self.got = asyncio.Event()
        self.on_connected = on_connected
        self.upstream: UpstreamConnection | None = None

    def connected(self, upstream: UpstreamConnection) -> None:
        self.upstream = upstream
        self.got.set()
        self.on_connected()

    def let_go(self) -> None:
        if self.upstream is not None:
            self.upstream.transport.abort()


def as_client(wanting: Wanting) -> ClientConnection:
    return cast("ClientConnection", wanting)


@asynccontextmanager
async def pool_to(app: socket.socket, connect_timeout: str = "1s") -> AsyncIterator[Pool]:
    """A pool of connections to a listening socket: the kernel accepts in the app's place."""
    loop = asyncio.get_running_loop()
    address = Address("127.0.0.1", app.getsockname()[1])
    config = load({"connect-timeout": connect_timeout}, {}, {})
    pool = Pool(loop, address, config, Timers(loop), cast("Observer", Counting()))
    try:
        async with asyncio.timeout(2):
            yield pool
    finally:
        await pool.close()
        app.close()


async def test_who_wants_a_connection_while_another_one_is_handed_over_gets_one_too() -> None:
    async with pool_to(socket.create_server(("127.0.0.1", 0))) as pool:
        second = Wanting()
        first = Wanting(on_connected=lambda: pool.want(as_client(second)))
        pool.want(as_client(first))
        await first.got.wait()
        await second.got.wait()
        first.let_go()
        second.let_go()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_that_was_handed_over_in_time_stays_open_when_the_loop_is_late(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def hand_over_late() -> bytes:
        app = socket.create_server(("127.0.0.1", 0))
        app.settimeout(2)
        async with pool_to(app, connect_timeout="50ms") as pool:
            wanting = Wanting(on_connected=lambda: time.sleep(0.1))  # the attempt's time is over when the loop goes on
            pool.want(as_client(wanting))
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
