"""Who stays when the process that a supervisor watches has handed over? This: a few lines that have its number.

A container ends with its first process, and supervisors restart a service when the process they have started ends. So
that process, once its connections have ended, becomes the keeper (execve(2) keeps number and children): it passes
signals on to the generation in service, reaps, and exits with its code. Each generation that hands over writes who is
in service then to a pipe; that one becomes the keeper's child when the one before it ends (PR_SET_CHILD_SUBREAPER).

Under `run` the app stays the keeper's child. It alone learns the app's exit code, and uses it when the generation in
service ends because the app has. What the app leaves behind ends with the keeper.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NamedTuple, NoReturn

from drainproxy.process.descendants import kill_all
from drainproxy.process.signals import HANDLED

MODULE = "drainproxy.process.keeper"
WAITED = HANDLED | {signal.SIGCHLD}
APP_ENDED = 120
"""The exit code of a generation that ends because its app has, which an earlier one has started: it knows no other."""


class InService(NamedTuple):
    """Numbers of processes. `app`: 0 if it is no child of ours."""

    generation: int
    app: int


def hold_for_keeper() -> None:
    """Let signals wait in the kernel until the keeper takes them: in between nobody could."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)


def become_keeper(pipe: int, now: InService, app_code: int | None) -> NoReturn:
    """Run the keeper in the place of this process. Signals are held back already, and stay so.

    `app_code`: the exit code of the app, if it has ended.
    """
    os.set_inheritable(pipe, True)
    told = (pipe, now.generation, now.app, "" if app_code is None else app_code)
    command = [sys.executable, "-m", MODULE, *(str(word) for word in told)]
    os.execv(sys.executable, command)  # noqa: S606 - no shell


def announce(pipe: int, now: InService) -> None:
    """Tell the keeper who will be in service when the present generation ends."""
    with suppress(OSError):  # a keeper that was killed keeps nothing
        os.write(pipe, b"%d %d\n" % (now.generation, now.app))


def code_of_all(generation: int, app: int | None) -> int:
    """What a supervisor is told: the code of the last generation, or of the app that it has followed. None: it runs."""
    return app if generation == APP_ENDED and app is not None else generation


def keep(pipe: int, now: InService, app_code: int | None) -> int:
    """Until the last generation ends; its exit code, or that of the app that it has followed."""
    hold_for_keeper()
    os.set_blocking(pipe, False)
    watched = now.generation
    while True:
        ended = _reap()
        before, now = now, _last_announced(pipe) or now
        app_code = ended.get(now.app, app_code if now.app == before.app else None)
        while watched in ended:
            if watched == now.generation:
                kill_all(_reap)
                return code_of_all(ended[watched], app_code)
            watched = now.generation
        number = signal.sigwait(WAITED)
        now = _last_announced(pipe) or now  # one that drains may end before it has passed a signal on
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(now.generation, number)


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


def _last_announced(pipe: int) -> InService | None:
    try:
        lines = os.read(pipe, 65536).splitlines()
    except BlockingIOError:
        return None
    return InService(*(int(number) for number in lines[-1].split())) if lines else None


if __name__ == "__main__":
    pipe, generation, app, code = sys.argv[1:]
    sys.exit(keep(int(pipe), InService(int(generation), int(app)), int(code) if code else None))
