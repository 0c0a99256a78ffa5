"""What do clients lose that go on sending while the proxy drains? Each connection has a request open all the time."""

from __future__ import annotations

import itertools
import select
import time
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.client_steady import Connection, connect
from tests.bench.heads import head
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

GIVE_UP_S = 30.0


class Clients:
    """They come back, on a new connection if the answer said that it is the last, until they leave."""

    def __init__(self, port: int, connections: int, path: str) -> None:
        self.port = port
        self.path = path
        self.poll = select.epoll()
        self.by_number: dict[int, Connection] = {}
        self.numbers = itertools.count()
        self.answered = 0
        self.lost = 0
        self.last_answer = 0.0
        for each in connect(port, connections):
            self._ask(each)

    def drive(self, leave_s: float) -> None:
        """Until every request has its answer or is lost. From `leave_s` on, no request follows an answer."""
        leave_at = time.monotonic() + leave_s
        while self.by_number and time.monotonic() < leave_at + GIVE_UP_S:
            for number, _ in self.poll.poll(0.5):
                connection = self.by_number[number]
                try:
                    if connection.answered():
                        self._went_well(connection, comes_back=time.monotonic() < leave_at)
                except (BenchError, OSError):
                    self.lost += 1
                    self._close(connection)
        self.lost += len(self.by_number)

    def _ask(self, connection: Connection) -> None:
        self.by_number[connection.socket.fileno()] = connection
        self.poll.register(connection.socket.fileno(), select.EPOLLIN)
        connection.socket.sendall(head(next(self.numbers), self.path))

    def _went_well(self, connection: Connection, *, comes_back: bool) -> None:
        self.answered += 1
        self.last_answer = time.monotonic()
        if comes_back and not connection.closes:
            connection.socket.sendall(head(next(self.numbers), self.path))
            return
        self._close(connection)
        if comes_back:
            self._ask(connect(self.port, 1)[0])

    def _close(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        if self.by_number.pop(number, None) is not None:
            self.poll.unregister(number)
            connection.socket.close()


def prepare(*, port: int, connections: int, path: str, leave_s: float) -> Callable[[], dict[str, float]]:
    clients = Clients(port, connections, path)

    def work() -> dict[str, float]:
        clients.drive(leave_s)
        return {"answered": clients.answered, "lost": clients.lost, "last_answer": clients.last_answer}

    return work


if __name__ == "__main__":
    run(prepare)
