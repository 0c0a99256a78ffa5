"""Echo servers of two makes, that everything is compared with: `websockets` or `aiohttp`, without compression."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import WSMsgType, web
from websockets.asyncio.server import ServerConnection, serve


async def with_websockets(port: int) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", port, compression=None, max_size=None, ping_interval=None):
        await asyncio.Event().wait()


async def with_aiohttp(port: int) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, max_msg_size=0)
        await response.prepare(request)
        async for message in response:
            if message.type is WSMsgType.TEXT:
                await response.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await response.send_bytes(message.data)
        return response

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"websockets": with_websockets, "aiohttp": with_aiohttp}[sys.argv[1]](int(sys.argv[2])))
