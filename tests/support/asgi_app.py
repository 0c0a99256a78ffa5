"""An ASGI app for uvicorn: echoes, streams, sends events, speaks WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Does what the path asks."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)
    elif scope["path"] == "/events":
        await events(send)
    else:
        await echo(scope, receive, send)


async def echo_messages(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def events(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(5):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body"})


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"].startswith("/sleep/"):
        await asyncio.sleep(float(scope["path"].removeprefix("/sleep/")))
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    seen = {"method": scope["method"], "path": scope["path"], "headers": headers, "body": body.decode("latin-1")}
    text = json.dumps(seen).encode()
    start = {"status": 200, "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": text})
