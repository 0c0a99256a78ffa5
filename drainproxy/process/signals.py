"""Which signals reach us, and when? None ends the process without a drain, from its first instruction on.

Until the loop runs, signals are held back in the kernel: a blocked signal stays pending, even for PID 1, which would
lose it otherwise (signal(7), pid_namespaces(7)).
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

_LEFT_ALONE = (
    *("SIGKILL", "SIGSTOP"),  # nobody can handle these
    *("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU"),  # faults: a core dump helps
    *("SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU"),  # a shell's job control
    *("SIGPIPE", "SIGXFSZ"),  # Python ignores both: the call that caused it fails instead
    "SIGCHLD",  # harms nobody, and whoever has children listens to it
)

HANDLED = signal.valid_signals() - {getattr(signal, name) for name in _LEFT_ALONE if hasattr(signal, name)}
"""Every signal that would end the process, and those that an app may give a meaning to."""


def hold() -> None:
    """Let signals wait until `listen`. Call it before anything that takes time."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def listen(
    loop: asyncio.AbstractEventLoop, known: Mapping[int, Callable[[], None]], other: Callable[[int], None]
) -> None:
    """Call `known[number]`, or `other(number)`, for each signal that comes from now on or was held."""
    for number in HANDLED:
        if number in known:
            loop.add_signal_handler(number, known[number])
        else:
            loop.add_signal_handler(number, other, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
