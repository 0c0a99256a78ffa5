"""One route's listening port: accepts clients, up to the limit, and knows every connection that is open."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from drainproxy.config.values import Address
from drainproxy.drain.phase import Phase
from drainproxy.net.accepting import accept, stop_accepting
from drainproxy.net.client import ClientConnection
from drainproxy.observe.observer import Side

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from drainproxy.drain.release import Answer
    from drainproxy.drain.turns import Turns
    from drainproxy.net.route import RouteContext
    from drainproxy.net.tasks import Tasks

BACKLOG = 4096
ACCEPTS = 8
"""So many clients are accepted in one turn of the loop, at most: the limit of connections is looked at in between.

libuv takes one from each listening socket it has, so it gets this many; the stock loop takes as many as it is told. A
turn for each client means more system calls, and answers that leave one by one, each waking somebody: measured to cost
half as much again under load. When clients come one at a time, the other accepts find nobody, on a core with time.
"""
TLS_ACCEPTS = 1
"""And so many where each begins with a private key at work: thousands at once must not keep /livez waiting."""
GOODBYE_S = 3600.0
"""The loop's own limit for a closing TLS connection, which cuts slow readers, too: net/closing.py has a better one."""
LAST_S = 0.3
"""At the very end, open exchanges and clients that have just connected get this long."""


class Handshake:
    """Lives as long as the client's connection that has it: compiled classes know no weak references."""

    __slots__ = ("__weakref__",)


