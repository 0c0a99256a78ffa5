"""What is a plain HTTP app? A thread a connection, no graceful shutdown; it can be told to fail its health or to crash.

/ answers after 20 ms, /slow?s=N after N seconds, /drip?s=N over N seconds. After /break its /healthz fails; after /hang
nothing is answered any more. /crash ends the process at once, and writes down how many other requests it had in hand.
Told to stop, it writes down that too, and how long it has had none.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import ClassVar

from drainproxy.tools.cluster.plain_app import Handler, Server
from tests.cluster.peers.end import die_on_sigterm

IN_HAND = "in hand at the crash: "


class Fragile(Handler):
    """All Pods of a Deployment share the code, each process its own fate."""

    broken: ClassVar[bool] = False
    in_hand: ClassVar[int] = 0
    last_end: ClassVar[float] = 0.0
    hung: ClassVar[threading.Event] = threading.Event()
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/crash":
            print(f"{IN_HAND}{self.in_hand}", flush=True)
            os._exit(1)
        if self.path == "/break":
            type(self).broken = True
        if self.path == "/hang":
            self.hung.set()
        if self.hung.is_set() and self.path == "/healthz":
            threading.Event().wait()
        if self.path == "/healthz" and self.broken:
            self.send_error(500)
            return
        if self.path == "/healthz":
            super().do_GET()
            return
        self._count(1)
        try:
            if self.hung.is_set():
                threading.Event().wait()
            super().do_GET()
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        with self.lock:
            type(self).in_hand += by
            type(self).last_end = time.monotonic()


def last_words() -> str:
    """What it had in hand, and how long it has had nothing."""
    return json.dumps({"in_hand": Fragile.in_hand, "idle_s": round(time.monotonic() - Fragile.last_end, 3)})


if __name__ == "__main__":
    Fragile.last_end = time.monotonic()
    die_on_sigterm(last_words)
    Server(("0.0.0.0", 8080), Fragile).serve_forever()
