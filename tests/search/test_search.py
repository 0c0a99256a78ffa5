"""The searches run and find nothing: a few cases here, thousands with `make search`."""

from __future__ import annotations

import pytest

from tests.search.case import play
from tests.search.crowd import crowds
from tests.search.fuzz import Fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(9000, 9008))
async def test_a_random_drain_keeps_every_promise(seed: int) -> None:
    case, broken = await play(seed)
    assert broken == [], (seed, case.options, case.facts.steps)


@pytest.mark.slow
async def test_nothing_that_either_end_sends_leaves_anything_behind() -> None:
    fuzz, told = Fuzz(seed=9000), list[str]()
    await fuzz.run(minutes=0.15, tell=told.append)
    assert fuzz.failures == [], told
    assert fuzz.conversations > 100


@pytest.mark.slow
async def test_the_memory_of_a_crowd_is_there_for_the_next() -> None:
    told: list[str] = []
    assert await crowds(3000, 2, told.append) == [], told
