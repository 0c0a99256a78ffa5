"""What holds for all tests? Nothing of the machine's settings, no verdict by the clock, the same examples each time."""

from __future__ import annotations

import os

from hypothesis import settings

for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

settings.register_profile("drainproxy", deadline=None, derandomize=True)
settings.load_profile("drainproxy")
