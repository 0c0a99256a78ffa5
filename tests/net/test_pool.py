"""Does everybody who wants a connection to the app get one, or an answer?"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from drainproxy.config import Address, load
from drainproxy.net.pool import Pool
from drainproxy.net.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def connected(self, upstream: UpstreamConnection) -> None:
        upstream.transport.abort()
        self.got.set()
        self.on_connected()


def as_client(wanting: Wanting) -> ClientConnection:
    return cast("ClientConnection", wanting)


async def test_who_wants_a_connection_while_another_one_is_handed_over_gets_one_too() -> None:
    loop = asyncio.get_running_loop()
    app = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", app.getsockname()[1])
    observer = cast("Observer", Counting())
    pool = Pool(loop, address, load({}, {}, {}), Timers(loop), observer)
    second = Wanting()
    first = Wanting(on_connected=lambda: pool.want(as_client(second)))
    pool.want(as_client(first))
    try:
        async with asyncio.timeout(2):
            await first.got.wait()
            await second.got.wait()
    finally:
        await pool.close()
        app.close()
