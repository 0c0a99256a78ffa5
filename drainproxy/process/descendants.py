"""What has this process left behind? Its children, their children, and so on, as far as the kernel tells."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROUNDS = 10
"""Of killing what is left: each finds what was being started during the one before."""


def kill_all(reap: Callable[[], object]) -> None:
    """SIGKILL all of them, as the end of a container does when its first process ends. `reap`: after each round."""
    for _ in range(_ROUNDS):
        left = list(_descendants("self"))
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reap()


def _descendants(process: str) -> Iterator[int]:
    """Children of the process, their children, and so on; none where the kernel does not say (proc(5))."""
    for listed in Path("/proc", process, "task").glob("*/children"):
        try:
            found = listed.read_text(encoding="ascii").split()
        except OSError:  # it has just ended
            continue
        for pid in found:
            yield int(pid)
            yield from _descendants(pid)
