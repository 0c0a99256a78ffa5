"""Do large bodies that pass unread arrive whole, or visibly cut, whatever the two ends do meanwhile?"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import select
import socket
import stat
import struct
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.config.loading import load
from drainproxy.config.values import Address, Route
from drainproxy.drain.handover import HandedOver
from drainproxy.drain.ledger import Ledger
from drainproxy.drain.phase import Phase
from drainproxy.drain.turns import Turns
from drainproxy.net import splice
from drainproxy.net.listener import Listener
from drainproxy.net.route import context_for
from drainproxy.net.tasks import Tasks
from drainproxy.net.timers import Timers
from drainproxy.protocol.reasons import Reason
from drainproxy.session.http1 import WORTH_PASSING
from tests.support.transports import REPLICA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from drainproxy.drain.ledger import Work
    from drainproxy.observe.observer import Side

SIZE = 8 << 20
BODY = random.Random(7).randbytes(SIZE)
GET = b"GET /%s HTTP/1.1\r\nHost: app\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % SIZE
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
WHOLE = OK % SIZE
PATIENCE_S = 10

pytestmark = pytest.mark.skipif(not splice.AVAILABLE, reason="splice(2) is Linux's")


class Noting:
    """An observer that keeps what the tests ask about."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, bool]] = []
        self.received = 0
        self.sent = 0
        self.noted: list[Reason] = []

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        self.ended.append((status, completed))

    def opened(self, side: Side) -> None:
        """Not asked about."""

    def transferred(self, received: int, sent: int) -> None:
        self.received += received
        self.sent += sent

    def rejected(self, reason: Reason) -> None:
        self.noted.append(reason)

    def upstream_error(self, reason: Reason) -> None:
        self.noted.append(reason)

    def retried(self) -> None:
        """Not asked about."""


class Line:
    """One end of a connection, the client's or the app's, read and written step by step."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send, as fast as the other side reads."""
        self.writer.write(data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the end, by FIN or reset."""
        data = bytearray()
        with suppress(ConnectionError):
            while more := await self.reader.read(1 << 20):
                data += more
        return bytes(data)

    def reset(self) -> None:
        """Close with a reset."""
        sock = self.writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class Rig:
    """A route at work, an app that does what a test says, and clients."""

    def __init__(
        self, listener: Listener, splices: splice.Splices, noting: Noting, ledger: Ledger, apps: asyncio.Queue[Line]
    ) -> None:
        self.listener = listener
        self.splices = splices
        self.noting = noting
        self.ledger = ledger
        self._apps = apps
        self.lines: list[Line] = []

    async def client(self) -> Line:
        host, _, port = self.listener.address.rpartition(":")
        sock = socket.socket()
        small(sock)
        sock.connect((host, int(port)))
        self.lines.append(Line(*await asyncio.open_connection(sock=sock)))
        return self.lines[-1]

    async def app(self) -> Line:
        """The app's end of the next connection that is made to it."""
        self.lines.append(await self._apps.get())
        return self.lines[-1]

    @property
    def awaiting_source(self) -> int:
        """Bodies of which more has to come."""
        watch = self.splices.sources
        return len(watch.waiting) if watch is not None else 0

    @property
    def awaiting_target(self) -> int:
        """Bodies that a slow reader holds up."""
        watch = self.splices.targets
        return len(watch.waiting) if watch is not None else 0

    async def download(self) -> tuple[Line, Line]:
        """A client and an app that has a request, and has not answered yet."""
        client = await self.client()
        client.send(GET % b"")
        app = await self.app()
        await app.head()
        return client, app

    async def upload(self) -> tuple[Line, Line]:
        """A client that has sent the head alone, and the app that has got it."""
        client = await self.client()
        client.send(POST)
        app = await self.app()
        await app.head()
        return client, app

    async def all_ended(self, *exchanges: tuple[int, bool]) -> None:
        """Every exchange so far, (status, completed); then nothing is left of any."""
        await until(lambda: len(self.noting.ended) == len(exchanges), "the end of the exchange")
        assert self.noting.ended == list(exchanges)
        assert not self.splices.open
        assert self.ledger.idle


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - what is awaited here has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_S} s for {what}") from None


