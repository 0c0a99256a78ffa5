"""Who stands in for the loop and its transports when net is tested? Scripted ones, that do nothing by themselves.

A `RouteRig` is one route's clients and connections to the app, with no socket behind any of them: a test says what
arrives, and sees what was written, held and closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from drainproxy.config.options import Config
from drainproxy.config.values import Address, Route, Successor
from drainproxy.drain.handover import HandedOver
from drainproxy.drain.ledger import Ledger
from drainproxy.drain.phase import Phase
from drainproxy.drain.release import Answer
from drainproxy.drain.turns import Turns
from drainproxy.net.client import ClientConnection
from drainproxy.net.flow import ReadGate
from drainproxy.net.pool import Terms
from drainproxy.net.route import context_for
from drainproxy.net.siblings import Replica
from drainproxy.net.timers import Timers
from drainproxy.net.tls import Trust
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.protocol.hello import Identity

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from drainproxy.config.values import RouteProtocol
    from drainproxy.drain.ledger import Work
    from drainproxy.net.pool import ConnectionPool, Waiter
    from drainproxy.observe.observer import Side
    from drainproxy.protocol.reasons import Reason


REPLICA = Replica(
    Identity(b"0123456789abcdef", b"shop/web"), lambda: Answer.READY, Trust(None, None), lambda trouble: None
)
"""What siblings hear of a process in tests."""


class Handle:
    """A timer of a ManualLoop."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualLoop:
    """A clock that moves when a test says so, and the timers on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.failures: list[dict[str, Any]] = []
        """What was reported as a bug."""
        self._numbers = count()
        self._timers: list[tuple[float, int, Handle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> Handle:
        handle = Handle(lambda: callback(*args))
        heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Handle:
        return self.call_at(self.now + delay, callback, *args)

    def create_future(self) -> None:
        """Nobody waits here."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer fires at its own time."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, handle = heappop(self._timers)
            self.now = max(self.now, when)
            if handle.callback is not None:
                handle.callback()
        self.now = until

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


class ScriptedTransport(asyncio.Transport):
    """A transport that keeps what it was told. `end`: open, closed or aborted."""

    def __init__(self, sock: socket.socket | None = None, *, tls: bool = False) -> None:
        super().__init__({"socket": sock, "peername": ("10.0.0.9", 4711)} | ({"sslcontext": object()} if tls else {}))
        self.got = b""
        self.got_eof = False
        self._reading = True
        self.end = "open"
        self.unsent = 0
        self.limits: int | None = None
        self._tls = tls

    def write(self, data: Any) -> None:
        if self.got_eof:
            raise RuntimeError("Cannot call write() after write_eof()")  # as the loops' transports do
        self.got += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        self.got_eof = True

    def close(self) -> None:
        if self.end == "open":
            self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"

    def is_closing(self) -> bool:
        return self.end != "open"

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high


class ScriptedEnd:
    """One of the two sockets that a Pair joins."""

    def __init__(self, sock: socket.socket | None = None, *, full: bool = False) -> None:
        self.scripted = ScriptedTransport(sock)
        self.transport: asyncio.Transport = self.scripted
        self.gate = ReadGate(self.transport)
        self.full = full


class Noting:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[int, bool]] = []
        self.opened_sides: list[Side] = []
        self.received = 0
        self.sent = 0
        self.rejections: list[Reason] = []
        self.upstream_errors: list[Reason] = []
        self.retries = 0

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        self.exchanges.append((status, completed))

    def opened(self, side: Side) -> None:
        self.opened_sides.append(side)

    def transferred(self, received: int, sent: int) -> None:
        self.received += received
        self.sent += sent

    def rejected(self, reason: Reason) -> None:
        self.rejections.append(reason)

    def upstream_error(self, reason: Reason) -> None:
        self.upstream_errors.append(reason)

    def retried(self) -> None:
        self.retries += 1


class ScriptedAttempt:
    """The time that one attempt to connect has. See asyncio.Timeout."""

    def __init__(self, *, expired: bool = False) -> None:
        self._expired = expired
        self.until: float | None = 1.0

    def expired(self) -> bool:
        return self._expired

    def reschedule(self, when: float | None) -> None:
        self.until = when


