"""How does the demo's Service spread connections? A TCP relay that picks an endpoint at random for each connection.

It stands for kube-proxy where there are no privileges to program the kernel: established connections stay where they
are, whatever happens to the endpoints. One difference is left: it has accepted before it knows whether the Pod does,
so a refused connection reaches the client as a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from drainproxy.tools.cluster.endpoints import Endpoint

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 64 * 1024


class Balancer:
    """The way to the Service. `start` listens, `close` ends everything. A connection takes a random node's view."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._known: dict[str, tuple[Endpoint, ...]] = {}
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int = 0) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, host, port, backlog=1024)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def learner(self, node: str) -> Callable[[tuple[Endpoint, ...]], None]:
        """What tells the balancer where new connections that come over `node` go from now on."""
        self._known[node] = ()

        def learn(endpoints: tuple[Endpoint, ...]) -> None:
            self._known[node] = endpoints

        return learn

    def _pick(self) -> Endpoint | None:
        endpoints = self._dice.choice(list(self._known.values())) if self._known else ()
        return self._dice.choice(endpoints) if endpoints else None

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.create_task(self._relay(reader, writer), name="balancer connection")
        self._relays.add(relay)
        relay.add_done_callback(partial(self._ended, writer))

    def _ended(self, writer: asyncio.StreamWriter, relay: asyncio.Task[None]) -> None:
        self._relays.discard(relay)
        if relay.cancelled():  # perhaps before its first line
            reset(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoint = self._pick()
        if endpoint is None:
            reset(writer)
            return
        try:
            back_reader, back_writer = await asyncio.open_connection(endpoint.ip, endpoint.port)
        except OSError:
            reset(writer)
            return
        ways = (_copy(reader, back_writer), _copy(back_reader, writer))
        try:
            ends = await asyncio.gather(*ways, return_exceptions=True)
        except asyncio.CancelledError:
            reset(writer)
            reset(back_writer)
            raise
        broken = any(isinstance(end, OSError) for end in ends)
        for side in (writer, back_writer):
            if broken:
                reset(side)
            else:
                side.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes one way until the end of the stream, which is passed on. A reset on either side tears down both ways."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        reset(writer)
        raise


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as the kernel of a dead process' peer would see it."""
    transport = writer.transport
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