class Listener:
    """A route at work. Constructed, it touches nothing; `start` accepts on bound sockets, `close` ends it."""

    def __init__(
        self,
        context: RouteContext,
        *,
        turns: Turns[ClientConnection],
        tasks: Tasks,
        max_connections: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.phase = Phase.SERVING
        self.diverting = False
        self.turns = turns
        self.connections: set[ClientConnection] = set()
        self._context = context
        self._loop = context.loop
        self._tasks = tasks
        self._tls = tls
        self._is_stock_loop = isinstance(context.loop, asyncio.BaseEventLoop)
        self._max_connections = max_connections
        self._handshakes: set[weakref.ref[Handshake]] = set()
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._stopped = False
        self._passed_on = False
        self._empty: asyncio.Event | None = None
        self._changing = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where it listens; with the port that was chosen if it was asked to choose one."""
        name = self._sockets[0].getsockname()
        return f"unix:{name}" if isinstance(name, str) else str(Address(name[0], name[1]))

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accept clients on these bound sockets."""
        self._sockets = sockets
        await self._accept()

    def opened(self, connection: ClientConnection) -> None:
        """A client has connected."""
        self.connections.add(connection)
        self._context.observer.opened(Side.CLIENT)
        if self._tls is None:
            self._pause_if_full()
        else:
            self._handshakes.discard(weakref.ref(cast("Handshake", connection.handshake)))

    def closed(self, connection: ClientConnection) -> None:
        """A client's connection has ended."""
        self.connections.discard(connection)
        self.turns.forget(connection)
        if not self.connections and self._empty is not None:
            self._empty.set()
        self._accept_if_room()

    def report_all(self) -> None:
        """Bring the observer's byte counts up to date."""
        for connection in self.connections:
            connection.report()

    def expect_app(self, *, expected: bool) -> None:
        """Whether an app that refuses connections may be back in a moment: else nobody is held for it."""
        self._context.dialler.expected = expected

    def app_seen(self, *, reachable: bool) -> None:
        """A health check has looked at the app."""
        self._context.dialler.app_seen(reachable=reachable)

    def divert(self, *, on: bool) -> None:
        """Whether new requests and connections go to siblings."""
        self.diverting = on
        self._context.pool.keep(keep=not on)

    def ask_successor(self, tell: Callable[[Answer], None]) -> None:
        """Find out who is there, and tell."""
        assert self._context.handover is not None, "asked where there is a successor"
        self._context.handover.ask(tell)

    def retarget(self, address: Address) -> None:
        """The app is at another address from now on: what is new goes there."""
        self._context.dialler.retarget(address)

    def hold(self, most_s: float) -> None:
        """Keep requests waiting, each for `most_s` seconds at most. What is under way goes on."""
        self._context.dialler.hold(most_s)

    def release(self) -> None:
        """Let those who wait go to the app."""
        if self.held is not None:
            self._context.dialler.release()

    @property
    def held(self) -> int | None:
        """Requests that are kept waiting; None while nothing is held."""
        return self._context.dialler.held

    def staying(self) -> list[ClientConnection]:
        """Long conversations with the process that the app was: to be asked to go."""
        return [each for each in self.connections if each.stays_with_the_app_before]

    def enter(self, phase: Phase) -> None:
        """Tell every session. FORCING: everything open is cut when this returns."""
        self.phase = phase
        for connection in list(self.connections):
            connection.enter(phase)

    # A TLS client counts from its first packet on. The loop says when a handshake is over, but not when it has failed:
    # then uvloop lets the object go that waited for it, and the stock loop will when garbage is collected.

    def _begin_handshake(self) -> ClientConnection:
        connection = ClientConnection(self._context, self)
        connection.handshake = begun = Handshake()
        handshake = weakref.ref(begun, self._handshake_failed)
        self._handshakes.add(handshake)
        if self._is_stock_loop and self._context.config.header_timeout_s:
            self._loop.call_later(self._context.config.header_timeout_s, self._handshake_failed, handshake)
        self._pause_if_full()
        return connection

    def _handshake_failed(self, handshake: weakref.ref[Handshake]) -> None:
        self._handshakes.discard(handshake)
        self._accept_if_room()

    def _pause_if_full(self) -> None:
        if self._count == self._max_connections:
            self._tasks.spawn(self._pause(), f"pause accepting on {self._context.route.listen}")

    def _accept_if_room(self) -> None:
        if self._count == self._max_connections - 1 and not self._stopped:
            self._tasks.spawn(self._accept(), f"accept again on {self._context.route.listen}")

    @property
    def handshakes(self) -> int:
        """TLS clients that have connected, and whose handshake is not over."""
        return len(self._handshakes)

    @property
    def _count(self) -> int:
        return len(self.connections) + len(self._handshakes)

    # Accepting pauses by closing a duplicate of the listening socket: the socket itself stays open, so the kernel goes
    # on queueing clients in the backlog, and nobody meets a closed port.

    async def _accept(self) -> None:
        async with self._changing:
            if self._servers or self._stopped or self._passed_on or self._count >= self._max_connections:
                return
            plain = partial(ClientConnection, self._context, self)
            client = cast("Callable[[], asyncio.BaseProtocol]", plain if self._tls is None else self._begin_handshake)
            accepts = ACCEPTS if self._tls is None else TLS_ACCEPTS
            copies, backlog = (1, accepts) if self._is_stock_loop else (accepts, BACKLOG)
            for sock in self._sockets:
                for _ in range(copies):
                    self._servers.append(await accept(self._loop, client, sock, backlog, **self._tls_options()))
                sock.listen(BACKLOG)  # the stock loop has set the kernel's queue to what it takes in one turn

    def _tls_options(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        handshake_s = self._context.config.header_timeout_s or None
        return {"ssl": self._tls, "ssl_handshake_timeout": handshake_s, "ssl_shutdown_timeout": GOODBYE_S}

    async def _pause(self) -> None:
        async with self._changing:
            if self._count >= self._max_connections or self._stopped or self._passed_on:
                await stop_accepting(self._loop, self._servers)
                self._servers.clear()

    @property
    def sockets(self) -> list[socket.socket]:
        """What it listens on."""
        return self._sockets

    async def pass_on(self) -> None:
        """Another process accepts from now on. Who is connected stays here."""
        self._passed_on = True
        await self._pause()

    async def take_back(self) -> None:
        """That process does so no longer."""
        self._passed_on = False
        await self._accept()

    async def close(self, patience_s: float) -> None:
        """Close the port, then the connections: silent ones at once, the others when they are through.

        Open exchanges, and clients that have only just connected, have LAST_S; what is still to be sent to clients that
        read slowly has `patience_s` seconds in all. 0: nothing is waited for.
        """
        self._stopped = True
        if self._context.handover is not None:
            self._context.handover.closed = True
        await self._pause()
        for sock in self._sockets:
            sock.close()
        if patience_s > 0:
            for connection in list(self.connections):
                if connection.received:
                    connection.wind_down()
            await self._until_empty(min(LAST_S, patience_s))
        self.enter(Phase.FORCING)  # what is still open is told: 503, GOAWAY, Close 1001
        for connection in list(self.connections):
            connection.close()
        await self._until_empty(patience_s - LAST_S)
        for connection in list(self.connections):
            connection.transport.abort()
        self._context.splices.close()
        await self._context.dialler.close()
        if self._context.handover is not None:
            await self._context.handover.close()
        self._context.pool.close()

    async def _until_empty(self, timeout_s: float) -> None:
        if self.connections and timeout_s > 0:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._empty.wait()