def small(sock: socket.socket) -> None:
    """Let the kernel keep little for a reader that is slow."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def rig(path: str = "", **options: str) -> AsyncIterator[Rig]:
    """The route, with every connection ended and every descriptor closed behind it."""
    loop = asyncio.get_running_loop()
    apps: asyncio.Queue[Line] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        apps.put_nowait(Line(reader, writer))

    sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    small(sock)
    sock.bind(path or ("127.0.0.1", 0))
    server = await (asyncio.start_unix_server if path else asyncio.start_server)(accept, sock=sock)
    upstream = Address(path=path) if path else Address("127.0.0.1", sock.getsockname()[1])
    config = load({key.replace("_", "-"): value for key, value in options.items()}, {}, {})
    route = Route(Address("127.0.0.1", 0), upstream, "auto")
    noting, ledger, timers, tasks = Noting(), Ledger(), Timers(loop), Tasks(loop)
    more: Any = {"timers": timers, "observer": noting, "handed": HandedOver(lambda: 0), "replica": REPLICA}
    context = context_for(loop, route, config, ledger=ledger, **more)
    listener = Listener(context, turns=Turns(), tasks=tasks, max_connections=10)
    await listener.start([socket.create_server(("127.0.0.1", 0))])
    rigged = Rig(listener, context.splices, noting, ledger, apps)
    try:
        yield rigged
    finally:
        for line in rigged.lines:
            line.writer.transport.abort()
        server.close()
        await listener.close(1.0)
        await tasks.close()
        timers.close()
        await asyncio.sleep(0.01)


class Spliced:
    """Bytes that splice(2) has moved into pipes and out of them."""

    def __init__(self) -> None:
        self.moved = 0
        self.real = os.splice
        self.fail: Callable[[int], None] = lambda number: None
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        self.calls += 1
        self.fail(self.calls)
        moved = self.real(*args, **kwargs)
        self.moved += moved
        return moved


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> Spliced:
    counting = Spliced()
    monkeypatch.setattr(os, "splice", counting)
    return counting


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the app listens: a unix socket's path, or nothing for TCP."""
    return str(tmp_path / "s") if request.param == "unix" else ""


def nearly_all(spliced: Spliced) -> bool:
    """All but what had come with the head has passed unread: in and out of a pipe."""
    return 2 * (SIZE - (1 << 19)) < spliced.moved <= 2 * SIZE


async def test_a_download_passes_unread_and_both_connections_serve_the_next_request(
    path: str, spliced: Spliced
) -> None:
    async with rig(path) as route:
        client, app = await route.download()
        for _ in range(2):
            app.send(WHOLE + BODY)
            assert WHOLE in await client.head()
            assert await client.read(SIZE) == BODY
            client.send(GET % b"next")
            assert (await app.head()).startswith(b"GET /next ")
        assert nearly_all(spliced) or 2 * (2 * SIZE - (1 << 20)) < spliced.moved <= 4 * SIZE
        app.send(OK % 2 + b"ok")
        assert await client.head() == OK % 2
        assert await client.read(2) == b"ok"
        await route.all_ended((200, True), (200, True), (200, True))
        route.listener.report_all()
        assert route.noting.sent == 2 * len(WHOLE + BODY) + len(OK % 2 + b"ok")


async def test_an_upload_passes_unread_and_the_pipelined_request_behind_it_is_the_next(
    path: str, spliced: Spliced
) -> None:
    async with rig(path) as route:
        client, app = await route.upload()
        client.send(BODY + GET % b"next")
        assert await app.read(SIZE) == BODY
        assert nearly_all(spliced)
        for request in (b"", b"GET /next "):
            if request:
                assert (await app.head()).startswith(request)
            app.send(OK % 2 + b"ok")
            assert await client.head() == OK % 2
            assert await client.read(2) == b"ok"
        await route.all_ended((200, True), (200, True))
        route.listener.report_all()
        assert route.noting.received == len(POST + BODY + GET % b"next")


