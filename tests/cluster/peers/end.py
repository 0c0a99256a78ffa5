"""How does an app die that handles no signal? At once; a process 1 must say so, or SIGTERM does nothing."""

from __future__ import annotations

import os
import signal

KILLED_BY_SIGTERM = 143


def die_on_sigterm() -> None:
    """As every process that is not number 1 does by default. Call it last: servers install handlers of their own."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(KILLED_BY_SIGTERM))
