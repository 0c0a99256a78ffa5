"""WebSockets with the clients that people use: what is said passes, and a drain ends it with 1001 on both sides."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from tests.support.apps import free_port, need, running
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = Path(__file__).parent
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20)


@dataclass
class App:
    """A WebSocket app. `ends`: how its connections ended, `CODE who closed first` each."""

    address: str
    record: Path

    @property
    def ends(self) -> list[str]:
        return self.record.read_text(encoding="ascii").splitlines() if self.record.exists() else []


@contextmanager
def ws_app(folder: Path, *options: str) -> Iterator[App]:
    port = free_port()
    record = folder / "ends"
    with running([sys.executable, str(HERE / "ws_app.py"), str(port), str(record), *options], port):
        yield App(f"127.0.0.1:{port}", record)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with ws_app(tmp_path, "deflate") as app:
        yield app


@pytest.fixture
def ws(app: App) -> Iterator[Proxy]:
    """A ready proxy of the test's own in front of the WebSocket app."""
    with serve(app.address) as proxy:
        yield proxy.await_ready()


def ws_url(proxy: Proxy) -> str:
    return "ws://{}:{}/".format(*proxy.address)


async def until_drained(proxy: Proxy) -> None:
    answer = await asyncio.to_thread(proxy.ask, "/drain")
    assert answer.status == 200, answer.body


async def in_flight(proxy: Proxy, count: int) -> None:
    await asyncio.to_thread(wait_for, lambda: proxy.status()["in_flight"]["websocket"] == count, f"{count} tunnels")


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_of_all_lengths_come_back(ws: Proxy, compression: str | None) -> None:
    async with websockets.connect(ws_url(ws), compression=compression, max_size=None) as client:
        for size in SIZES:
            for message in ("x" * size, bytes(size)):
                await client.send(message)
                assert await client.recv() == message


async def test_fragments_pass_with_pings_between(ws: Proxy) -> None:
    async with websockets.connect(ws_url(ws)) as client:

        async def pieces() -> AsyncIterator[str]:
            for piece in ("a", "b", "c"):
                yield piece
                await client.ping()

        await client.send(pieces())
        assert await client.recv() == "abc"
        await client.send("fragments")
        assert [piece async for piece in client.recv_streaming() if piece] == ["one", "two", "three"]
        await (await client.ping())


async def test_the_websockets_library_is_closed_with_1001_and_so_is_the_app(ws: Proxy, app: App) -> None:
    async with websockets.connect(ws_url(ws)) as client:
        await in_flight(ws, 1)
        draining = asyncio.create_task(until_drained(ws))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await draining
    wait_for(lambda: app.ends == ["1001 client"], "the app to see the end")
    assert ws.metric("drainproxy_drain_completed_total", kind="websocket") == 1
    assert ws.metric("drainproxy_drain_aborted_total", kind="websocket", by="us") == 0


async def test_aiohttp_is_closed_with_1001_and_so_is_the_app(ws: Proxy, app: App) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(ws_url(ws)) as client:
        await client.send_str("hello")
        assert await client.receive_str() == "hello"
        draining = asyncio.create_task(until_drained(ws))
        message = await client.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await draining
    wait_for(lambda: app.ends == ["1000 client"], "the app to see the end")  # aiohttp answers any Close with 1000


NODE = """
const socket = new WebSocket(process.argv[1]);
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => console.log(JSON.stringify({data: event.data}));
socket.onclose = (event) => console.log(JSON.stringify({code: event.code, clean: event.wasClean}));
"""


