"""What is a plain WebSocket app? The websockets library's server, which echoes."""

from __future__ import annotations

import asyncio
import http
import os
from typing import TYPE_CHECKING

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.cluster.peers.end import die_on_sigterm

if TYPE_CHECKING:
    from websockets.http11 import Request, Response


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


def health(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(http.HTTPStatus.OK, "ok\n") if request.path == "/healthz" else None


def name(_connection: ServerConnection, _request: Request, response: Response) -> None:
    response.headers["X-Pod"] = os.environ.get("POD_NAME", "")


async def main() -> None:
    async with serve(echo, "0.0.0.0", 8080, process_request=health, process_response=name):
        die_on_sigterm()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
