"""Who answers a request or a connection that our app does not get? A sibling, through the Service of this workload.

A search asks up to ATTEMPTS siblings, each on a connection of its own. If none can take it, it waits for the app, as it
would without a successor, and siblings are asked again meanwhile. See docs/successor.md.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from drainproxy.drain.handover import AGAIN_S, ATTEMPTS, OURSELVES, OUTAGE_S, Attempt, Why
from drainproxy.drain.release import Answer
from drainproxy.net.tasks import Tasks
from drainproxy.protocol.hello import Purpose
from drainproxy.protocol.reasons import Reason
from drainproxy.session.hello import HelloSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.drain.handover import HandedOver
    from drainproxy.net.dial import Dialler
    from drainproxy.net.pool import ConnectionPool, Waiter
    from drainproxy.net.siblings import Siblings
    from drainproxy.net.upstream import UpstreamConnection
    from drainproxy.protocol.hello import Question
    from drainproxy.session.ports import Client, Session


_SENT: Final = Attempt.SENT  # as a global: see net/pair.py


class Handover:
    """Finds siblings for what comes on one route.

    `dialler`, `pool`: the way to the app. `pause_s`: how long a whole connection waits first.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        siblings: Siblings,
        handed: HandedOver,
        *,
        dialler: Dialler,
        pool: ConnectionPool,
        wait_s: float,
        pause_s: float,
    ) -> None:
        self.siblings = siblings
        self.handed = handed
        self.closed = False
        self._loop = loop
        self._dialler = dialler
        self._pool = pool
        self._wait_s = wait_s
        self._pause_s = pause_s
        self._tasks = Tasks(loop)
        self._searches: dict[Waiter, Search] = {}
        self._in_vain_since: float | None = None
        """When nobody was found first; None: the last search has found a sibling, or one that cannot serve now."""
        self._ask_at = -inf
        """Before this time nobody is asked: an outage of all is known."""

    def hello(self, client: Client, conversation: Callable[[bool], Session]) -> Session:
        """The session of a client that may be a sibling: see HelloSession."""
        return HelloSession(client, conversation)

    def introduce(self, question: Question) -> bytes:
        """What is answered to a sibling that asks who we are."""
        return self.siblings.replica.answer(question)

    def find(self, waiter: Waiter, why: Why, arrived_at: float, *, whole: bool, fresh: bool) -> None:
        """Find a connection to a sibling, or else to the app, for as long as a request is held.

        `whole`: for all that a client will say, else for one HTTP/1 request. `fresh`: not one that was used before,
        whose sibling may be the one that has just failed.
        `waiter` is told in a later turn of the loop, as by the app's dialler; APP_UNAVAILABLE: nobody can take it.
        """
        purpose = Purpose.CONNECTION if whole else Purpose.REQUESTS
        search = self._searches[waiter] = Search(self, waiter, why, purpose, arrived_at, fresh=whole or fresh)
        self._tasks.spawn(self._search(search), "look for a sibling")

    def lend(self, why: Why, *, validate: bool) -> UpstreamConnection | None:
        """A connection to a sibling that is idle, at once; None: there is none, and one is to be found.

        `validate`: look first whether the sibling has closed it.
        """
        idle = self.siblings.pool.take(validate=validate)
        if idle is None:
            return None
        handed = self.handed
        if not handed.affords(self._loop.time()):
            self.siblings.put(idle)
            return None
        self._in_vain_since = None
        handed.counts[why, _SENT] += 1
        return idle

    def ask(self, tell: Callable[[Answer], None]) -> None:
        """Find out who is there, and tell."""

        async def asked() -> None:
            tell(await self.siblings.ask())

        self._tasks.spawn(asked(), "ask the successor who is there")

    async def _search(self, search: Search) -> None:
        if search.purpose is Purpose.CONNECTION and self._pause_s:
            await asyncio.sleep(self._pause_s)
        left, ourselves, gone, nobody = ATTEMPTS, 0, 0, 0
        while left and ourselves < OURSELVES and self._may_ask(search):
            idle = None if search.fresh else self.siblings.pool.take(validate=True)
            if idle is not None:
                self._found(search, idle)
                return
            answer, connection = await self.siblings.reach(search.purpose)
            if answer is Answer.OURSELVES:
                ourselves += 1
            else:
                left -= 1
            if connection is not None:
                takes = answer is Answer.READY or (answer is Answer.SERVING and not left)
                if takes and self._is_wanted(search) and not connection.transport.is_closing():
                    self._found(search, connection)
                    return
                self.siblings.drop(connection)
            self.handed.counts[search.why, _FAILED[answer]] += 1
            gone += answer is Answer.GONE
            nobody += answer is Answer.NOBODY
        if gone == ATTEMPTS:
            self.handed.no_app_anywhere(self._loop.time())
        if gone + nobody == ATTEMPTS or ourselves == OURSELVES:
            self._found_nobody(search, self._loop.time())
        self._to_app(search)

    def _found(self, search: Search, connection: UpstreamConnection) -> None:
        self._in_vain_since = None
        search.found(connection, self.siblings.lend(connection))

    def _found_nobody(self, search: Search, now: float) -> None:
        if self._in_vain_since is None:
            self._in_vain_since = now
        if now >= self._held_until(search):
            self._ask_at = now + OUTAGE_S

    def _held_until(self, search: Search) -> float:
        """How long it is waited for the app and for siblings: less, the longer both have been away."""
        absent_since, in_vain_since = self._dialler.absent_since, self._in_vain_since
        if absent_since is None or in_vain_since is None:
            return search.arrived_at + self._wait_s
        return min(search.arrived_at, max(absent_since, in_vain_since)) + self._wait_s

    def _may_ask(self, search: Search) -> bool:
        now = self._loop.time()
        if not self._is_wanted(search):
            return False
        if now < self._ask_at:
            self.handed.counts[search.why, Attempt.OVER_BUDGET] += 1
            return False
        return self.handed.may(search.why, now)

    def _is_wanted(self, search: Search) -> bool:
        return self._searches.get(search.waiter) is search

    def _to_app(self, search: Search) -> None:
        if self._is_wanted(search):
            now = self._loop.time()
            held_until = now if self._is_over(search, now) else min(self._held_until(search), now + AGAIN_S)
            if held_until <= now and self._dialler.skips():
                search.refused(Reason.CONNECT_REFUSED)
            else:
                self._dialler.want(search, fresh=False, validate=True, until=held_until)

    def _is_over(self, search: Search, now: float) -> bool:
        """Nobody is waited for any longer: neither for the app nor for siblings."""
        return now >= self._held_until(search) or not self._dialler.expected or self.handed.is_outage(now)

    def refused(self, search: Search) -> bool:
        """The app still refuses, and siblings are asked once more. False: nobody is waited for any longer."""
        if self._is_over(search, self._loop.time()):
            return False
        self._tasks.spawn(self._search(search), "look for a sibling again")
        return True

    def turned_down(self, why: Why, attempt: int) -> bool:
        """The sibling that got a request has no app either. False: so it was with all; this is an outage."""
        self.handed.counts[why, Attempt.TURNED_DOWN] += 1
        return attempt <= ATTEMPTS

    def forget(self, waiter: Waiter) -> None:
        """It does not want a connection any more."""
        search = self._searches.pop(waiter, None)
        if search is not None:
            self._pool.forget(search)  # if it looks for a sibling, it ends with the attempt that is under way

    def settled(self, search: Search) -> None:
        """Its waiter is told now."""
        del self._searches[search.waiter]

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()
        self.siblings.pool.close()


