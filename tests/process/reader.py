"""A process in the foreground of a terminal whose child reads that terminal."""

from __future__ import annotations

import asyncio
import signal
import sys

from drainproxy.process.children import Children


async def _play() -> int:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    children = Children(loop)
    children.listen()
    return await children.start((sys.executable, "-c", "print('got', input())")).exited


def main() -> None:
    """Ends with the child's exit code."""
    sys.exit(asyncio.run(_play()))
