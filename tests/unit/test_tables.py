"""Do the tables of states name every state, and is there a way to each of them and back to rest?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy import restart, upgrade
from drainproxy.restart import Life, Step
from drainproxy.upgrade import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping


def reached(table: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    found, new = {start}, {start}
    while new:
        new = {after for state in new for after in table[state]} - found
        found |= new
    return found


@pytest.mark.parametrize(
    ("table", "starts", "rest"),
    [
        (restart.NEXT, [Step.NONE], Step.NONE),
        (restart.LIVES, [Life.STARTING], Life.STOPPING),
        (upgrade.NEXT, [Stage.IN_SERVICE, Stage.TAKING_OVER], Stage.IN_SERVICE),
    ],
    ids=["a restart", "a process of the app", "a generation"],
)
def test_every_state_can_be_reached_and_comes_to_rest(
    table: Mapping[Any, frozenset[Any]], starts: list[Any], rest: Any
) -> None:
    every: Any = type(rest)
    assert list(table) == list(every)
    assert {state for start in starts for state in reached(table, start)} == set(table)
    assert all(rest in reached(table, state) for state in table)