def test_node_is_closed_with_1001_and_so_is_the_app(ws: Proxy, app: App) -> None:
    node = need("node", "nodejs")
    command = [node, "--no-warnings", "--experimental-websocket", "-e", NODE, ws_url(ws)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            _, complaint = process.communicate()
            if "WebSocket is not defined" in complaint or "bad option" in complaint:
                pytest.skip("this node has no WebSocket client (20.10 or newer has one)")
            raise AssertionError(complaint)
        assert json.loads(first) == {"data": "hello"}
        assert ws.ask("/drain").status == 200
        assert json.loads(process.stdout.readline()) == {"code": 1001, "clean": True}
        process.wait(10)
    wait_for(lambda: app.ends == ["1001 client"], "the app to see the end")


PAGE = """<!doctype html><title>t</title><body><script>
const socket = new WebSocket("%s");
socket.onopen = () => { socket.send("hello"); };
socket.onclose = (event) => { fetch("%s/end-" + event.code + "-" + event.wasClean, {mode: "no-cors"}); };
</script>"""


def test_chromium_is_closed_with_1001_and_so_is_the_app(ws: Proxy, app: App, tmp_path: Path) -> None:
    from tests.support.scripted import Peer, upstream  # noqa: PLC0415 - only here

    chromium = need("chromium", "chromium")
    heard: list[bytes] = []

    def listen(peer: Peer) -> None:
        while request := peer.request():
            heard.append(request.split()[1])
            peer.ok()

    with upstream(listen) as ear:
        page = tmp_path / "page.html"
        page.write_text(PAGE % (ws_url(ws), f"http://{ear}"), encoding="utf-8")
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
            f"--user-data-dir={tmp_path}/profile", page.as_uri(),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                wait_for(lambda: ws.status()["in_flight"]["websocket"] == 1, "the browser's WebSocket", 40)
                assert ws.ask("/drain").status == 200
                wait_for(lambda: heard, "the browser's report")
            finally:
                browser.terminate()
    assert heard[0] == b"/end-1001-true"
    wait_for(lambda: app.ends == ["1001 client"], "the app to see the end")


async def test_closes_are_spread(app: App) -> None:
    with serve(app.address, close_spread="2s", quiet_limit="4s") as proxy:
        proxy.await_ready()
        clients = [await websockets.connect(ws_url(proxy)) for _ in range(10)]
        await in_flight(proxy, 10)
        draining = asyncio.create_task(until_drained(proxy))
        times = []
        for closing in asyncio.as_completed([client.wait_closed() for client in clients]):
            await closing
            times.append(time.monotonic())
        await draining
        assert {client.close_code for client in clients} == {1001}
        assert 1.0 < times[-1] - times[0] < 2.5
        assert max(later - sooner for sooner, later in itertools.pairwise(times)) < 1.0


async def test_wait_leaves_them_alone_until_the_deadline(app: App) -> None:
    with serve(app.address, websocket_drain="wait", drain_timeout="2s", quiet_limit="500ms") as proxy:
        proxy.await_ready()
        async with websockets.connect(ws_url(proxy)) as client:
            await in_flight(proxy, 1)
            draining = asyncio.create_task(asyncio.to_thread(proxy.ask, "/drain"))
            await asyncio.to_thread(wait_for, lambda: proxy.status()["phase"] == "finishing", "the floor")
            await client.send("still there")
            assert await client.recv() == "still there"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            assert (await draining).status == 504
        assert proxy.metric("drainproxy_drain_aborted_total", kind="websocket", by="us") == 1


async def test_who_connects_late_is_served_and_asked_to_go(ws: Proxy, app: App) -> None:
    await until_drained(ws)
    async with websockets.connect(ws_url(ws)) as client:
        await client.send("late")
        assert await client.recv() == "late"
        await client.wait_closed()
        assert client.close_code == 1001
    await asyncio.to_thread(wait_for, lambda: app.ends == ["1001 client"], "the app's side to close")


async def test_a_client_that_does_not_answer_is_cut_at_the_deadline(app: App) -> None:
    with serve(app.address, drain_timeout="1s", quiet_limit="500ms") as proxy:
        host, port = proxy.await_ready().address
        reader, writer = await asyncio.open_connection(host, port)
        key = b"dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        answer = await asyncio.to_thread(proxy.ask, "/drain")
        assert answer.status == 504
        said = await reader.read()
        assert said[:4] == bytes((0x88, len(said) - 2, 0x03, 0xE9))
        assert said.count(b"\x03\xe9") == 1
        writer.close()
