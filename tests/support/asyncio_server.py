"""A server in the test's own loop that leaves nothing behind: no connection, and no task of one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


TURNS = 5
"""Of the loop, in which a connection that was accepted before gets its handler."""


@asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """Its port on 127.0.0.1. At the end the handlers that still run are cancelled, and every connection is closed.

    `options`: of asyncio.start_server.
    """
    connections: list[tuple[asyncio.Task[Any] | None, asyncio.StreamWriter]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append((asyncio.current_task(), writer))
        await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for task, writer in connections:
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
