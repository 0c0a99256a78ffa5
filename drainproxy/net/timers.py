"""Who has waited too long? Thousands of time limits on one timer.

A limit mostly does not strike: the exchange ends first. So things are put into buckets of a tenth of a second, and only
when a bucket is due is each asked what its deadline is by now. The hot path stores a time and touches no timer.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

RESOLUTION_S: Final = 0.1


class Timed(Protocol):
    """Something with deadlines. `bucket` belongs to Timers: None while it is not watched."""

    bucket: int | None

    def alarm(self, now: float) -> None:
        """The time that was asked for has come, perhaps in vain: act, or watch again."""


class Timers:
    """Coarse shared timers, never early and at most two RESOLUTION_S late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Timed]] = {}
        self._due: list[int] = []
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, item: Timed, at: float) -> None:
        """Call `item.alarm` at this time (loop clock, seconds), unless it is watched for an earlier one already."""
        bucket = int(at / RESOLUTION_S) + 1
        if item.bucket is not None:
            if item.bucket <= bucket:
                return
            self.forget(item)
        item.bucket = bucket
        members = self._buckets.get(bucket)
        if members is None:
            members = self._buckets[bucket] = set()
            heappush(self._due, bucket)
            if self._due[0] == bucket:
                self._arm()
        members.add(item)

    def forget(self, item: Timed) -> None:
        """The thing is gone."""
        if item.bucket is not None:
            members = self._buckets.get(item.bucket)
            if members is not None:
                members.discard(item)
            item.bucket = None

    def close(self) -> None:
        """No alarm will come any more."""
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(self._due[0] * RESOLUTION_S, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        while self._due and self._due[0] * RESOLUTION_S <= now:
            bucket = heappop(self._due)
            for item in self._buckets.pop(bucket):
                if item.bucket == bucket:  # else another alarm has ended it meanwhile
                    item.bucket = None
                    self._alarm(item, now)
        if self._due:
            self._arm()

    def _alarm(self, item: Timed, now: float) -> None:
        """One that fails is reported; the others have their alarms all the same."""
        try:
            item.alarm(now)
        except Exception as error:
            self._loop.call_exception_handler({"message": f"an alarm failed: {item!r}", "exception": error})
