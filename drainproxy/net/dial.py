"""How does a new connection to the app come about? A few attempts at a time; while it refuses, requests are held."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from drainproxy.drain.phase import Phase
from drainproxy.net.pool import Terms
from drainproxy.net.tasks import Tasks
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.protocol.reasons import Reason

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.config.values import Address
    from drainproxy.net.pool import ConnectionPool, Waiter

RETRY_S = 0.05
"""While the app refuses connections, one attempt is made this often for all requests that are held."""
MAX_DIALS = 64
"""So many attempts are under way at most. In a crowd the others wait: for these, or for one that is given back.

With an attempt for each of thousands of clients at once, an app with a limit of its own closes what exceeds it.
"""


class Dialler:
    """Finds a connection for everyone who waits in a pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address, config: Config, pool: ConnectionPool) -> None:
        self.phase = Phase.SERVING
        self._loop = loop
        self._address = address
        self._config = config
        self._pool = pool
        self._tasks = Tasks(loop)
        self._dialling = 0
        self._holding = False

    def want(self, waiter: Waiter, *, fresh: bool, validate: bool) -> None:
        """Find a connection for this waiter, which is told when there is one, or that there will be none.

        `fresh`: not one that was used before. `validate`: one that was used only if the app has not closed it.
        """
        self._pool.wait(waiter, Terms(self._loop.time() + self._config.connect_wait_s, fresh, validate))
        self._dial_for_all()

    def _dial_for_all(self) -> None:
        while not self._holding and self._dialling < min(self._pool.waiting, MAX_DIALS):
            self._dialling += 1
            self._tasks.spawn(self._dial(), f"dial {self._address}")

    async def _dial(self) -> None:
        """One connection for whoever has waited longest."""
        reason = await self._attempt()
        self._dialling -= 1
        if reason is None:
            self._dial_for_all()  # for who came between the handing over and here, and counted on this attempt
        elif not self._holding and self._pool.waiting:
            self._holding = True
            self._tasks.spawn(self._hold_and_retry(reason), f"hold for {self._address}")

    async def _attempt(self) -> Reason | None:
        """Try once. None: there is a connection, and it has been handed over; else why not."""
        try:
            async with asyncio.timeout(self._config.connect_timeout_s) as attempt:
                await self._connect(attempt)
        except TimeoutError:
            return Reason.CONNECT_TIMEOUT
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            return Reason.CONNECT_REFUSED if refused else Reason.CONNECT_FAILED
        return None

    async def _connect(self, attempt: asyncio.Timeout) -> None:
        address, pool = self._address, self._pool
        if address.path:
            await self._loop.create_unix_connection(lambda: UpstreamConnection(pool, attempt), address.path)
        else:
            await self._loop.create_connection(lambda: UpstreamConnection(pool, attempt), address.host, address.port)

    async def _hold_and_retry(self, reason: Reason) -> None:
        """The app starts or restarts: hold what waits, and look again and again until it is there."""
        refused: Reason | None = reason
        while refused is not None and self._pool.waiting:
            self._refuse_overdue(refused)
            await asyncio.sleep(RETRY_S)
            if self._pool.waiting:
                refused = await self._attempt()
        self._holding = False
        self._dial_for_all()

    def _refuse_overdue(self, reason: Reason) -> None:
        """Once drained, the app is not expected back: nobody is held any longer."""
        now = inf if self.phase is Phase.DRAINED else self._loop.time()
        for waiter in self._pool.pop_overdue(now):
            waiter.refused(reason)

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()
