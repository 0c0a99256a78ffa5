"""What holds for all tests? Nothing of the machine's settings, no verdict by the clock, the same examples each time."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

UNIT = Path(__file__).parent / "unit"

for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

# Bytecode is written: some hundred tests start a drainproxy, and each would compile all of its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What is made while tests are collected lives as long as the process: looking for garbage took a third of that time.
gc.disable()

settings.register_profile("drainproxy", deadline=None, derandomize=True)
settings.load_profile("drainproxy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In parallel the slow files begin, then those that wait, so that no worker is left alone with one at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (item.path not in slow, item.path.is_relative_to(UNIT)))


def pytest_collection_finish() -> None:
    """From here on garbage is collected, and only in what tests make."""
    gc.freeze()
    gc.enable()
