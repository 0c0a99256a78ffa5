"""Who answers at the successor's address? Connections to siblings: each begins with the question who is there.

A Service sends a connection where it likes: to a sibling, to one that drains, or back to this very Pod. So nothing of a
client is sent before the other end has said who it is (protocol/hello.py).
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from drainproxy.drain.release import Answer
from drainproxy.net.peer import new_request_id
from drainproxy.net.resolve import Resolver
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.observe.observer import Side
from drainproxy.protocol.hello import MAX_ANSWER, Purpose, ask, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.values import Address
    from drainproxy.net.closing import Closing
    from drainproxy.net.pool import ConnectionPool
    from drainproxy.net.tls import Trust
    from drainproxy.protocol.hello import Identity, Question, Reply

MAX_DIALS = 64
"""So many connections are made at a time."""
_SAID = {answer.value.encode(): answer for answer in (Answer.READY, Answer.SERVING, Answer.GONE)}


@dataclass(frozen=True, slots=True)
class Replica:
    """What siblings may know of this process, its identity and how it stands; and whom it takes for siblings.

    `trust`: on routes with TLS. `tell`: of what is in the way of a connection to them.
    """

    identity: Identity
    standing: Callable[[], Answer]
    trust: Trust
    tell: Callable[[str], None]

    def answer(self, question: Question) -> bytes:
        """What is answered to a sibling that asks."""
        return self.identity.answer(question, self.standing().value.encode())

    def judge(self, reply: Reply | None, nonce: bytes) -> Answer:
        """Who has answered."""
        if reply is None or not self.identity.is_siblings(reply, nonce):
            return Answer.STRANGER
        return Answer.OURSELVES if self.identity.is_ours(reply) else _SAID.get(reply.standing, Answer.STRANGER)


class Greeting:
    """What has come on a connection whose other end has been asked who it is. `reply`: None if it is no answer."""

    __slots__ = ("data", "over", "reply")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.data = b""
        self.reply: Reply | None = None
        self.over: asyncio.Future[None] = loop.create_future()

    def feed(self, data: bytes) -> None:
        """More has come; behind the answer it is for whoever gets the connection."""
        self.data += data
        if self.over.done():
            return
        self.reply = read_answer(self.data)
        if self.reply is not None:
            self.data = self.data[self.reply.end :]
            self.over.set_result(None)
        elif b"\r\n\r\n" in self.data or len(self.data) > MAX_ANSWER:
            self.end()

    def end(self) -> None:
        """Nothing more comes that could be an answer."""
        if not self.over.done():
            self.over.set_result(None)


class Siblings:
    """Connections to one successor, and their Keeper (net/upstream.py). Those for requests are kept in `pool`."""

    side = Side.SUCCESSOR

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        replica: Replica,
        *,
        limit_s: float,
        pool: ConnectionPool,
        tls: bool,
    ) -> None:
        self.pool = pool
        self._tls = tls
        self._trouble = ""
        self._loop = loop
        self._address = address
        self.replica = replica
        self._limit_s = limit_s
        self._resolver = Resolver(address)
        self._room = asyncio.Semaphore(MAX_DIALS)
        self._greetings: dict[UpstreamConnection, Greeting] = {}
        self._turn = 0

    async def ask(self) -> Answer:
        """Who is there, on a connection of its own."""
        answer, connection = await self.reach(Purpose.ASK)
        if connection is not None:
            self.drop(connection)
        return answer

    async def reach(self, purpose: Purpose) -> tuple[Answer, UpstreamConnection | None]:
        """A new connection, and who is there; None: nobody, or nobody who could be told from others.

        Whoever gets the connection calls `lend` or `drop`. Not to be cancelled but at the end of the process: uvloop
        may have made a connection, and would never say that it has closed it.
        """
        async with self._room:
            try:
                async with asyncio.timeout(self._limit_s) as limit:
                    connection = await self._connect(limit)
            except ssl.SSLError as error:
                self._tell(f"TLS with {self._address} failed: {getattr(error, 'verify_message', '') or error.reason}")
                return Answer.UNTRUSTED, None
            except OSError:  # TimeoutError is one
                return Answer.NOBODY, None
            self._trouble = ""
            try:
                return await self._ask(connection, purpose)
            except BaseException:
                self.drop(connection)
                raise

    def _tell(self, trouble: str) -> None:
        """Once, until it is over or another one."""
        if trouble != self._trouble:
            self._trouble = trouble
            self.replica.tell(trouble)

    async def _connect(self, limit: asyncio.Timeout) -> UpstreamConnection:
        """To each of the hosts in turn, so that a name with many is not always the same Pod."""
        hosts = await self._resolver.hosts()
        self._turn = (self._turn + 1) % len(hosts)
        *others, last = hosts[self._turn :] + hosts[: self._turn]
        for host in others:
            with suppress(OSError):
                return await self._dial(host, limit)
        try:
            return await self._dial(last, limit)
        except OSError:
            self._resolver.forget()
            raise

    async def _dial(self, host: str, limit: asyncio.Timeout) -> UpstreamConnection:
        connection = UpstreamConnection(self, limit)
        more: dict[str, Any] = {}
        if self._tls:
            trust = self.replica.trust
            more = {"ssl": trust.context(), "server_hostname": trust.name or self._address.host}

        def made() -> asyncio.BaseProtocol:
            return cast("asyncio.BaseProtocol", connection)

        await self._loop.create_connection(made, host, self._address.port, **more)
        if connection not in self._greetings:
            raise TimeoutError  # it came too late, or has ended already
        return connection

    async def _ask(self, connection: UpstreamConnection, purpose: Purpose) -> tuple[Answer, UpstreamConnection | None]:
        greeting, nonce = self._greetings[connection], new_request_id()
        connection.write(ask(nonce, purpose, str(self._address)))
        try:
            async with asyncio.timeout(self._limit_s):
                await greeting.over
        except TimeoutError:
            self.drop(connection)
            return Answer.NOBODY, None
        return self.replica.judge(greeting.reply, nonce), connection

    def lend(self, connection: UpstreamConnection) -> bytes:
        """It is somebody's now. What has come behind the answer is that one's, too."""
        greeting = self._greetings.pop(connection, None)
        return b"" if greeting is None else greeting.data

    def drop(self, connection: UpstreamConnection) -> None:
        """Nobody wants it."""
        self._greetings.pop(connection, None)
        connection.transport.abort()

    def opened(self, connection: UpstreamConnection) -> None:
        self.pool.joined(connection)
        self._greetings[connection] = Greeting(self._loop)

    def unasked(self, connection: UpstreamConnection, data: bytes) -> None:
        greeting = self._greetings.get(connection)
        if greeting is not None:
            greeting.feed(data)
        else:
            connection.transport.abort()

    def put(self, connection: UpstreamConnection) -> None:
        self.pool.put(connection)

    def expire(self, connection: UpstreamConnection, now: float) -> None:
        self.pool.expire(connection, now)

    def retire(self, connection: UpstreamConnection) -> Closing:
        return self.pool.retire(connection)

    def gone(self, connection: UpstreamConnection) -> None:
        self.pool.gone(connection)
        greeting = self._greetings.pop(connection, None)
        if greeting is not None:
            greeting.end()
