"""How is the admin port served? Started first, stopped last, and never in the way of a drain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.admin.access import Access
from drainproxy.admin.aiohttp_web import Server
from drainproxy.admin.guard import Guards, guarding
from drainproxy.admin.handlers import Endpoints
from drainproxy.config.values import Address
from drainproxy.net.accepting import accept, stop_accepting
from drainproxy.observe.metrics import Exposition

if TYPE_CHECKING:
    import socket

    from drainproxy.admin.control import Control, Operations
    from drainproxy.observe.documents import Process
    from drainproxy.observe.meter import Meter

BACKLOG = 1024
STOP_S = 1.0
"""For answers that are on their way when the process ends."""
PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


class AdminServer:
    """The admin port. Constructed, it touches nothing; `start` answers, `stop` ends it."""

    def __init__(self, process: Process, control: Control, meter: Meter) -> None:
        self._process = process
        self._control = control
        self._meter = meter
        self._access = Access(process.config)
        self._guards = Guards()
        self._http: Server | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self.sockets: list[socket.socket] = []
        self.address = process.config.admin
        """Where it listens: as configured, with the port that the kernel chose for 0."""

    def prepare(self, sockets: list[socket.socket], operations: Operations) -> None:
        """Get ready to answer on these bound sockets. Raises ConfigError if the token cannot be read."""
        self.sockets = sockets
        self._access.load()
        folder = Path(__file__).parent
        assets = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}
        exposition = Exposition(self._process, self._meter)
        endpoints = Endpoints(
            self._process, self._control, self._meter, exposition, self._access, self._guards, assets, operations
        )
        self.address = _bound(self.address, self.sockets[0])
        self._http = Server(
            endpoints.handle,
            handler_cancellation=True,  # a caller that is gone waits no more; the drain goes on
            access_log=None,
            lingering_time=0,
        )

    async def pass_on(self) -> None:
        """Another process answers from now on. Who is connected gets an answer here."""
        await stop_accepting(asyncio.get_running_loop(), self._servers)
        self._servers.clear()

    async def answer(self) -> None:
        """This process answers from now on."""
        loop = asyncio.get_running_loop()
        assert self._http is not None, "it was prepared"
        for sock in () if self._servers else self.sockets:
            guard = guarding(self._guards, self._http)
            self._servers.append(await accept(loop, guard, sock, BACKLOG))

    async def stop(self) -> None:
        """Accept nobody any more, let answers out, end."""
        for server in self._servers:
            server.close()
        for sock in self.sockets:
            sock.close()
        if self._http is not None:
            await self._http.shutdown(STOP_S)


def _bound(address: Address, sock: socket.socket) -> Address:
    return address if address.path else Address(address.host, sock.getsockname()[1])
