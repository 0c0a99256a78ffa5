"""Is what has left freed, when nothing else calls the garbage collector?"""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from drainproxy.process import memory
from drainproxy.process.memory import CROWD, FreedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ring:
    """Refers to itself, as the parts of a connection do to each other."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[weakref.ref[Ring]]:
    """Garbage that nobody else collects."""
    monkeypatch.setattr(memory, "LOOK_S", 0.0)
    gc.disable()
    yield weakref.ref(Ring())
    gc.enable()


async def looks(*clients: tuple[int, int]) -> None:
    """So many looks, each of which finds these clients."""
    found = iter(clients)
    over = asyncio.Event()

    def look() -> tuple[int, int]:
        seen = next(found, None)
        if seen is None:
            over.set()
        return seen or (0, 0)

    giving = asyncio.create_task(FreedMemory().give_back(look))
    await over.wait()
    giving.cancel()


@pytest.mark.parametrize(("connected", "still"), [(CROWD, 0), (2 * CROWD + 50, CROWD + 25), (9 * CROWD, 3 * CROWD)])
async def test_a_crowd_that_has_left_is_collected(left: weakref.ref[Ring], connected: int, still: int) -> None:
    await looks((connected, still))
    assert left() is None


@pytest.mark.parametrize(("connected", "still"), [(0, 0), (CROWD - 1, 0), (CROWD, 1), (5 * CROWD, 3 * CROWD)])
async def test_few_that_have_left_are_not_worth_a_look_at_many_that_stay(
    left: weakref.ref[Ring], connected: int, still: int
) -> None:
    await looks((connected, still))
    assert left() is not None


async def test_a_crowd_is_collected_once(left: weakref.ref[Ring], monkeypatch: pytest.MonkeyPatch) -> None:
    collections = 0

    def collect() -> None:
        nonlocal collections
        collections += 1

    monkeypatch.setattr(gc, "collect", collect)
    await looks((CROWD, 0), (CROWD, 0), (2 * CROWD - 1, 0), (2 * CROWD, 0))
    assert collections == 2
    assert left() is not None
