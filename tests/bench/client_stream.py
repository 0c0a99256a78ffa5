"""How many messages go there and back on gRPC streams? Each stream sends the next one when it has the echo."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.frames import (
    ACK,
    CREDIT,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    frames,
)
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

END_HEADERS = 0x4
FIELDS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/bench.Echo/Stream",
    ":authority": "bench",
    "te": "trailers",
    "content-type": "application/grpc",
    "user-agent": "bench",
}


def literal(name: str, value: str) -> bytes:
    """A field without indexing and with a new name (RFC 7541, section 6.2.2); both shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


REQUEST = b"".join(literal(*field) for field in FIELDS.items())


class Connection:
    """An HTTP/2 connection with open streams, one message under way on each."""

    def __init__(self, port: int, streams: int, message: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.size = len(message)
        self.message = {1 + 2 * n: frame(DATA, 0, 1 + 2 * n, message) for n in range(streams)}
        self.missing = dict.fromkeys(self.message, 0)
        heads = b"".join(frame(HEADERS, END_HEADERS, stream, REQUEST) for stream in self.message)
        self.socket.sendall(PREFACE + CREDIT + heads)

    def send_all(self) -> None:
        self.missing = dict.fromkeys(self.message, self.size)
        self.socket.sendall(b"".join(self.message.values()))

    def receive(self, *, go_on: bool) -> int:
        """Read; returns how many echoes are whole now. With `go_on`, the next message follows each of them.

        Flow control is not looked at: a proxy that gives no credit back in time would close the connection.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise BenchError("the proxy closed a connection with open streams")
        whole, self.pending = frames(self.pending + data)
        echoes, out = 0, []
        for kind, flags, stream, payload in whole:
            if kind == DATA:
                self.missing[stream] -= len(payload)
                if not self.missing[stream]:
                    echoes += 1
                    if go_on:
                        self.missing[stream] = self.size
                        out.append(self.message[stream])
            if kind in (SETTINGS, PING) and not flags & ACK:
                out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
                raise BenchError(f"a stream was ended by frame {kind} with {payload[:60]!r}")
        if out:
            self.socket.sendall(b"".join(out))
        return echoes


def prepare(
    *, port: int, connections: int, streams: int, size: int, warm_s: float, run_s: float
) -> Callable[[], dict[str, float]]:
    message = b"\0" + size.to_bytes(4) + b"m" * size
    opened = [Connection(port, streams, message) for _ in range(connections)]
    by_number = {each.socket.fileno(): each for each in opened}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)

    def exchange(seconds: float) -> int:
        """Number of messages that came back within `seconds`; waits for those still under way."""
        until = time.monotonic() + seconds
        echoes, open_now = 0, connections * streams
        for each in opened:
            each.send_all()
        while open_now:
            ready = poll.poll(5)
            if not ready:
                raise BenchError(f"{open_now} messages did not come back within 5 s")
            over = time.monotonic() >= until
            for number, _ in ready:
                back = by_number[number].receive(go_on=not over)
                echoes += back
                if over:
                    open_now -= back
        return echoes

    exchange(warm_s)
    return lambda: {"messages": exchange(run_s)}


if __name__ == "__main__":
    run(prepare)
