"""What does the service manager hear of us? Readiness, state, life signs: sd_notify(3). Without one, nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY_S = 1.0
"""Between two reports while nothing changes; shorter if the watchdog wants it."""
EXTRA_S = 2.0
"""Beyond what a drain may still take, the service manager is asked to wait so long for the exit."""


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def without_manager(environ: Mapping[str, str]) -> dict[str, str]:
    """For the app: were it to speak to our service manager, it would be taken for us."""
    return {name: value for name, value in environ.items() if name not in VARIABLES}


@dataclass(frozen=True, slots=True)
class Report:
    """What the process does, for people, and whether it is on its way out.

    `left_s`: the exit comes after so many seconds at the latest, None while the process is to stay.
    """

    status: str
    left_s: float | None


class ServiceManager:
    """The manager's socket. A manager that does not listen is nobody's failure: what was to be said is dropped."""

    def __init__(self, path: str | None, watchdog_s: float | None, *, follows: bool) -> None:
        self._path = "\0" + path[1:] if path and path.startswith("@") else path
        self.follows = follows and path is not None
        """It accepts another main process in our place."""
        self._every_s = min(EVERY_S, watchdog_s / 2) if watchdog_s else EVERY_S
        self._life_sign = ["WATCHDOG=1"] if watchdog_s else []
        self._stopping = False
        self._said = ""
        self._silent = False

    @staticmethod
    def of(environ: Mapping[str, str], pid: int) -> ServiceManager:
        """The one that the environment names, if any."""
        usec = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        return ServiceManager(
            environ.get("NOTIFY_SOCKET") or None,
            int(usec) / 1e6 if ours and usec.isdigit() and int(usec) else None,
            follows=pid != 1,  # a container ends with its first process, whoever manages the container
        )

    def say(self, *lines: str) -> None:
        """One message. It is sent at once or not at all."""
        if self._path is None or self._silent:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._path)

    def hand_over_to(self, pid: int | None) -> None:
        """Another process speaks for the service from now on. None: the main process stays what it is."""
        if pid is not None:
            self.say(f"MAINPID={pid}")
        self._silent = True

    def take_back(self, pid: int | None) -> None:
        """This process speaks for the service again."""
        self._silent = False
        self.say(*([] if pid is None else [f"MAINPID={pid}"]), "READY=1")

    def ready(self) -> None:
        """Clients can connect."""
        self.say("READY=1")

    def reloading(self) -> None:
        """SIGHUP is being obeyed; `ready` follows. The time orders it among several (CLOCK_MONOTONIC)."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The process will end."""
        if not self._stopping:
            self._stopping = True
            self.say("STOPPING=1")

    def report(self, now: Report) -> None:
        """The state, if it has changed; a sign of life; while the process ends, how long that may take."""
        lines = list(self._life_sign)
        status = " ".join(now.status.split())
        if status != self._said:
            self._said = status
            lines.append(f"STATUS={status}")
        if now.left_s is not None:
            self.stopping()
            lines.append(f"EXTEND_TIMEOUT_USEC={int((now.left_s + EXTRA_S) * 1e6)}")
        if lines:
            self.say(*lines)

    async def keep_told(self, look: Callable[[], Report]) -> None:
        """Report until cancelled. A loop that does not turn sends no sign of life: that is what the watchdog is for."""
        while self._path is not None:
            self.report(look())
            await asyncio.sleep(self._every_s)
