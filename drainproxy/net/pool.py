"""Which connection to the app does an exchange get? An idle one at once, or the next that can be had."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from drainproxy.drain.phase import Phase
from drainproxy.net.flow import has_news
from drainproxy.net.tasks import Tasks
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.observe.observer import Side
from drainproxy.protocol.reasons import Reason

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.config.values import Address
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.timers import Timers
    from drainproxy.observe.observer import Observer

RETRY_S = 0.05
"""While the app refuses connections, one attempt is made this often for all requests that are held."""
MAX_DIALS = 64
"""So many attempts are under way at most. In a crowd the others wait: for these, or for one that is given back.

Of 9 000 clients at once, each with its own attempt, 4 635 met a 502: the app had room for 4 096 connections.
"""


class Want(NamedTuple):
    """What a client that waits for a connection will take. `until`: while the app refuses, it is held so long."""

    until: float
    fresh: bool
    careful: bool


class Pool:
    """The connections to one upstream address."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: Address, config: Config, timers: Timers, observer: Observer
    ) -> None:
        self._loop = loop
        self._address = address
        self._config = config
        self._timers = timers
        self.observer = observer
        self.phase = Phase.SERVING
        self._tasks = Tasks(loop)
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._wanting: dict[ClientConnection, Want] = {}
        self._dialling = 0
        self._holding = False

    @property
    def idle(self) -> int:
        """Connections that wait for an exchange."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections that carry one."""
        return self._open - len(self._idle)

    # --- idle connections ---------------------------------------------------------------------------------------------

    def take(self, *, careful: bool) -> UpstreamConnection | None:
        """The connection that was used last: the one whose idle time at the app is the shortest."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport.is_closing() or (careful and has_news(connection.transport)):
                connection.transport.abort()
                continue
            connection.reused = True
            return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """An exchange is over. The connection waits for the next, but never longer than the app may keep it."""
        if connection.transport.is_closing():
            return
        if self._wanting and self._lend_again(connection):
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if connection.bucket is None:
            self._timers.watch(connection, connection.idle_since + self._config.upstream_idle_s)

    def _lend_again(self, connection: UpstreamConnection) -> bool:
        """Hand a connection that was given back to whoever has waited longest and will take it."""
        for client, want in self._wanting.items():
            if not want.fresh and not (want.careful and has_news(connection.transport)):
                del self._wanting[client]
                connection.reused = True
                client.connected(connection)
                return True
        return False

    def expire(self, connection: UpstreamConnection, now: float) -> None:
        """Close the connection if it is idle and has been for long enough."""
        if connection.session is not None or connection.transport.is_closing():
            return
        deadline = connection.idle_since + self._config.upstream_idle_s
        if now < deadline:
            self._timers.watch(connection, deadline)
        elif connection in self._idle:
            self._idle.remove(connection)
            connection.transport.close()

    def gone(self, connection: UpstreamConnection) -> None:
        """A connection has ended."""
        self._open -= 1
        self._timers.forget(connection)
        self.observer.closed(Side.UPSTREAM)
        if connection.session is None and connection in self._idle:
            self._idle.remove(connection)

    # --- new connections ----------------------------------------------------------------------------------------------

    def want(self, client: ClientConnection, *, fresh: bool, careful: bool) -> None:
        """Find a connection for this client: its session is told when there is one, or that there will be none.

        `fresh` and `careful`: see Client.connect.
        """
        hold_s = 0.0 if self.phase is Phase.DRAINED else self._config.connect_wait_s
        self._wanting[client] = Want(self._loop.time() + hold_s, fresh, careful)
        self._dial_for_all()

    def forget(self, client: ClientConnection) -> None:
        """The client does not want one any more."""
        self._wanting.pop(client, None)

    def _dial_for_all(self) -> None:
        while not self._holding and self._dialling < min(len(self._wanting), MAX_DIALS):
            self._dialling += 1
            self._tasks.spawn(self._dial(), f"dial {self._address}")

    async def _dial(self) -> None:
        """One connection for whoever has waited longest."""
        reason = await self._attempt()
        self._dialling -= 1
        if reason is None:
            self._dial_for_all()  # for who came between the handing over and here, and counted on this attempt
        elif not self._holding and self._wanting:
            self._holding = True
            self._tasks.spawn(self._hold_and_retry(reason), f"hold for {self._address}")

    async def _attempt(self) -> Reason | None:
        """Try once. None: there is a connection, and it has been handed over; else why not."""
        try:
            async with asyncio.timeout(self._config.connect_timeout_s) as limit:
                await self._connect(limit)
        except TimeoutError:
            return Reason.CONNECT_TIMEOUT
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            return Reason.CONNECT_REFUSED if refused else Reason.CONNECT_FAILED
        return None

    async def _connect(self, limit: asyncio.Timeout) -> None:
        address = self._address
        if address.path:
            await self._loop.create_unix_connection(lambda: UpstreamConnection(self, limit), address.path)
        else:
            await self._loop.create_connection(lambda: UpstreamConnection(self, limit), address.host, address.port)

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection has been made: hand it over before anything is read from it, for the app may speak first."""
        self._open += 1
        for client in self._wanting:
            del self._wanting[client]
            client.connected(connection)
            return
        self.put(connection)

    async def _hold_and_retry(self, reason: Reason) -> None:
        """The app starts or restarts: hold what waits, and look again and again until it is there."""
        refused: Reason | None = reason
        while refused is not None and self._wanting:
            self._refuse_overdue(refused)
            await asyncio.sleep(RETRY_S)
            if self._wanting:
                refused = await self._attempt()
        self._holding = False
        self._dial_for_all()

    def _refuse_overdue(self, reason: Reason) -> None:
        now = self._loop.time()
        drained = self.phase is Phase.DRAINED
        for client in [client for client, want in self._wanting.items() if drained or now >= want.until]:
            del self._wanting[client]
            client.session.upstream_refused(reason)

    async def close(self) -> None:
        """Drop every connection that is not lent."""
        await self._tasks.close()
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()
