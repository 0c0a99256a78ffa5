"""What time is it, for code that takes a loop's clock and timers? Whatever the test says; nothing runs by itself."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context


class Clock:
    """A loop's time, its `call_soon`, `call_at` and futures. Futures belong to the loop that runs, if one does."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = count()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The part of a loop that is here, as code takes it."""
        return cast("asyncio.AbstractEventLoop", self)

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        try:
            return asyncio.get_running_loop().create_future()
        except RuntimeError:
            return asyncio.Future(loop=self.loop)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.loop, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self.loop, context)
        heapq.heappush(self._timers, (when, next(self._number), handle))
        return handle

    def _timer_handle_cancelled(self, _: asyncio.TimerHandle) -> None:
        """Called by TimerHandle.cancel."""

    @property
    def armed(self) -> list[float]:
        """When the timers that are set fire."""
        return sorted(when for when, _, handle in self._timers if not handle.cancelled())

    def turn(self) -> None:
        """One turn of the loop: everything that is to run soon, and nothing of what that asks for."""
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def run(self) -> None:
        """Everything that is to run soon, until nothing is."""
        while self._ready:
            self.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass: each timer fires at its time."""
        until = self.now + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            when, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self.now = max(self.now, when)
                handle._run()
                self.run()
        self.now = until
