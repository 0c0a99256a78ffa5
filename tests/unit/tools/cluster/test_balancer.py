"""How does the demo's Service spread connections? What kube-proxy promises, over plain TCP."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.cluster.balancer import Balancer, reset
from drainproxy.tools.cluster.endpoints import Endpoint
from tests.support.asyncio_server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Start = Callable[[str], Awaitable[Endpoint]]


@pytest.fixture
async def backend() -> AsyncIterator[Start]:
    """Start a named server that answers every line with its name; `die` resets, `bye` closes."""
    servers = contextlib.AsyncExitStack()

    async def start(name: str) -> Endpoint:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    if line == b"die\n":
                        reset(writer)
                        return
                    if line == b"bye\n":
                        break
                    writer.write(name.encode() + b"\n")
                if not line:
                    writer.write(b"end seen\n")
            writer.close()

        port = await servers.enter_async_context(serving(serve))
        return Endpoint(name, "127.0.0.1", port, True, False)

    async with servers:
        yield start


@pytest.fixture
async def balancer() -> AsyncIterator[Balancer]:
    balancer = Balancer(random.Random(5))
    yield balancer
    await balancer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes = b"who\n") -> bytes:
    writer.write(line)
    return await asyncio.wait_for(reader.readline(), 5)


async def test_new_connections_are_spread_over_all_endpoints(balancer: Balancer, backend: Start) -> None:
    balancer.learner("node")((await backend("a"), await backend("b")))
    port = await balancer.start("127.0.0.1")
    seen = set()
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen.add(await ask(reader, writer))
        writer.close()
    assert seen == {b"a\n", b"b\n"}


async def test_established_connections_stay_when_the_endpoints_change(balancer: Balancer, backend: Start) -> None:
    learn = balancer.learner("node")
    learn((await backend("old"),))
    port = await balancer.start("127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(reader, writer) == b"old\n"
    learn((await backend("new"),))
    assert await ask(reader, writer) == b"old\n"
    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(other_reader, other_writer) == b"new\n"
    writer.close()
    other_writer.close()


async def test_each_node_has_its_own_view(balancer: Balancer, backend: Start) -> None:
    balancer.learner("node-1")((await backend("a"),))
    balancer.learner("node-2")((await backend("b"),))
    port = await balancer.start("127.0.0.1")
    seen = set()
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen.add(await ask(reader, writer))
        writer.close()
    assert seen == {b"a\n", b"b\n"}


@pytest.mark.parametrize("endpoints", [(), (Endpoint("gone", "127.0.0.1", 1, True, False),)], ids=["none", "closed"])
async def test_nobody_behind_it_is_a_reset(balancer: Balancer, endpoints: tuple[Endpoint, ...]) -> None:
    balancer.learner("node")(endpoints)
    reader, writer = await asyncio.open_connection("127.0.0.1", await balancer.start("127.0.0.1"))
    with pytest.raises(ConnectionResetError):
        await ask(reader, writer)
    writer.close()


async def test_a_reset_and_a_close_reach_the_client_as_what_they_are(balancer: Balancer, backend: Start) -> None:
    balancer.learner("node")((await backend("a"),))
    port = await balancer.start("127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(reader, writer, b"bye\n") == b""
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await ask(reader, writer, b"die\n")
    writer.close()


async def test_a_clients_half_close_is_passed_on(balancer: Balancer, backend: Start) -> None:
    balancer.learner("node")((await backend("a"),))
    reader, writer = await asyncio.open_connection("127.0.0.1", await balancer.start("127.0.0.1"))
    writer.write_eof()
    assert await asyncio.wait_for(reader.readline(), 5) == b"end seen\n"
    writer.close()
