"""How does a new generation become the child of the service manager, not ours? This is its parent, and ends at once.

systemd is told of another main process (MAINPID), but waits only for its own children. Any other it kills at once when
the service is to stop, instead of letting it drain (seen with systemd 252 and KillMode=mixed).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MODULE = "drainproxy.process.orphan"


def orphaned(command: Sequence[str], channel: int) -> list[str]:
    """The command line that starts `command` as nobody's child, and says its number on descriptor `channel`."""
    return [sys.executable, "-m", MODULE, str(channel), *command]


def start(channel: int, command: Sequence[str]) -> None:
    """Start it with what this process was passed, and say `{"pid": N}`, or `{"failed": REASON}`."""
    try:
        defaults = (signal.SIGPIPE, signal.SIGXFSZ)  # as process.children: this Python ignores them
        said: dict[str, object] = {
            "pid": os.posix_spawnp(command[0], list(command), os.environ, setsid=True, setsigdef=defaults)
        }
    except OSError as error:
        said = {"failed": f"cannot run {command[0]}: {error.strerror}"}
    os.write(channel, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    start(int(sys.argv[1]), sys.argv[2:])
