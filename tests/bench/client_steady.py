"""How long do answers take at a fixed rate? Requests are due at fixed times, whether earlier ones are answered or not.

Latency counts from when a request was due. A closed loop would wait with the next request while the proxy is slow, and
so leave out the very moments that matter (coordinated omission).
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.heads import head
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

GIVE_UP_S = 30.0


class Connection:
    """A keep-alive connection that has at most one request open. `closes`: the last answer said that it is the last."""

    __slots__ = ("closes", "due", "received", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.closes = False
        self.due = 0.0
        self.received = b""

    def answered(self) -> bool:
        """Read; True if the answer is whole. Raises BenchError for anything but a whole 200."""
        data = self.socket.recv(65536)
        if not data:
            raise BenchError("the proxy closed a keep-alive connection under load")
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.received[:end].lower()
        start = head.find(b"content-length:")
        if not self.received.startswith(b"HTTP/1.1 200 ") or start < 0:
            raise BenchError(f"unexpected answer {self.received[:60]!r}")
        length = int(self.received[start + 15 : self.received.find(b"\r\n", start)])
        if len(self.received) < end + 4 + length:
            return False
        self.closes = b"\r\nconnection: close" in head
        self.received = b""
        return True


def connect(port: int, connections: int) -> list[Connection]:
    """One after the other: a full accept queue makes us wait, and loses nothing."""
    opened = []
    for _ in range(connections):
        each = socket.create_connection(("127.0.0.1", port), 30)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.append(Connection(each))
    return opened


class Driver:
    """Sends what is due over whichever connection is free, in turn."""

    def __init__(self, poll: select.epoll, connections: list[Connection], path: str) -> None:
        self.poll = poll
        self.by_number = {each.socket.fileno(): each for each in connections}
        self.free = deque(connections)
        self.waiting: deque[float] = deque()
        self.numbers = itertools.count(1_000_000)
        self.path = path
        for number in self.by_number:
            self.poll.register(number, select.EPOLLIN)

    def drive(self, rate: float, seconds: float) -> tuple[list[float], list[float]]:
        """Latencies of all requests, and how late each was sent, in seconds."""
        total = round(rate * seconds)
        latencies: list[float] = []
        lateness: list[float] = []
        clock = time.perf_counter
        begun = clock() + 0.01
        sent = 0
        while len(latencies) < total:
            now = clock()
            while sent < total and begun + sent / rate <= now:
                due = begun + sent / rate
                sent += 1
                lateness.append(clock() - due)
                self._send(due)
            until = begun + sent / rate - clock() if sent < total else 1.0
            if now - begun > seconds + GIVE_UP_S:
                raise BenchError(f"{total - len(latencies)} of {total} requests were not answered")
            # select() waits for microseconds where epoll's timeout counts milliseconds.
            if not select.select([self.poll], [], [], max(until, 0.0))[0]:
                continue
            for number, _ in self.poll.poll(0):
                connection = self.by_number[number]
                if connection.answered():
                    latencies.append(clock() - connection.due)
                    self.free.append(connection)
                    if self.waiting:
                        self._send(self.waiting.popleft())
        return latencies, lateness

    def _send(self, due: float) -> None:
        if not self.free:
            self.waiting.append(due)
            return
        connection = self.free.popleft()
        connection.due = due
        connection.socket.sendall(head(next(self.numbers), self.path))


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def prepare(
    *, port: int, connections: int, rate: float, warm_s: float, run_s: float, path: str = ""
) -> Callable[[], dict[str, float]]:
    poll = select.epoll()  # before the connections: select() takes no descriptor above 1023
    driver = Driver(poll, connect(port, connections), path)
    driver.drive(rate, max(warm_s, connections / rate))  # at least once over every connection

    def work() -> dict[str, float]:
        latencies, lateness = (sorted(each) for each in driver.drive(rate, run_s))
        figures = {f"p{100 * share:g}": percentile(latencies, share) for share in (0.5, 0.99, 0.999)}
        return {"requests": len(latencies), "late_p99": percentile(lateness, 0.99), **figures}

    return work


if __name__ == "__main__":
    run(prepare)
