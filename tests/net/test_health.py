"""Is an app that is busy told from one that is gone?"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from drainproxy.config.loading import load
from drainproxy.config.values import parse_address
from drainproxy.net.health import Health, HealthMonitor
from drainproxy.net.resolve import Resolver
from tests.support.asyncio_server import serving

if TYPE_CHECKING:
    import pytest


async def looks_at(app: socket.socket, seen: asyncio.Queue[Health]) -> None:
    """Looks at the app's port, one after the other, until cancelled."""
    upstream = f"127.0.0.1:{app.getsockname()[1]}"
    options = {"upstream": upstream, "ready-timeout": "50ms", "ready-interval": "10ms", "ready-failures": "2"}
    config = load(options, {}, {})
    await HealthMonitor(config.routes[0], config).run(seen.put_nowait)


async def test_an_app_whose_accept_queue_is_full_is_unready_after_some_failures_but_never_gone() -> None:
    seen: asyncio.Queue[Health] = asyncio.Queue()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as app:  # nobody accepts: looks fill the queue
        looking = asyncio.create_task(looks_at(app, seen))
        async with asyncio.timeout(5):
            while not (await seen.get()).healthy:
                pass
            while (last := await seen.get()).healthy:
                pass
            assert last.reachable
            assert "in time" in last.reason
            app.close()
            while (last := await seen.get()).reachable:
                pass
            assert not last.healthy
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_a_name_that_does_not_resolve_for_a_while_is_no_app_that_went_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: asyncio.Queue[Health] = asyncio.Queue()
    failing = False

    async def hosts(_: Resolver) -> list[str]:
        if failing:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return ["127.0.0.1"]

    monkeypatch.setattr(Resolver, "hosts", hosts)
    with socket.create_server(("127.0.0.1", 0)) as app:
        looking = asyncio.create_task(looks_at(app, seen))
        async with asyncio.timeout(5):
            while not (await seen.get()).healthy:
                pass
            failing = True
            while (last := await seen.get()).healthy:
                pass
            assert last.reachable
            assert "Temporary failure" in last.reason
            failing = False
            while not (await seen.get()).healthy:
                pass
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_a_look_that_fails_in_an_unknown_way_is_reported_and_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: asyncio.Queue[Health] = asyncio.Queue()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    async def hosts(_: Resolver) -> list[str]:
        if len(failures) < 2:
            raise LookupError("a bug")
        return ["127.0.0.1"]

    monkeypatch.setattr(Resolver, "hosts", hosts)
    with socket.create_server(("127.0.0.1", 0)) as app:
        looking = asyncio.create_task(looks_at(app, seen))
        async with asyncio.timeout(5):
            while not (await seen.get()).healthy:
                pass
        assert [type(failure) for failure in failures] == [LookupError] * 2
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_a_look_at_the_process_before_says_nothing_of_the_one_that_took_over() -> None:
    looked, changed = asyncio.Event(), asyncio.Event()
    seen: asyncio.Queue[Health] = asyncio.Queue()

    async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        looked.set()
        await changed.wait()
        writer.close()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # a look that was called off before it had asked
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.read()
        writer.close()

    async with serving(fails) as before, serving(answers) as after, asyncio.timeout(5):
        here, there = (f"127.0.0.1:{port}" for port in (before, after))
        config = load({"upstream": here, "ready-path": "/", "ready-interval": "10ms"}, {}, {})
        monitor = HealthMonitor(config.routes[0], config)
        looking = asyncio.create_task(monitor.run(seen.put_nowait))
        await looked.wait()
        monitor.retarget(parse_address(there))
        changed.set()
        assert (await seen.get()).healthy
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
