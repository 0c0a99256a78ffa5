"""Are colours wanted? The flag says so, else the environment, else click, which gives them to terminals only."""

from __future__ import annotations

import os


def wants_color(flag: bool | None) -> bool | None:
    """What click's `color` is: False with NO_COLOR (no-color.org: set and not empty) or on a terminal that is dumb."""
    if flag is not None:
        return flag
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
