"""What does a WebSocket client see during a rollout? Each request is a message that must come back (echo).

A server may end a connection whenever it likes with a close code that says so; the client connects again and nothing
is lost. Lost is a message without its echo, and a connection that dies without a close frame.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp

from drainproxy.tools.probe import verdict
from drainproxy.tools.probe.faults import classify
from drainproxy.tools.probe.http_client import plain_connector
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.tools.probe.load import Traffic

POLITE = frozenset({1000, 1001, 1012, 1013})
"""Close codes that ask a client to come back (RFC 6455 section 7.4.1 and its registry): normal, going away, restart,
try again later."""

DIED = 1006
"""RFC 6455 section 7.1.5: the connection ended without a close frame."""


class WebSocketClient:
    """Echo over kept WebSockets that take turns, and over one of its own where the traffic asks for a fresh one.

    `on_loss` hears of a kept connection that died while no echo was due. `closes` counts the close codes of all
    kept connections that the server ended.
    """

    def __init__(
        self,
        traffic: Traffic,
        url: str,
        *,
        text: str = "",
        connector: Callable[[bool], aiohttp.BaseConnector] = plain_connector,
        server_name: str | None = None,
    ) -> None:
        self.on_loss: Callable[[Reply], None] = lambda _: None
        self.closes: Counter[int] = Counter()
        self._traffic, self._url, self._text, self._server_name = traffic, url, text, server_name
        self._session = aiohttp.ClientSession(
            connector=connector(True), cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        )
        self._lanes: list[_Lane | None] = [None] * traffic.connections
        self._turn = 0

    async def send(self, number: int) -> Reply:
        """One message and its echo. A connection that is not there is made first; that time counts."""
        try:
            async with asyncio.timeout(self._traffic.timeout_s):
                if self._traffic.wants_fresh(number):
                    lane = await self._connect()
                    try:
                        return await lane.echo(f"{number} {self._text}")
                    finally:
                        await lane.close()
                return await (await self._kept()).echo(f"{number} {self._text}")
        except TimeoutError:
            return Reply(verdict.TIMEOUT, f"no echo after {self._traffic.timeout_s:g} s")
        except aiohttp.WSServerHandshakeError as error:
            return Reply(str(error.status), f"the handshake was answered {error.status}", error.status)
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            fault, detail = classify(error)
            return Reply(fault, detail)

    async def close(self) -> None:
        for lane in self._lanes:
            if lane is not None:
                await lane.close()
        await self._session.close()

    async def _kept(self) -> _Lane:
        """The next kept connection in turn, made anew if the server has ended it."""
        place = self._turn % len(self._lanes)
        self._turn += 1
        lane = self._lanes[place]
        if lane is None or lane.gone:
            lane = self._lanes[place] = await self._connect(self._ended)
        return lane

    async def _connect(self, on_end: Callable[[int, bool], None] = lambda _code, _busy: None) -> _Lane:
        socket = await self._session.ws_connect(
            self._url,
            headers=dict(self._traffic.headers),
            autoping=True,
            max_msg_size=0,
            server_hostname=self._server_name,
        )
        # The handshake's headers have no public name.
        return _Lane(socket, socket._response.headers.get(self._traffic.pod_header, ""), on_end)

    def _ended(self, code: int, busy: bool) -> None:
        self.closes[code] += 1
        if code not in POLITE and not busy:
            self.on_loss(Reply(f"close {code}", "an idle WebSocket ended", reused=True))


class _Lane:
    """One WebSocket, read all the time so that a close frame is seen and answered at once."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, pod: str, on_end: Callable[[int, bool], None]) -> None:
        self.gone = False
        self._socket, self._pod, self._on_end = socket, pod, on_end
        self._used = False
        self._due: dict[str, asyncio.Future[Reply]] = {}
        self._reader = asyncio.create_task(self._read(), name="websocket reader")

    async def echo(self, text: str) -> Reply:
        answer = self._due[text] = asyncio.get_running_loop().create_future()
        reused, self._used = self._used, True
        try:
            await self._socket.send_str(text)
            reply = await answer
        finally:
            self._due.pop(text, None)
        return Reply(reply.fault, reply.detail, reply.status, self._pod, reply.size, reused)

    async def close(self) -> None:
        """Our own goodbye (1000); silent for the counters."""
        self._on_end = lambda _code, _busy: None
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            answer = self._due.get(message.data)
            if answer is not None:
                if not answer.done():
                    answer.set_result(Reply(status=101, size=len(message.data)))
            else:
                self._fail(verdict.WRONG_ECHO, f"got {message.data[:80]!r}")
        self.gone = True
        code = self._socket.close_code or DIED
        self._on_end(code, bool(self._due))
        self._fail(f"close {code}", f"the WebSocket ended with code {code} before the echo")

    def _fail(self, fault: str, detail: str) -> None:
        for answer in self._due.values():
            if not answer.done():
                answer.set_result(Reply(fault, detail))
