"""What answers where nginx cannot? Delays, uploads that are read to their end, the head as it arrived, WebSocket echo.

`GET /delay/MS` answers after MS milliseconds, `GET /head` with the request's head, `GET /count` with the number of
requests so far, a request with a body once the body is read, `Upgrade: websocket` with an echo of small messages.
Anything else: at once. HTTP/1.1 without chunked requests.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import sys
from typing import cast

import uvloop

BUFFER = memoryview(bytearray(1 << 18))
"""One for all connections: the loop fills it and calls `buffer_updated` before it reads from another one."""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*(\S+)", re.IGNORECASE)
WEBSOCKET_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MASKED_HEAD = 6
"""Two bytes of frame head and the mask of a message shorter than 126 bytes. Our clients mask with zeros."""


class App(asyncio.BufferedProtocol):
    """One connection from a proxy."""

    requests = 0
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.pending = b""
        self.body_left = 0
        self.echoes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self.body_left > nbytes:
            self.body_left -= nbytes
            return
        data = self.pending + bytes(BUFFER[self.body_left : nbytes])
        if self.body_left:
            self.body_left = 0
            self.transport.write(OK)
        self.pending = self._echo(data) if self.echoes else self._answer(data)

    def _answer(self, data: bytes) -> bytes:
        """Answer every whole request; return what is left of the last one."""
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head, data = data[: end + 4], data[end + 4 :]
            length = LENGTH.search(head)
            if length is not None and int(length[1]):
                self.body_left = int(length[1]) - len(data)
                if self.body_left > 0:
                    return b""
                data = data[int(length[1]) :]
                self.body_left = 0
            self._reply(head)
            if self.echoes:
                return self._echo(data)
        return data

    def _reply(self, head: bytes) -> None:
        App.requests += 1
        path = head.split(b" ", 2)[1]
        key = KEY.search(head)
        if key is not None:
            accept = base64.b64encode(hashlib.sha1(key[1] + WEBSOCKET_ID).digest())
            upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            self.transport.write(upgrade + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            self.echoes = True
        elif path.startswith(b"/delay/"):
            asyncio.get_running_loop().call_later(int(path[7:]) / 1000, self.transport.write, OK)
        elif path in (b"/head", b"/count"):
            body = head if path == b"/head" else b"%d" % App.requests
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            self.transport.write(OK)

    def _echo(self, data: bytes) -> bytes:
        """Send every whole message back unmasked; return what is left of the last one."""
        start, out = 0, []
        while len(data) - start >= MASKED_HEAD:
            length = data[start + 1] & 0x7F
            end = start + MASKED_HEAD + length
            if end > len(data):
                break
            out += [data[start : start + 1], length.to_bytes(), data[start + MASKED_HEAD : end]]
            start = end
        self.transport.writelines(out)
        return data[start:]


async def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await asyncio.get_running_loop().create_server(App, sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
