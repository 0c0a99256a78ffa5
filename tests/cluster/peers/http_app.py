"""What is a plain HTTP app? A thread a connection, no graceful shutdown; it can be told to fail its health or to crash.

/ answers after 20 ms, /slow?s=N after N seconds, /drip?s=N over N seconds. After /break its /healthz fails. /crash ends
the process at once, and writes down how many other requests it had in hand.
"""

from __future__ import annotations

import os
import threading
from typing import ClassVar

from drainproxy.tools.cluster.plain_app import Handler, Server
from tests.cluster.peers.end import die_on_sigterm

IN_HAND = "in hand at the crash: "


class Fragile(Handler):
    """All Pods of a Deployment share the code, each process its own fate."""

    broken: ClassVar[bool] = False
    in_hand: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/crash":
            print(f"{IN_HAND}{self.in_hand}", flush=True)
            os._exit(1)
        if self.path == "/break":
            type(self).broken = True
        if self.path == "/healthz" and self.broken:
            self.send_error(500)
            return
        self._count(1)
        try:
            super().do_GET()
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        with self.lock:
            type(self).in_hand += by


if __name__ == "__main__":
    die_on_sigterm()
    Server(("0.0.0.0", 8080), Fragile).serve_forever()
