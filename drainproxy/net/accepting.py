"""How does accepting begin and pause, so that nobody who has connected is lost? On both loops."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


async def accept(
    loop: asyncio.AbstractEventLoop,
    protocol: Callable[[], asyncio.BaseProtocol],
    sock: socket.socket,
    backlog: int,
    **options: Any,
) -> asyncio.AbstractServer:
    """Accept on a duplicate of this listening socket: the socket stays open when that pauses."""
    if sock.family == socket.AF_UNIX and sys.version_info >= (3, 13) and isinstance(loop, asyncio.BaseEventLoop):
        options["cleanup_socket"] = False  # the stock loop would delete the path when accepting pauses
    serve = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
    return await serve(protocol, sock=sock.dup(), backlog=backlog, **options)


async def stop_accepting(loop: asyncio.AbstractEventLoop, servers: Sequence[asyncio.AbstractServer]) -> None:
    """Accept nobody any more.

    The stock loop makes a client a connection one turn after it accepted it; a closed server would drop it.
    """
    if isinstance(loop, asyncio.BaseEventLoop):
        for server in servers:
            for sock in cast("asyncio.Server", server).sockets:
                loop.remove_reader(sock.fileno())
        await asyncio.sleep(0)
    for server in servers:
        server.close()
