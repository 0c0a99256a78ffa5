"""A WebSocket app that nobody made ready for shutdown: echoes, and writes down how each connection ended for it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


def note(line: str) -> None:
    with Path(sys.argv[2]).open("a", encoding="ascii") as file:
        file.write(line)


async def echo(connection: ServerConnection) -> None:
    try:
        while True:
            message = await connection.recv()
            if message == "fragments":
                await connection.send(iter(["one", "two", "three"]))
            else:
                await connection.send(message)
    except ConnectionClosed as closed:
        line = f"{closed.rcvd.code if closed.rcvd else 1006} {'client' if closed.rcvd_then_sent else 'app'}\n"
        await asyncio.to_thread(note, line)


async def main() -> None:
    compression = "deflate" if "deflate" in sys.argv else None
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=compression, max_size=None, ping_interval=None):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
