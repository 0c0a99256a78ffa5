"""How does a new connection to the app come about? A few attempts at a time; while it refuses, requests are held."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, cast

from drainproxy.net.pool import Terms
from drainproxy.net.resolve import Resolver
from drainproxy.net.tasks import Tasks
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.protocol.reasons import Reason

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.config.values import Address
    from drainproxy.drain.absence import Absence
    from drainproxy.net.pool import ConnectionPool, Waiter

RETRY_S = 0.05
"""While the app refuses connections, one attempt is made this often for all requests that are held."""
MAX_DIALS = 64
"""So many attempts are under way at most. In a crowd the others wait: for these, or for one that is given back.

With an attempt for each of thousands of clients at once, an app with a limit of its own closes what exceeds it.
"""


GONE = frozenset({Reason.CONNECT_REFUSED, Reason.CONNECT_FAILED})
"""What says that attempts are in vain for now: one at a time is enough. An app that is only slow needs all of them."""


class Dialler:
    """Finds a connection for everyone who waits in a pool.

    `expected`: an app that refuses may be back in a moment. `absence`: where siblings answer for it, what is known of
    its absence; it says how long requests are held, else the options do.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        config: Config,
        pool: ConnectionPool,
        *,
        absence: Absence | None = None,
    ) -> None:
        self.expected = True
        self.absence = absence
        self._loop = loop
        self._address = address
        self._config = config
        self._pool = pool
        self._resolver = Resolver(address)
        self._tasks = Tasks(loop)
        self._dialling = 0
        self._holding = False
        self._held_s: float | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def want(self, waiter: Waiter, *, fresh: bool, validate: bool, until: float | None = None) -> None:
        """Find a connection for this waiter, which is told when there is one, or that there will be none.

        `fresh`: not one that was used before. `validate`: one that was used only if the app has not closed it.
        `until`: how long it is held while the app refuses connections; else as long as the options say.
        """
        held_until = self._held_until(self._loop.time()) if until is None else until
        self._pool.wait(waiter, Terms(held_until, fresh, validate))
        if self._held_s is None:
            self._dial_for_all()
        elif self._sweep is None:
            self._sweep_later()

    def _held_until(self, now: float) -> float:
        if self._held_s is not None:
            return now + self._held_s
        return now + self._config.connect_wait_s if self.absence is None else self.absence.held_until(now)

    @property
    def absent_since(self) -> float | None:
        """When the app was first seen to refuse; None: it did not when it was seen last, or nothing depends on it."""
        return None if self.absence is None else self.absence.since

    def skips(self) -> bool:
        """Whether what comes now goes to a sibling, for the app is away. False: it asks the app, as one of many."""
        if self.absence is None or self._held_s is not None:
            return False
        return self.absence.is_to_skip(self._loop.time(), expected=self.expected, asked=self._holding)

    def app_seen(self, *, reachable: bool) -> None:
        """A health check has looked."""
        if self.absence is None:
            return
        if reachable:
            self.absence.accepts()
        else:
            self.absence.refuses(self._loop.time())

    def retarget(self, address: Address) -> None:
        """The app is there from now on."""
        self._address = address
        self._resolver = Resolver(address)
        if self.absence is not None:
            self.absence.accepts()
        self._pool.renew()
        self._dial_for_all()

    def hold(self, most_s: float) -> None:
        """Keep who wants a connection waiting until `release`, each for `most_s` seconds at most."""
        self._held_s = most_s
        self._pool.renew()
        if self._sweep is None:
            self._sweep_later()

    def release(self) -> None:
        """Go on, with all who wait."""
        self._held_s = None
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._dial_for_all()

    @property
    def held(self) -> int | None:
        """How many wait for the end of a hold; None: there is none."""
        return None if self._held_s is None else self._pool.waiting

    def _sweep_later(self) -> None:
        at = self._pool.next_overdue_at()
        self._sweep = None if at is None else self._loop.call_at(at, self._sweep_now)

    def _sweep_now(self) -> None:
        self._refuse_overdue(Reason.CONNECT_REFUSED)
        self._sweep_later()

    def _dial_for_all(self) -> None:
        while self._held_s is None and not self._holding and self._dialling < min(self._pool.waiting, MAX_DIALS):
            self._dialling += 1
            self._tasks.spawn(self._dial(), f"dial {self._address}")

    async def _dial(self) -> None:
        """One connection for whoever has waited longest."""
        try:
            reason = await self._attempt()
        finally:
            self._dialling -= 1
        if reason is not None:
            self._refuse_overdue(reason)
        if reason in GONE and self._pool.waiting:
            self._hold(reason)
            return
        self._dial_for_all()  # for who came between the handing over and here, and counted on this attempt

    async def _attempt(self) -> Reason | None:
        """Try once. None: there is a connection, and it has been handed over; else why not."""
        reason = await self._dial_once()
        if reason is None or reason in GONE:
            self.app_seen(reachable=reason is None)
        return reason

    async def _dial_once(self) -> Reason | None:
        try:
            async with asyncio.timeout(self._config.connect_timeout_s) as attempt:
                await self._connect(attempt)
        except TimeoutError:
            return Reason.CONNECT_TIMEOUT
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            return Reason.CONNECT_REFUSED if refused else Reason.CONNECT_FAILED
        except Exception as error:
            self._loop.call_exception_handler({"message": f"dialling {self._address} failed", "exception": error})
            return Reason.CONNECT_FAILED
        return None

    async def _connect(self, attempt: asyncio.Timeout) -> None:
        address, pool, epoch = self._address, self._pool, self._pool.epoch

        def connection() -> asyncio.BaseProtocol:
            return cast("asyncio.BaseProtocol", UpstreamConnection(pool, attempt, epoch))

        if address.path:
            await self._loop.create_unix_connection(connection, address.path)
            return
        *others, last = await self._resolver.hosts()
        for host in others:
            with suppress(OSError):
                await self._loop.create_connection(connection, host, address.port)
                return
        try:
            await self._loop.create_connection(connection, last, address.port)
        except OSError:
            self._resolver.forget()
            raise

    def _hold(self, reason: Reason) -> None:
        if not self._holding:
            self._holding = True
            self._tasks.spawn(self._hold_and_retry(reason), f"hold for {self._address}")

    async def _hold_and_retry(self, reason: Reason) -> None:
        """The app starts or restarts: hold what waits, and look again and again until it is there."""
        refused: Reason | None = reason
        try:
            while refused in GONE and self._pool.waiting and self._held_s is None:
                self._refuse_overdue(refused)
                await asyncio.sleep(RETRY_S)
                if self._pool.waiting:
                    refused = await self._attempt()
        finally:
            self._holding = False
        self._dial_for_all()

    def _refuse_overdue(self, reason: Reason) -> None:
        """Answer who has waited as long as it may; everybody, if the app is not expected back."""
        for waiter in self._pool.pop_overdue(self._loop.time() if self.expected else inf):
            waiter.refused(reason)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._sweep is not None:
            self._sweep.cancel()
        await self._tasks.close()
