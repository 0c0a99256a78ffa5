"""Is an app that is busy told from one that is gone?"""

from __future__ import annotations

import asyncio
import socket

from drainproxy.config.loading import load
from drainproxy.net.health import Health, HealthMonitor


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
