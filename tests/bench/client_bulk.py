"""How fast do large bodies go through? Up- or downloads one after the other on a few keep-alive connections."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Literal

from tests.bench.client import run
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 1 << 18
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
ZEROS = memoryview(bytes(1 << 20))


class Line:
    """A blocking connection: these threads only wait for the kernel to copy, without the interpreter's lock."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = memoryview(bytearray(PIECE))

    def download(self, path: str, size: int) -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n".encode())
        self._answer(size)

    def upload(self, path: str, size: int) -> None:
        self.socket.sendall(
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        left = size
        while left:
            piece = min(left, len(ZEROS))
            self.socket.sendall(ZEROS[:piece])
            left -= piece
        self._answer(None)

    def _answer(self, size: int | None) -> None:
        """Read one whole answer. Raises BenchError unless it is a 200 of this size."""
        got = self.socket.recv_into(self.buffer)
        head = bytes(self.buffer[:got])
        end = head.find(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or end < 0 or length is None:
            raise BenchError(f"unexpected answer {head[:60]!r}")
        if size is not None and int(length[1]) != size:
            raise BenchError(f"{int(length[1])} bytes announced instead of {size}")
        left = int(length[1]) - (got - end - 4)
        while left > 0:
            got = self.socket.recv_into(self.buffer)
            if not got:
                raise BenchError("the answer was cut")
            left -= got


def prepare(
    *, port: int, connections: int, way: Literal["download", "upload"], path: str, size: int, run_s: float
) -> Callable[[], dict[str, float]]:
    lines = [Line(port) for _ in range(connections)]
    failures: list[Exception] = []
    transfers = [0] * connections

    def transfer(number: int, until: float) -> None:
        """Whole transfers until the time has passed, at least one."""
        one = lines[number].download if way == "download" else lines[number].upload
        try:
            while True:
                one(path, size)
                transfers[number] += 1
                if time.monotonic() >= until:
                    return
        except (BenchError, OSError) as failure:
            failures.append(failure)

    def all_at_once(until: float) -> float:
        begun = time.monotonic()
        threads = [threading.Thread(target=transfer, args=(number, until)) for number in range(connections)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if failures:
            raise BenchError(str(failures[0]))
        return time.monotonic() - begun

    all_at_once(0.0)
    transfers[:] = [0] * connections

    def work() -> dict[str, float]:
        seconds = all_at_once(time.monotonic() + run_s)
        return {"bytes": sum(transfers) * size, "seconds": seconds}

    return work


if __name__ == "__main__":
    run(prepare)
