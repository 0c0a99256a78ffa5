"""Who answers a request whose app is gone? A sibling, reached through the Service of this very workload.

A request that no connection to the app could be had for is handed over, in up to ATTEMPTS attempts. If no sibling can
be reached, it goes on waiting for the app as it would without a successor. See docs/successor.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.drain.handover import ATTEMPTS, Attempt, Why

if TYPE_CHECKING:
    import asyncio

    from drainproxy.drain.handover import HandedOver
    from drainproxy.net.dial import Dialler
    from drainproxy.net.pool import ConnectionPool, Waiter
    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.protocol.reasons import Reason


class Handover:
    """Finds siblings for the requests of a route. `app`, `siblings`: who dials the one and the others."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        app: Dialler,
        siblings: Dialler,
        pool: ConnectionPool,
        wait_s: float,
        handed: HandedOver,
    ) -> None:
        self.pool = pool
        self.handed = handed
        self._loop = loop
        self._app = app
        self._siblings = siblings
        self._wait_s = wait_s
        self._handing: dict[Waiter, _Handing] = {}

    def find(self, waiter: Waiter, why: Why, attempt: int, arrived_at: float) -> bool:
        """Find a connection to a sibling, or else, for the rest of the time that a request is held, to the app.

        `waiter` is told as by the app's own dialler. `attempt`: 1 for the first. False: nobody is asked any more.
        """
        now = self._loop.time()
        if attempt <= ATTEMPTS and self.handed.may(why, now):
            handing = self._handing[waiter] = _Handing(self, waiter, why)
            idle = self.pool.take(validate=True) if attempt == 1 else None
            if idle is not None:
                self._loop.call_soon(self._lend, handing, idle)  # a session is told in a later turn of the loop
            else:
                self._siblings.want(handing, fresh=attempt > 1, validate=True, until=now)
            return True
        held_until = arrived_at + self._wait_s
        if attempt > ATTEMPTS + 1 or now >= held_until:
            return False
        self._app.want(waiter, fresh=False, validate=True, until=held_until)
        return True

    def _lend(self, handing: _Handing, idle: UpstreamConnection) -> None:
        if self._handing.get(handing.waiter) is not handing:
            self.pool.put(idle)
        elif idle.transport.is_closing():
            self._siblings.want(handing, fresh=True, validate=True, until=self._loop.time())
        else:
            handing.connected(idle)

    def turned_down(self, why: Why, attempt: int) -> bool:
        """The sibling that got a request has no app either. False: so it was with all; this is an outage."""
        self.handed.counts[why, Attempt.TURNED_DOWN] += 1
        return attempt <= ATTEMPTS

    def forget(self, waiter: Waiter) -> None:
        """It does not want a connection any more."""
        handing = self._handing.pop(waiter, None)
        if handing is not None:
            self.pool.forget(handing)

    def settled(self, waiter: Waiter, why: Why, attempt: Attempt) -> None:
        """An attempt is over."""
        del self._handing[waiter]
        self.handed.counts[why, attempt] += 1

    async def close(self) -> None:
        """Give up what is under way."""
        await self._siblings.close()
        self.pool.close()


class _Handing:
    """One attempt, waiting for its connection."""

    __slots__ = ("_handover", "_why", "waiter")

    def __init__(self, handover: Handover, waiter: Waiter, why: Why) -> None:
        self._handover = handover
        self.waiter = waiter
        self._why = why

    def connected(self, upstream: UpstreamConnection) -> None:
        self._handover.settled(self.waiter, self._why, Attempt.SENT)
        self.waiter.connected(upstream)

    def refused(self, reason: Reason) -> None:
        self._handover.settled(self.waiter, self._why, Attempt.UNREACHABLE)
        self.waiter.refused(reason)
