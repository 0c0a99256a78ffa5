"""Sockets behave a little differently on uvloop and on the stock loop: every coroutine here runs on both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The hook of pytest-asyncio that names the loops."""
    return {"stock": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
