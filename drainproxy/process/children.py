"""Which processes are ours? Those we start, and those whose parents have died: all are reaped, none is left behind.

An orphan becomes the child of PID 1, or of a process that has asked for it (PR_SET_CHILD_SUBREAPER, prctl(2)). So we
can end what an app leaves behind outside of a container, too, where nobody else would.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from drainproxy.errors import ChildError
from drainproxy.process.descendants import kill_all
from drainproxy.process.keeper import APP_ENDED
from drainproxy.process.signals import HANDLED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

try:
    import ctypes
except ImportError:  # a Python that was built without libffi: orphans are ours as PID 1 only
    ctypes = None  # type: ignore[assignment]  # looked at before use

KILLED_BY_SIGNAL = 128
"""Exit codes above this: ended by signal number code - 128, as shells say it."""
REAPED_S = 2.0
"""A process that got SIGKILL ends at once, unless the kernel holds it in a system call. Nobody waits longer for it."""
_SET_CHILD_SUBREAPER = 36


class Child:
    """A process that we started: leader of a session of its own, so that Ctrl-C reaches us and us alone.

    Outside of our session it has no controlling terminal, and may read from it without being stopped (SIGTTIN).
    `descriptor`: of a process that another one has started, and that we watch and stop all the same (pidfd_open(2)).
    """

    def __init__(self, pid: int, loop: asyncio.AbstractEventLoop, descriptor: int | None = None) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self.exited: asyncio.Future[int] = loop.create_future()
        """Its exit code, as a shell would say it."""
        self._loop = loop
        self._killing: asyncio.TimerHandle | None = None

    def signal(self, number: int) -> None:
        """Pass a signal on. Nothing happens once it has ended: until it is reaped, its number is nobody else's."""
        if self.exited.done():
            return
        if self._descriptor is None:
            os.kill(self.pid, number)
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def stop(self, within_s: float) -> None:
        """SIGTERM, and SIGKILL if it still runs `within_s` seconds later. Calling it again changes nothing."""
        if self._killing is None and not self.exited.done():
            self._killing = self._loop.call_later(within_s, self.kill)
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, to its whole process group."""
        if not self.exited.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def end(self, within_s: float) -> None:
        """Stop it, unless that was done before, and wait until it has ended."""
        self.stop(within_s)
        if self._killing is not None:
            within_s = max(0.0, self._killing.when() - self._loop.time())
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s + REAPED_S):
                await asyncio.shield(self.exited)

    def ended(self, code: int) -> None:
        """It was reaped."""
        if self._killing is not None:
            self._killing.cancel()
        if not self.exited.done():
            self.exited.set_result(code)


class Children:
    """All child processes. `reap` has to be called on SIGCHLD, which `listen` sees to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, adopts: bool = True) -> None:
        """`adopts`: orphans of our descendants become our children."""
        self._loop = loop
        self._adopts = adopts
        self._started: dict[int, Child] = {}

    def listen(self) -> None:
        """From now on every child is reaped when it ends."""
        if self._adopts and ctypes is not None and hasattr(libc := ctypes.CDLL(None), "prctl"):
            libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # uvloop keeps SIGCHLD from its own handlers. Python's are run by both loops, once they listen to any signal.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: self._reap_soon())

    def _reap_soon(self) -> None:
        """A child may end after the loop, when this process is about to: then there is nobody to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.reap)

    def start(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Child:
        """Start a program with our standard streams. Raises ChildError if there is none, or it may not be run."""
        return self._spawn(command, os.environ if environ is None else environ, held=(), actions=[])

    def start_generation(self, command: Sequence[str], environ: Mapping[str, str], passed: Mapping[int, int]) -> Child:
        """Start a drainproxy with these descriptors (new number: ours), signals held back. Raises ChildError."""
        copies: list[int] = []  # above all numbers that are given: a duplicate onto itself would be closed there
        try:
            copies.extend(fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, max(passed) + 1) for ours in passed.values())
            actions = [(os.POSIX_SPAWN_DUP2, copy, number) for copy, number in zip(copies, passed, strict=True)]
            return self._spawn(command, environ, held=HANDLED, actions=actions)
        finally:
            for copy in copies:
                os.close(copy)

    def adopt(self, pid: int) -> Child:
        """A process that is another's child. Its exit code is its parent's to know: see keeper.APP_ENDED.

        Raises ChildError if there is no such process, or the kernel cannot watch it.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            raise ChildError(f"cannot watch process {pid}: {error.strerror}", 1) from error
        child = Child(pid, self._loop, descriptor)

        def ended() -> None:
            self._loop.remove_reader(descriptor)
            child.ended(APP_ENDED)
            os.close(descriptor)

        self._loop.add_reader(descriptor, ended)
        return child

    def _spawn(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        held: Collection[signal.Signals],
        actions: Sequence[tuple[int, int, int]],
    ) -> Child:
        try:
            pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environ),
                file_actions=actions,
                setsid=True,
                setsigmask=held,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise ChildError(f"cannot run {command[0]}: {error.strerror}", code) from error
        child = self._started[pid] = Child(pid, self._loop)
        return child

    def reap(self) -> None:
        """Take the exit codes of all that have ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:  # nobody is left
                return
            if ended is None:  # nobody else has ended
                return
            child = self._started.pop(ended.si_pid, None)
            if child is not None:
                killed = ended.si_code != os.CLD_EXITED
                child.ended(ended.si_status + (KILLED_BY_SIGNAL if killed else 0))

    def kill_rest(self) -> None:
        """SIGKILL what is left of our descendants."""
        kill_all(self.reap)