class Search:
    """One search, and the waiter of its connection to the app if no sibling was found."""

    __slots__ = ("_handover", "arrived_at", "fresh", "purpose", "waiter", "why")

    def __init__(
        self, handover: Handover, waiter: Waiter, why: Why, purpose: Purpose, arrived_at: float, *, fresh: bool
    ) -> None:
        self.fresh = fresh
        self.waiter = waiter
        self.why = why
        self.purpose = purpose
        self.arrived_at = arrived_at
        self._handover = handover

    def found(self, sibling: UpstreamConnection, said: bytes) -> None:
        """Here is a sibling; it has `said` something already."""
        self._handover.handed.counts[self.why, _SENT] += 1
        self.connected(sibling)
        if said:
            sibling.data_received(said)

    def connected(self, upstream: UpstreamConnection) -> None:
        self._handover.settled(self)
        self.waiter.connected(upstream)

    def refused(self, _: Reason) -> None:
        if not self._handover.refused(self):
            self._handover.settled(self)
            self.waiter.refused(Reason.APP_UNAVAILABLE)


_FAILED = {
    Answer.READY: Attempt.UNREACHABLE,  # its connection has ended meanwhile
    Answer.SERVING: Attempt.NOT_READY,
    Answer.GONE: Attempt.NOT_READY,
    Answer.OURSELVES: Attempt.OURSELVES,
    Answer.STRANGER: Attempt.STRANGER,
    Answer.UNTRUSTED: Attempt.STRANGER,
    Answer.NOBODY: Attempt.UNREACHABLE,
}
"""How an attempt without success is counted."""
