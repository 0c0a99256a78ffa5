"""How does an app live as our child? Started, told to stop, waited for, and its orphans with it.

As PID 1 of a container a process gets the zombies of every process whose parent has died. One thread waits for any
child to end: ours is reported, every other one is only reaped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from drainproxy.errors import ChildError

if TYPE_CHECKING:
    from collections.abc import Sequence

KILLED_BY_SIGNAL = 128
"""Exit codes above this: ended by signal number code - 128, as shells say it."""


class Child:
    """The app's process. It has a process group of its own, so that Ctrl-C reaches us, and us alone."""

    def __init__(self, command: Sequence[str], loop: asyncio.AbstractEventLoop) -> None:
        self._command = command
        self._loop = loop
        self._pid = 0
        self._told = False
        self.exited: asyncio.Future[int] = loop.create_future()
        """Its exit code, as a shell would say it."""

    def start(self) -> None:
        """Start it. Raises ChildError if there is no such program, or it may not be run."""
        try:
            process = subprocess.Popen(self._command, process_group=0)  # noqa: S603 - the user's own command
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise ChildError(f"cannot run {self._command[0]}: {error.strerror}", code) from error
        self._pid = process.pid
        process.returncode = 0  # the thread below reaps it; Popen must not try
        threading.Thread(target=self._reap, name="reap children", daemon=True).start()

    def stop(self) -> None:
        """SIGTERM, once."""
        if not self._told and not self.exited.done():
            self._told = True
            os.kill(self._pid, signal.SIGTERM)

    async def end(self, timeout_s: float) -> None:
        """SIGTERM if it has not had one; SIGKILL to its whole group if it still runs `timeout_s` later."""
        self.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self.exited)
        except TimeoutError:
            os.killpg(self._pid, signal.SIGKILL)
            await self.exited

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED)
            except ChildProcessError:  # nobody is left
                return
            if ended is not None and ended.si_pid == self._pid:
                code = ended.si_status if ended.si_code == os.CLD_EXITED else KILLED_BY_SIGNAL + ended.si_status
                self._loop.call_soon_threadsafe(self._report, code)

    def _report(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)