def attempt(*, expired: bool = False) -> asyncio.Timeout:
    return cast("asyncio.Timeout", ScriptedAttempt(expired=expired))


class ScriptedDialler:
    """A dialler that connects when a test says so."""

    def __init__(self, loop: ManualLoop, pool: ConnectionPool) -> None:
        self.phase = Phase.SERVING
        self.app_is_away = False
        self._loop = loop
        self._pool = pool

    def want(self, waiter: Waiter, *, fresh: bool, validate: bool) -> None:
        self._pool.wait(waiter, Terms(self._loop.now + 5, fresh, validate))

    def skips(self) -> bool:
        return self.app_is_away


class Client:
    """A client's connection and its transport."""

    def __init__(self, connection: ClientConnection, transport: ScriptedTransport) -> None:
        self.connection = connection
        self.transport = transport

    def sends(self, data: bytes) -> None:
        self.connection.data_received(data)

    def take(self) -> bytes:
        """What was written to the client since it was last asked."""
        got, self.transport.got = self.transport.got, b""
        return got

    def leaves(self, error: Exception | None = None) -> None:
        self.transport.end = "closed"
        self.connection.connection_lost(error)


class App:
    """A connection to the app and its transport."""

    def __init__(self, connection: UpstreamConnection, transport: ScriptedTransport) -> None:
        self.connection = connection
        self.transport = transport

    def sends(self, data: bytes) -> None:
        self.connection.data_received(data)

    def take(self) -> bytes:
        """What was written to the app since it was last asked."""
        got, self.transport.got = self.transport.got, b""
        return got

    def ends(self, error: Exception | None = None) -> None:
        """By a FIN, or broken."""
        if error is None:
            self.connection.eof_received()
        self.transport.end = "closed"
        self.connection.connection_lost(error)


class RouteRig:
    """A route without a loop: also the owner of its clients' connections. `successor`: it has one."""

    def __init__(
        self, protocol: RouteProtocol = "http1", *, tls: bool = False, successor: bool = False, **options: Any
    ) -> None:
        self.loop = ManualLoop()
        self.noting = Noting()
        self.ledger = Ledger()
        self.timers = Timers(self.loop.as_loop())
        self.phase = Phase.SERVING
        self.diverting = False
        self.turns: Turns[ClientConnection] = Turns()
        self.connections: set[ClientConnection] = set()
        where = Successor(Address("127.0.0.1", 3)) if successor else None
        route = Route(Address("127.0.0.1", 1), Address("127.0.0.1", 2), protocol, where)
        context = context_for(
            self.loop.as_loop(),
            route,
            Config(**options),
            ledger=self.ledger,
            timers=self.timers,
            observer=self.noting,
            handed=HandedOver(lambda: 0),
            replica=REPLICA,
            tls=tls,
        )
        self.pool = context.pool
        self.dialler = ScriptedDialler(self.loop, self.pool)
        self.context = replace(context, dialler=cast("Any", self.dialler))
        self._tls = tls

    def opened(self, connection: ClientConnection) -> None:
        self.connections.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self.turns.forget(connection)

    def client(self, sock: socket.socket | None = None) -> Client:
        """A client that has connected."""
        connection = ClientConnection(self.context, self)
        transport = ScriptedTransport(sock, tls=self._tls)
        connection.connection_made(transport)
        return Client(connection, transport)

    def sibling(self) -> App:
        """A sibling that has said who it is, on a connection that is idle now."""
        assert self.context.handover is not None, "a route with a successor"
        siblings = self.context.handover.siblings
        connection = UpstreamConnection(siblings, attempt())
        transport = ScriptedTransport()
        connection.connection_made(transport)
        siblings.lend(connection)
        siblings.put(connection)
        return App(connection, transport)

    def app(self, sock: socket.socket | None = None) -> App:
        """The app accepts a connection: for whoever has waited longest."""
        connection = UpstreamConnection(self.pool, attempt())
        transport = ScriptedTransport(sock)
        connection.connection_made(transport)
        return App(connection, transport)
