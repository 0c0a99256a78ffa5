"""How does an app die that handles no signal? At once; a process 1 must say so, or SIGTERM does nothing."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED_BY_SIGTERM = 143
TERMINATION_LOG = Path("/dev/termination-log")
"""What is written there, Kubernetes shows as the container's termination message."""


def die_on_sigterm(last_words: Callable[[], str] = str) -> None:
    """As every process that is not number 1 does by default. Call it last: servers install handlers of their own."""

    def die(*_: object) -> None:
        with suppress(OSError):
            TERMINATION_LOG.write_text(last_words())
        os._exit(KILLED_BY_SIGTERM)

    signal.signal(signal.SIGTERM, die)
