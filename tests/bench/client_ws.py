"""How many WebSocket messages go there and back? Each connection sends the next small message when it has the echo."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://bench\r\n\r\n"
)
TEXT, FIN, MASKED = 0x1, 0x80, 0x80


def upgraded(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), 10)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.sendall(UPGRADE)
    head = b""
    while b"\r\n\r\n" not in head:
        data = opened.recv(4096)
        if not data:
            raise BenchError("no answer to the upgrade")
        head += data
    if not head.startswith(b"HTTP/1.1 101 "):
        raise BenchError(f"upgrade refused: {head[:60]!r}")
    return opened


def prepare(*, port: int, connections: int, size: int, warm_s: float, run_s: float) -> Callable[[], dict[str, float]]:
    sockets = {each.fileno(): each for each in (upgraded(port) for _ in range(connections))}
    payload = b"m" * size
    message = bytes([FIN | TEXT, MASKED | size]) + bytes(4) + payload  # a mask of zeros: valid, and no work here
    echo = bytes([FIN | TEXT, size]) + payload
    poll = select.epoll()
    for number in sockets:
        poll.register(number, select.EPOLLIN)

    def exchange(seconds: float) -> int:
        """Number of messages that came back within `seconds`; waits for those still under way."""
        until = time.monotonic() + seconds
        parts: dict[int, bytes] = {}
        echoes, open_now = 0, len(sockets)
        for each in sockets.values():
            each.sendall(message)
        while open_now:
            ready = poll.poll(5)
            if not ready:
                raise BenchError(f"{open_now} messages did not come back within 5 s")
            over = time.monotonic() >= until
            for number, _ in ready:
                data = parts.pop(number, b"") + sockets[number].recv(4096)
                if len(data) < len(echo):
                    parts[number] = data
                    continue
                if data != echo:
                    raise BenchError(f"another message came back: {data[:40]!r}")
                echoes += 1
                if over:
                    open_now -= 1
                else:
                    sockets[number].sendall(message)
        return echoes

    exchange(warm_s)
    return lambda: {"messages": exchange(run_s)}


if __name__ == "__main__":
    run(prepare)
