"""Whose turn is it to be asked to go, and when?"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.config.options import Config
from drainproxy.drain.schedule import Schedule
from drainproxy.drain.turns import ASK_AGAIN_S, IDLE_SHARE, Turns, spread

SECONDS = st.floats(0, 100, allow_nan=False)
FLOOR = 1005.0
QUIET_S = 1.0
ROOM_S = 19.0


def turns(idle: str = "", busy: str = "", *, window_s: float = 10, now: float = FLOOR) -> Turns[str]:
    """A drain at its floor with these connections, a letter each. The defaults: 19 s to the deadline, quiet 1 s."""
    made: Turns[str] = Turns()
    made.begin(list(idle), list(busy), window_s=window_s, schedule=Schedule.of(Config(), 1000.0), now=now)
    return made


def taken(of: Turns[str]) -> list[tuple[float, str]]:
    """Every turn, (seconds after the floor, who), as a timer at `wake_at` takes them."""
    order = []
    while (at := of.wake_at()) is not None:
        due = of.due(at)
        assert due, "woken for nobody"
        order += [(round(at - FLOOR, 6), who) for who in due]
    return order


def test_busy_connections_are_spread_over_the_window() -> None:
    assert taken(turns(busy="abcd", window_s=8)) == [(0, "a"), (2, "b"), (4, "c"), (6, "d")]


def test_idle_connections_have_had_their_turn_when_half_of_the_quiet_period_has_passed() -> None:
    assert taken(turns(idle="abcd", window_s=8)) == [(0, "a"), (0.125, "b"), (0.25, "c"), (0.375, "d")]
    assert IDLE_SHARE * QUIET_S == 0.5


def test_a_window_shorter_than_that_holds_for_idle_connections_too() -> None:
    assert taken(turns(idle="ab", busy="cd", window_s=0.2)) == [(0, "a"), (0, "c"), (0.1, "b"), (0.1, "d")]


def test_nobody_is_asked_after_the_deadline() -> None:
    assert [at for at, _ in taken(turns(busy="ab", window_s=100))] == [0, ROOM_S / 2]
    assert [at for at, _ in taken(turns(idle="ab", busy="cd", now=FLOOR + 2 * ROOM_S))] == [2 * ROOM_S] * 4


def test_who_was_busy_or_new_has_another_turn_and_the_owner_hears_of_the_first_of_them() -> None:
    late = turns(busy="abc", window_s=9)
    heard: list[float | None] = []
    late.on_sooner = lambda: heard.append(late.wake_at())
    assert late.due(FLOOR) == ["a"]
    late.again("a", FLOOR)
    late.again("n", FLOOR + 0.5)
    late.again("a", FLOOR + 0.7)
    assert heard == [FLOOR + ASK_AGAIN_S]
    assert taken(late) == [(1.0, "a"), (1.5, "n"), (3, "b"), (6, "c")]
    late.again("a", FLOOR + 10)
    assert heard == [FLOOR + ASK_AGAIN_S, FLOOR + 10 + ASK_AGAIN_S]


def test_who_has_gone_is_not_asked_and_not_kept() -> None:
    late = turns(idle="ab", busy="c")
    late.again("b", FLOOR)
    late.again("d", FLOOR)
    for gone in "bcdx":
        late.forget(gone)
    assert taken(late) == [(0, "a")]


def test_a_resume_clears_every_turn_so_that_none_is_taken_in_the_next_drain() -> None:
    late = turns(idle="ab", busy="cd")
    late.again("e", FLOOR)
    late.clear()
    assert late.wake_at() is None
    assert late.due(FLOOR + 1000) == []


def test_who_is_late_is_asked_at_once_the_longest_overdue_first() -> None:
    late = turns(idle="ab", busy="cd")
    assert late.due(FLOOR + 100) == ["a", "c", "b", "d"]
    assert late.wake_at() is None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 200), SECONDS, st.floats(-50, 100, allow_nan=False))
def test_spreading_gives_each_its_turn_in_order_evenly_and_within_the_room(
    count: int, window_s: float, room_s: float
) -> None:
    offsets = list(spread(count, window_s, room_s))
    assert len(offsets) == count
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= max(0.0, min(window_s, room_s)) for offset in offsets)
    if count:
        assert offsets[0] == 0
        step = max(0.0, min(window_s, room_s)) / count
        assert all(abs(later - earlier - step) < 1e-9 for earlier, later in pairwise(offsets))


def test_a_window_of_zero_is_at_once() -> None:
    assert list(spread(3, 0, 10)) == [0, 0, 0]
