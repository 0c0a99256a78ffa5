"""What does a WebSocket app look like? It echoes text messages, and dies on SIGTERM."""

from __future__ import annotations

import os
import signal
import sys

from aiohttp import WSMsgType, web


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    socket.headers["X-Pod"] = os.environ["POD_NAME"]
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def die_on_sigterm(_: web.Application) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/ws", echo)
    app.router.add_get("/healthz", health)
    app.on_startup.append(die_on_sigterm)
    web.run_app(app, host=os.environ["POD_IP"], port=int(sys.argv[1]), print=None, handle_signals=False)