async def test_a_slow_reader_of_a_download_holds_the_app_up_and_gets_it_all(path: str, spliced: Spliced) -> None:
    async with rig(path) as route:
        client, app = await route.download()
        app.send(WHOLE + BODY)
        await until(lambda: route.awaiting_target, "a client that is full")
        assert await client.head() == WHOLE
        got = [await client.read(100_000) for _ in range(SIZE // 100_000)]
        assert b"".join([*got, await client.read(SIZE % 100_000)]) == BODY
        await route.all_ended((200, True))


async def test_a_slow_reader_of_an_upload_holds_the_client_up_and_gets_it_all(path: str, spliced: Spliced) -> None:
    async with rig(path) as route:
        client, app = await route.upload()
        client.send(BODY)
        await until(lambda: route.awaiting_target, "an app that is full")
        got = [await app.read(100_000) for _ in range(SIZE // 100_000)]
        assert b"".join([*got, await app.read(SIZE % 100_000)]) == BODY
        app.send(OK % 0)
        assert await client.head() == OK % 0
        await route.all_ended((200, True))


async def test_what_comes_in_drops_passes_in_drops(spliced: Spliced) -> None:
    async with rig() as route:
        client, app = await route.download()
        app.send(WHOLE)
        await client.head()
        for start in range(0, SIZE, SIZE // 8):
            await until(lambda: route.awaiting_source, "an app that has said all so far")
            app.send(BODY[start : start + SIZE // 8])
            assert await client.read(SIZE // 8) == BODY[start : start + SIZE // 8]
        await route.all_ended((200, True))
        assert spliced.moved == 2 * SIZE


async def test_both_ways_at_once() -> None:
    async with rig() as route:
        client, app = await route.upload()
        app.send(WHOLE)
        await client.head()
        client.send(BODY)
        for start in range(0, SIZE, SIZE // 8):
            app.send(await app.read(SIZE // 8))
            assert await client.read(SIZE // 8) == BODY[start : start + SIZE // 8]
        await route.all_ended((200, True))


async def test_a_drain_waits_for_a_body_that_passes_unread() -> None:
    async with rig() as route:
        client, app = await route.download()
        app.send(WHOLE + BODY[: SIZE // 2])
        await client.head()
        await client.read(SIZE // 2)
        for phase in (Phase.PROPAGATING, Phase.FINISHING):
            route.listener.enter(phase)
            assert not route.ledger.idle
        app.send(BODY[SIZE // 2 :])
        assert await client.read(SIZE // 2) == BODY[SIZE // 2 :]
        await route.all_ended((200, True))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("at", [1, 2, 5, 6])
async def test_where_splice_fails_bytes_are_read_and_none_is_lost(spliced: Spliced, code: int, at: int) -> None:
    def fail(number: int) -> None:
        if number >= at:
            raise OSError(code, os.strerror(code))

    spliced.fail = fail
    async with rig() as route:
        client, app = await route.upload()
        client.send(BODY)
        assert await app.read(SIZE) == BODY
        assert spliced.calls <= at + 1
        spliced.calls = 0
        app.send(WHOLE + BODY)
        assert await client.head() == WHOLE
        assert await client.read(SIZE) == BODY
        assert 0 < spliced.calls <= at + 1
        await route.all_ended((200, True))
        route.listener.report_all()
        assert (route.noting.received, route.noting.sent) == (len(POST + BODY), len(WHOLE + BODY))


@pytest.mark.parametrize("what", ["pipe2", "fcntl", "epoll", "most"])
async def test_without_a_pipe_bytes_are_read(spliced: Spliced, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    if what == "most":
        monkeypatch.setattr(splice, "MOST", 0)
    else:
        module = {"pipe2": os, "fcntl": fcntl, "epoll": select}[what]
    async with rig() as route:
        client, app = await route.download()
        with monkeypatch.context() as patch:
            if what != "most":
                patch.setattr(module, what, refuse)
            app.send(WHOLE + BODY)
            assert await client.head() == WHOLE
        assert await client.read(SIZE) == BODY
        assert spliced.moved == 0
        await route.all_ended((200, True))


async def test_small_bodies_are_read(spliced: Spliced) -> None:
    async with rig() as route:
        client, app = await route.download()
        app.send(OK % (WORTH_PASSING - 1))
        await client.head()
        app.send(BODY[: WORTH_PASSING - 1])
        assert await client.read(WORTH_PASSING - 1) == BODY[: WORTH_PASSING - 1]
        await route.all_ended((200, True))
        assert spliced.moved == 0


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The reading end of every pipe that was made."""
    made: list[int] = []

    def noting(flags: int) -> tuple[int, int]:
        ends = real(flags)
        made.append(ends[0])
        return ends

    real = os.pipe2
    monkeypatch.setattr(os, "pipe2", noting)
    return made


def is_pipe(descriptor: int) -> bool:
    """It is still open."""
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


async def test_a_pipe_serves_one_body_after_the_other(pipes: list[int]) -> None:
    async with rig() as route:
        client, app = await route.download()
        for _ in range(3):
            app.send(WHOLE + BODY)
            assert await client.head() == WHOLE
            assert await client.read(SIZE) == BODY
            client.send(GET % b"next")
            await app.head()
        assert [is_pipe(each) for each in pipes] == [True]
    assert not is_pipe(pipes[0])


async def test_a_pipe_that_is_left_with_bytes_in_it_serves_no_other_body(pipes: list[int]) -> None:
    async with rig() as route:
        _, app = await route.download()
        app.send(WHOLE + BODY)
        await until(lambda: route.awaiting_target, "a client that is full")
        assert [is_pipe(each) for each in pipes] == [True]
        route.listener.enter(Phase.FORCING)
        assert not is_pipe(pipes[0])


async def test_no_more_pipes_are_kept_than_a_few(pipes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "SPARE", 1)
    async with rig() as route:
        ends = [await route.download() for _ in range(3)]
        for _, app in ends:
            app.send(WHOLE + BODY[: SIZE // 2])
        await until(lambda: len(pipes) == len(ends), "all to pass")
        for client, app in ends:
            app.send(BODY[SIZE // 2 :])
            await client.head()
            assert await client.read(SIZE) == BODY
        await route.all_ended(*[(200, True)] * len(ends))
        assert sum(is_pipe(each) for each in pipes) == 1


async def half_down(route: Rig) -> tuple[Line, Line]:
    """Half of a download has come to the client."""
    client, app = await route.download()
    app.send(WHOLE + BODY[: SIZE // 2])
    await client.head()
    assert await client.read(SIZE // 2) == BODY[: SIZE // 2]
    await until(lambda: route.awaiting_source, "the app's next bytes to be awaited")
    return client, app


async def half_up(route: Rig) -> tuple[Line, Line]:
    """Half of an upload has come to the app."""
    client, app = await route.upload()
    client.send(BODY[: SIZE // 2])
    assert await app.read(SIZE // 2) == BODY[: SIZE // 2]
    await until(lambda: route.awaiting_source, "the client's next bytes to be awaited")
    return client, app


def close(line: Line) -> None:
    line.close()


def reset(line: Line) -> None:
    line.reset()


ENDS = pytest.mark.parametrize("end", [close, reset])


@ENDS
async def test_an_app_that_dies_in_a_download_leaves_a_client_that_notices(end: Callable[[Line], None]) -> None:
    async with rig() as route:
        client, app = await half_down(route)
        app.send(BODY[SIZE // 2 : SIZE // 2 + 1000])
        end(app)
        assert await client.rest() in (BODY[SIZE // 2 : SIZE // 2 + 1000], b"")
        await route.all_ended((200, False))
        assert route.noting.noted == [Reason.CLOSED_EARLY]


@ENDS
async def test_an_app_that_dies_while_the_client_is_slow_leaves_a_client_that_notices(
    end: Callable[[Line], None],
) -> None:
    async with rig() as route:
        client, app = await route.download()
        app.send(WHOLE + BODY[: SIZE - 1])
        await until(lambda: route.awaiting_target, "a client that is full")
        end(app)
        got = await client.rest()
        assert got.startswith(WHOLE)
        assert len(got) < len(WHOLE) + SIZE
        assert (WHOLE + BODY).startswith(got)
        await route.all_ended((200, False))


@ENDS
async def test_a_client_that_leaves_a_download_takes_the_apps_work_with_it(end: Callable[[Line], None]) -> None:
    async with rig() as route:
        client, app = await half_down(route)
        end(client)
        await app.rest()
        if end is close:
            app.send(BODY[SIZE // 2 :])  # only now can the client be told from one that has closed its side alone
        await until(lambda: not route.listener.connections, "the end of the client's connection")
        assert not route.splices.open
        assert route.ledger.idle


async def test_a_client_that_vanishes_while_it_is_full_takes_the_apps_work_with_it() -> None:
    async with rig() as route:
        client, app = await route.download()
        app.send(WHOLE + BODY)
        await until(lambda: route.awaiting_target, "a client that is full")
        client.reset()
        await app.rest()
        await route.all_ended((200, False))


@ENDS
async def test_a_client_that_leaves_an_upload_leaves_an_app_that_notices(end: Callable[[Line], None]) -> None:
    async with rig() as route:
        client, app = await half_up(route)
        client.send(BODY[SIZE // 2 : SIZE // 2 + 1000])
        end(client)
        assert len(await app.rest()) <= 1000
        await until(lambda: len(route.noting.ended) == 1, "the end of the exchange")
        assert route.noting.ended[0][1] is False
        assert not route.splices.open


async def test_an_app_that_breaks_in_an_upload_is_answered_502() -> None:
    async with rig() as route:
        client, app = await half_up(route)
        app.reset()
        client.send(BODY[SIZE // 2 :])
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        await route.all_ended((502, False))


@pytest.mark.parametrize("reads_it", [True, False])
async def test_an_answer_before_the_upload_is_complete_reaches_the_client(reads_it: bool) -> None:
    """The app answers and closes, with bytes unread or not: a reset that must not overtake the answer."""
    for _ in range(20):
        async with rig() as route:
            client, app = await (half_up if reads_it else Rig.upload)(route)
            client.send(BODY[SIZE // 2 :] if reads_it else BODY)
            if not reads_it:
                await until(lambda: route.awaiting_target, "an app that is full")
            app.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")
            app.close()
            assert (await client.head()).startswith(b"HTTP/1.1 413 ")
            assert await client.read(4) == b"nope"
            await route.all_ended((413, True))


@pytest.mark.parametrize("begin", [half_down, half_up])
async def test_the_end_of_the_drain_cuts_what_passes_unread(begin: Callable[[Rig], Any]) -> None:
    async with rig() as route:
        client, app = await begin(route)
        route.listener.enter(Phase.FORCING)
        assert not route.splices.open
        rest = await client.rest()
        assert rest == b"" if begin is half_down else rest.startswith(b"HTTP/1.1 503 ")
        await app.rest()
        await route.all_ended((200, False) if begin is half_down else (503, False))


@pytest.mark.parametrize("begin", [half_down, half_up])
async def test_a_body_that_stalls_is_cut_and_one_that_moves_is_not(begin: Callable[[Rig], Any]) -> None:
    limit_s = 1000.0
    async with rig(stream_idle_timeout="1000s") as route:
        client, app = await begin(route)
        source, target = (app, client) if begin is half_down else (client, app)
        [connection] = route.listener.connections
        now = asyncio.get_running_loop().time()
        for at in range(SIZE // 2, SIZE // 2 + 3):
            source.send(BODY[at : at + 1])
            assert await target.read(1) == BODY[at : at + 1]
            now += limit_s + 1
            connection.waits.alarm(now)
            assert not route.noting.ended
        connection.waits.alarm(now + limit_s + 1)
        rest = await client.rest()
        assert rest == b"" if begin is half_down else rest.startswith(b"HTTP/1.1 408 ")
        await route.all_ended((200, False) if begin is half_down else (408, False))


async def test_no_descriptor_is_left_behind() -> None:
    async with rig():
        pass
    before = open_files()
    for begin in (half_down, half_up):
        for end, who in ((reset, 0), (reset, 1), (close, 1)):
            async with rig() as route:
                end((await begin(route))[who])
                await until(lambda: not route.splices.open, "the end")
            async with rig() as route:
                await begin(route)  # and the listener closes
    assert open_files() == before
