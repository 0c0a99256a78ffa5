"""How long may an admin connection stay? Long enough for one request; only those who wait for a drain's end longer.

The admin port is reachable by many and needed most at the end. A connection carries one request, which must be over
within REQUEST_S; beyond MAX_PASSING connections the oldest is dropped for the newest. So whoever sends slowly, reads
slowly, or opens connections and says nothing, delays neither a probe nor a drain.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp.web import BaseRequest
    from aiohttp.web_protocol import RequestHandler

REQUEST_S = 5.0
"""For the request to come, and again for the answer to be read after a wait."""
MAX_PASSING = 128
"""Connections that do not wait for a drain."""
MAX_WAITING = 1000
"""Connections that do. They are never dropped: the kubelet takes that for the end of the hook."""
MAX_REQUEST_BYTES = 65536
"""Of one request. The endpoints read no body; what comes beyond the head is dropped."""


class Guards:
    """All admin connections, oldest first."""

    def __init__(self) -> None:
        self.passing: dict[Guard, None] = {}
        self.waiting: set[Guard] = set()
        self._by_handler: dict[object, Guard] = {}

    def wrap(self, handler: RequestHandler) -> Guard:
        """A connection's protocol around aiohttp's."""
        guard = Guard(self, handler)
        self._by_handler[handler] = guard
        return guard

    def started(self, request: BaseRequest) -> None:
        """The request's head is complete: what follows on the connection is of no interest."""
        guard = self._by_handler.get(request.protocol)
        if guard is not None:
            guard.stop_listening()

    @contextmanager
    def wait(self, request: BaseRequest) -> Iterator[bool]:
        """While this lasts the connection may stay. False: too many wait already."""
        guard = self._by_handler.get(request.protocol)
        if guard is None or len(self.waiting) >= MAX_WAITING:
            yield False
            return
        guard.wait()
        try:
            yield True
        finally:
            guard.pass_on()

    def opened(self, guard: Guard) -> None:
        """A connection has come. The oldest makes room for it."""
        self.passing[guard] = None
        if len(self.passing) > MAX_PASSING:
            next(iter(self.passing)).drop()

    def closed(self, guard: Guard) -> None:
        """A connection has ended."""
        self.passing.pop(guard, None)
        self.waiting.discard(guard)
        self._by_handler.pop(guard.handler, None)


class Guard(asyncio.Protocol):
    """One admin connection: limits around aiohttp's own protocol, which gets everything else."""

    def __init__(self, guards: Guards, handler: RequestHandler) -> None:
        self.handler = handler
        self._guards = guards
        self._listening = True
        self._received = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._guards.opened(self)
        self._arm()
        self.handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """The caller has sent this."""
        if not self._listening:
            return
        self._received += len(data)
        if self._received > MAX_REQUEST_BYTES:
            self.drop()
            return
        self.handler.data_received(data)

    def eof_received(self) -> bool | None:
        """The caller sends no more, which nobody does who waits for an answer: it is gone."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._lost = True
        self._disarm()
        self._guards.closed(self)
        self.handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller reads slowly."""
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.handler.resume_writing()

    def stop_listening(self) -> None:
        """Drop whatever else is sent."""
        self._listening = False

    def wait(self) -> None:
        """The answer comes when it comes."""
        self._disarm()
        self._guards.passing.pop(self, None)
        self._guards.waiting.add(self)

    def pass_on(self) -> None:
        """The answer is there: it must be read in time."""
        self._guards.waiting.discard(self)
        if not self._lost:
            self._guards.opened(self)
            self._arm()

    def drop(self) -> None:
        """End the connection at once."""
        self._guards.passing.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REQUEST_S, self.drop)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def guarding(guards: Guards, make: Callable[[], RequestHandler]) -> Callable[[], Guard]:
    """The protocol factory of the admin port."""
    return lambda: guards.wrap(make())
