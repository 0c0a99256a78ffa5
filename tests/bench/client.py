"""How do our own load clients and the run agree on when to begin? A line each way.

A client connects and warms up, prints `ready`, waits for a line on its input, then works and prints its figures as one
line of JSON. So the run can read the proxy's CPU time exactly before and after the work.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.bench.host import BenchError, die_with_parent, raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.bench.stage import Stage

READY = "ready"


class Client:
    """The run's side of a started client."""

    def __init__(self, name: str, child: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.child = child

    def line(self, timeout_s: float) -> str:
        """Its next line. Raises BenchError if there is none in time, or if it is an error."""
        assert self.child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise BenchError(f"client {self.name} said nothing for {timeout_s:g} s")
        text = self.child.stdout.readline().decode().strip()
        if not text:
            raise BenchError(f"client {self.name} ended with {self.child.wait(5)}")
        if text.startswith("error "):
            raise BenchError(f"client {self.name}: {text.removeprefix('error ')}")
        return text

    def begin(self) -> None:
        """Let it work."""
        assert self.child.stdin is not None
        self.child.stdin.write(b"go\n")
        self.child.stdin.flush()

    def result(self, timeout_s: float = 120.0) -> dict[str, float]:
        figures: dict[str, float] = json.loads(self.line(timeout_s))
        return figures

    def go(self) -> dict[str, float]:
        """Let it work, and wait for its figures."""
        self.begin()
        return self.result()


@contextmanager
def client(stage: Stage, name: str, **settings: object) -> Iterator[Client]:
    """Start `tests.bench.client_NAME` on the load core and wait until it is ready."""
    core = stage.cores.load

    def on_core() -> None:
        os.sched_setaffinity(0, {core})
        die_with_parent()

    child = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.client_{name}", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        preexec_fn=on_core,  # noqa: PLW1509 - no threads here
    )
    try:
        started = Client(name, child)
        said = started.line(60.0)
        if said != READY:
            raise BenchError(f"client {name} said {said!r} instead of {READY!r}")
        yield started
    finally:
        child.kill()
        child.communicate()


def run(prepare: Callable[..., Callable[[], Mapping[str, Any]]]) -> None:
    """The client's side: `prepare(**settings)` connects and warms up, what it returns does the work."""
    raise_file_limit()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    try:
        work = prepare(**json.loads(sys.argv[1]))
        print(READY, flush=True)
        if sys.stdin.readline():
            print(json.dumps(work()), flush=True)
    except (BenchError, OSError) as why:
        print(f"error {why}", flush=True)
