"""What happens to connections that are held open? Opens many, idle or with one slow request each."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.client_steady import Connection, connect
from tests.bench.heads import head
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 100


def use_once(connections: list[Connection]) -> None:
    """One request on each, so that they are keep-alive connections and not merely open ones."""
    for start in range(0, len(connections), AT_ONCE):
        batch = connections[start : start + AT_ONCE]
        for number, each in enumerate(batch, start):
            each.socket.sendall(head(number))
        for each in batch:
            while not each.answered():
                pass


def watch_end(connections: list[Connection], timeout_s: float) -> dict[str, float]:
    """Times (monotonic) of the first and the last end of a connection; how many ended, and after which answers."""
    by_number = {each.socket.fileno(): each for each in connections}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    ends: list[float] = []
    answers: list[float] = []
    give_up = time.monotonic() + timeout_s
    while by_number and time.monotonic() < give_up:
        for number, _ in poll.poll(0.5):
            each = by_number[number]
            try:
                if each.answered():
                    answers.append(time.monotonic())
            except (BenchError, ConnectionError):
                ends.append(time.monotonic())
                poll.unregister(number)
                by_number.pop(number).socket.close()
    return {
        "ended": len(ends),
        "first_end": min(ends, default=0.0),
        "last_end": max(ends, default=0.0),
        "answered": len(answers),
        "last_answer": max(answers, default=0.0),
    }


def prepare(*, port: int, connections: int, slow_path: str, timeout_s: float) -> Callable[[], dict[str, float]]:
    opened = connect(port, connections)
    if slow_path:
        for number, each in enumerate(opened):
            each.socket.sendall(head(number, slow_path))
    else:
        use_once(opened)
    return lambda: watch_end(opened, timeout_s)


if __name__ == "__main__":
    run(prepare)
