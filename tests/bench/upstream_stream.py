"""What answers gRPC streams? An HTTP/2 server that sends every message back on its stream, as fast as frames go.

grpcio in Python would be the slowest part by far. This server knows the frames it needs, and reads no header fields.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

import uvloop

from tests.bench.frames import ACK, CREDIT, DATA, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, frame, frames

ANSWER = b"\x88" + b"\x00\x0ccontent-type\x10application/grpc"
"""The HPACK block of `:status: 200` and a field without indexing: the same for every stream."""
END_HEADERS = 0x4


class Echo(asyncio.Protocol):
    """One connection from a proxy."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.pending = b""
        self.preface_left = len(PREFACE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport.write(CREDIT)

    def data_received(self, data: bytes) -> None:
        skipped = min(self.preface_left, len(data))
        self.preface_left -= skipped
        whole, self.pending = frames(self.pending + data[skipped:])
        out = []
        for kind, flags, stream, payload in whole:
            if kind == DATA and payload:
                out.append(frame(DATA, 0, stream, payload))
            elif kind == HEADERS and not flags & END_STREAM:
                out.append(frame(HEADERS, END_HEADERS, stream, ANSWER))
            elif kind in (SETTINGS, PING) and not flags & ACK:
                out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        if out:
            self.transport.write(b"".join(out))


async def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await asyncio.get_running_loop().create_server(Echo, sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
