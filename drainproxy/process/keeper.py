"""Who stays when the process that a supervisor watches has handed over? This: a few lines that have its number.

A container ends with its first process, and supervisors restart a service when the process they have started ends. So
that process, once its connections have ended, becomes the keeper (execve(2) keeps number and children): it passes
signals on to the generation in service, reaps, and exits with its code. Each generation that hands over writes the
number of the next one to a pipe; it becomes the keeper's child when the one before it ends (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from drainproxy.process.signals import HANDLED

MODULE = "drainproxy.process.keeper"
WAITED = HANDLED | {signal.SIGCHLD}


def hold_for_keeper() -> None:
    """Let signals wait in the kernel until the keeper takes them: in between nobody could."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)


def become_keeper(pipe: int, in_service: int) -> NoReturn:
    """Run the keeper in the place of this process. Signals are held back already, and stay so."""
    os.set_inheritable(pipe, True)
    os.execv(sys.executable, [sys.executable, "-m", MODULE, str(pipe), str(in_service)])  # noqa: S606 - no shell


def announce(pipe: int, pid: int) -> None:
    """Tell the keeper who will be in service when the present generation ends."""
    with suppress(OSError):  # a keeper that was killed keeps nothing
        os.write(pipe, b"%d\n" % pid)


def keep(pipe: int, in_service: int) -> int:
    """Until the last generation ends; its exit code."""
    hold_for_keeper()
    os.set_blocking(pipe, False)
    watched = in_service
    while True:
        ended = _reap()
        in_service = _last_announced(pipe) or in_service
        while watched in ended:
            if watched == in_service:
                return ended[watched]
            watched = in_service
        number = signal.sigwait(WAITED)
        in_service = _last_announced(pipe) or in_service  # one that drains may end before it has passed a signal on
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(in_service, number)


def _reap() -> dict[int, int]:
    """Whoever has ended, with exit codes as shells say them."""
    ended = {}
    with suppress(ChildProcessError):  # nobody is left
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            code = os.waitstatus_to_exitcode(status)
            ended[pid] = code if code >= 0 else 128 - code
    return ended


def _last_announced(pipe: int) -> int | None:
    try:
        lines = os.read(pipe, 65536).split()
    except BlockingIOError:
        return None
    return int(lines[-1]) if lines else None


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), int(sys.argv[2])))
