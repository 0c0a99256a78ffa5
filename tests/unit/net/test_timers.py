"""Do thousands of time limits on one timer strike in time?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.net.timers import RESOLUTION_S, Timers
from tests.support.transports import ManualLoop

if TYPE_CHECKING:
    from collections.abc import Callable


class Item:
    """Something with a deadline."""

    def __init__(self, loop: ManualLoop) -> None:
        self.bucket: int | None = None
        self.struck: list[float] = []
        self._loop = loop

    def alarm(self, now: float) -> None:
        assert now == self._loop.now
        self.struck.append(now)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=100))
def test_every_alarm_comes_once_never_early_and_at_most_two_steps_late(delays: list[float]) -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    items = [(Item(loop), loop.now + delay_s) for delay_s in delays]
    for item, at in items:
        timers.watch(item, at)
    loop.advance(60)
    for item, at in items:
        [struck] = item.struck
        assert at <= struck <= at + 2 * RESOLUTION_S + 1e-6
        assert item.bucket is None


def test_the_earlier_of_two_times_counts() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    item = Item(loop)
    begun_at = loop.now
    timers.watch(item, begun_at + 20)
    timers.watch(item, begun_at + 5)
    timers.watch(item, begun_at + 30)
    loop.advance(60)
    [struck] = item.struck
    assert begun_at + 5 <= struck <= begun_at + 5 + 2 * RESOLUTION_S


def test_what_was_forgotten_is_not_told() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    item, other = Item(loop), Item(loop)
    timers.watch(item, loop.now + 5)
    timers.watch(other, loop.now + 5)
    timers.forget(item)
    timers.forget(item)
    loop.advance(10)
    assert not item.struck
    assert other.struck


def test_after_the_end_nothing_strikes() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    item = Item(loop)
    timers.watch(item, loop.now + 5)
    timers.close()
    loop.advance(10)
    assert not item.struck


def test_an_alarm_may_watch_again() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())

    class Again(Item):
        def alarm(self, now: float) -> None:
            super().alarm(now)
            if len(self.struck) < 3:
                timers.watch(self, now)

    item = Again(loop)
    timers.watch(item, loop.now)
    loop.advance(5)
    assert len(item.struck) == 3


class Failing(Item):
    def alarm(self, now: float) -> None:
        super().alarm(now)
        raise LookupError("a bug")


def test_an_alarm_that_fails_stops_no_other_neither_now_nor_later() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    items = [Failing(loop), Item(loop), Failing(loop), Item(loop)]
    for item in items:
        timers.watch(item, loop.now + 1)
    later = Item(loop)
    timers.watch(later, loop.now + 2)
    loop.advance(3)
    assert [len(item.struck) for item in (*items, later)] == [1] * 5
    assert [type(failure["exception"]) for failure in loop.failures] == [LookupError] * 2


def test_an_alarm_may_end_what_has_its_alarm_at_the_same_time() -> None:
    loop = ManualLoop()
    timers = Timers(loop.as_loop())
    pair = [Item(loop), Item(loop)]

    def end_the_other(which: int) -> Callable[[float], None]:
        def alarm(now: float) -> None:
            pair[which].struck.append(now)
            timers.forget(pair[1 - which])

        return alarm

    for which, item in enumerate(pair):
        item.alarm = end_the_other(which)  # type: ignore[method-assign, assignment]  # the item's part is played here
        timers.watch(item, loop.now + 1)
    loop.advance(3)
    assert sorted(len(item.struck) for item in pair) == [0, 1]
