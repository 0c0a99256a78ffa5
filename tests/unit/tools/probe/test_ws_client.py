"""What does a WebSocket client see during a rollout? Echoes, polite closes, lost messages, dead connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import WSMsgType, web

from drainproxy.tools.probe.load import Traffic
from drainproxy.tools.probe.ws_client import WebSocketClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from drainproxy.tools.probe.verdict import Reply

    Serve = Callable[[Callable[[web.WebSocketResponse], Awaitable[None]]], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a WebSocket server with the given behaviour for each connection; returns its address."""
    runners: list[web.AppRunner] = []

    async def start(behave: Callable[[web.WebSocketResponse], Awaitable[None]]) -> str:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            socket.headers["X-Pod"] = "ws-1"
            await socket.prepare(request)
            await behave(socket)
            return socket

        app = web.Application()
        app.router.add_get("/", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"ws://127.0.0.1:{runner.addresses[0][1]}/"

    yield start
    for runner in runners:
        await runner.cleanup()


async def echo(socket: web.WebSocketResponse, times: int = 1000) -> None:
    for _ in range(times):
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            return
        await socket.send_str(message.data)


async def test_an_echo_is_a_success_and_tells_the_pod(serve: Serve) -> None:
    client = WebSocketClient(Traffic(connections=2, fresh=0.5), await serve(echo), text="hello")
    replies = [await client.send(number) for number in range(8)]
    await client.close()
    assert [reply.fault for reply in replies] == [""] * 8
    assert {reply.pod for reply in replies} == {"ws-1"}
    assert sum(reply.reused for reply in replies) == 2


async def test_a_polite_close_between_messages_is_no_failure_and_is_counted(serve: Serve) -> None:
    async def three_then_goodbye(socket: web.WebSocketResponse) -> None:
        await echo(socket, 3)
        await socket.close(code=1001)

    client = WebSocketClient(Traffic(connections=1, fresh=0), await serve(three_then_goodbye))
    replies = []
    for number in range(9):
        replies.append(await client.send(number))
        while sum(client.closes.values()) < (number + 1) // 3:  # noqa: ASYNC110 - the goodbye is on its way
            await asyncio.sleep(0.01)
    await client.close()
    assert [reply.fault for reply in replies] == [""] * 9
    assert client.closes == {1001: 3}


async def test_a_close_instead_of_the_echo_is_a_lost_message_with_its_code(serve: Serve) -> None:
    async def goodbye(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.close(code=1001)

    client = WebSocketClient(Traffic(connections=1, fresh=0), await serve(goodbye))
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "close 1001"


async def test_a_connection_that_dies_is_close_1006(serve: Serve) -> None:
    async def die(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()

    client = WebSocketClient(Traffic(connections=1, fresh=0), await serve(die))
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "close 1006"


async def test_an_idle_connection_that_dies_is_reported_although_no_request_saw_it(serve: Serve) -> None:
    async def one_then_die(socket: web.WebSocketResponse) -> None:
        await echo(socket, 1)
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()

    heard: list[Reply] = []
    died = asyncio.Event()
    client = WebSocketClient(Traffic(connections=1, fresh=0), await serve(one_then_die))

    def hear(reply: Reply) -> None:
        heard.append(reply)
        died.set()

    client.on_loss = hear
    assert (await client.send(0)).fault == ""
    await asyncio.wait_for(died.wait(), 5)
    await client.close()
    assert [reply.fault for reply in heard] == ["close 1006"]


async def test_a_wrong_echo_is_a_failure(serve: Serve) -> None:
    async def babble(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.send_str("something else")
        await socket.receive()

    client = WebSocketClient(Traffic(connections=1, fresh=0), await serve(babble))
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "wrong echo"


async def test_a_refused_upgrade_is_its_status() -> None:
    async def no(_: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/", no)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = WebSocketClient(Traffic(connections=1), f"ws://127.0.0.1:{runner.addresses[0][1]}/")
    reply = await client.send(0)
    await client.close()
    await runner.cleanup()
    assert (reply.fault, reply.status) == ("503", 503)
