"""Whose turn is it to be asked to go, and when? Spread, so that not all clients reconnect at the same moment.

Who is asked is the caller's: this only keeps whoever it was given, and hands them out when their time has come. All
times are absolute seconds on the caller's clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drainproxy.drain.schedule import Schedule

T = TypeVar("T")

IDLE_SHARE = 0.5
"""Part of the quiet period in which idle connections take their turns: the rest is for their answers to arrive."""
ASK_AGAIN_S = 1.0
"""A connection that was busy or just made at its turn, and is idle afterwards, has another turn after this."""


class Turns(Generic[T]):
    """The turns of one drain. `on_sooner` is called when `wake_at` has become earlier than it was."""

    __slots__ = ("_again", "_spread", "on_sooner")

    def __init__(self) -> None:
        # Both in the order of time. OrderedDict, because taking the first of many from a dict takes ever longer.
        self._spread: OrderedDict[T, float] = OrderedDict()
        self._again: OrderedDict[T, float] = OrderedDict()
        self.on_sooner: Callable[[], None] = _nothing

    def begin(self, idle: Sequence[T], busy: Sequence[T], *, window_s: float, schedule: Schedule, now: float) -> None:
        """Everybody who is there at the floor gets a turn: within `window_s`, and before the deadline.

        Idle connections do not hold the drain, so they must have had theirs before it can end: what a client sent on
        one afterwards would find the app stopped.
        """
        room_s = schedule.deadline_at - now
        idle_window_s = min(window_s, schedule.quiet_period_s * IDLE_SHARE)
        turns = [
            *zip(spread(len(idle), idle_window_s, room_s), idle, strict=True),
            *zip(spread(len(busy), window_s, room_s), busy, strict=True),
        ]
        turns.sort(key=_offset)
        self._spread = OrderedDict((who, now + offset_s) for offset_s, who in turns)

    def again(self, who: T, now: float) -> None:
        """One more turn, ASK_AGAIN_S from now; `now` is never earlier than in the last call."""
        if who not in self._again:
            self._again[who] = now + ASK_AGAIN_S
            if len(self._again) == 1:
                self.on_sooner()

    def due(self, now: float) -> list[T]:
        """Everyone whose time has come, the longest overdue first; none of them is kept."""
        return [*_take(self._spread, now), *_take(self._again, now)]

    def wake_at(self) -> float | None:
        """When the next turn is."""
        return min((next(iter(queue.values())) for queue in (self._spread, self._again) if queue), default=None)

    def forget(self, who: T) -> None:
        """They have gone by themselves."""
        self._spread.pop(who, None)
        self._again.pop(who, None)

    def clear(self) -> None:
        """The drain was called off: nobody is asked."""
        self._spread.clear()
        self._again.clear()


def spread(count: int, window_s: float, room_s: float) -> Iterator[float]:
    """Offsets in seconds at which `count` connections are asked to go: evenly over the window, within the room left."""
    window = max(0.0, min(window_s, room_s))
    return (window * index / count for index in range(count))


def _offset(turn: tuple[float, object]) -> float:
    return turn[0]


def _take(queue: OrderedDict[T, float], now: float) -> Iterator[T]:
    while queue:
        who, at = queue.popitem(last=False)
        if at > now:
            queue[who] = at
            queue.move_to_end(who, last=False)
            return
        yield who


def _nothing() -> None:
    pass
