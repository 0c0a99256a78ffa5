"""Does the memory of a crowd go back when it has left? `python -m tests.search.crowd [--clients N] [--crowds N]`.

Clients connect, get an answer each, stay, and leave all at once; then the next crowd comes. The process may not grow
from one crowd to the next.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
from typing import TYPE_CHECKING

from drainproxy.process.memory import LOOK_S
from tests.search.app import App
from tests.search.watched import Watched, watched

if TYPE_CHECKING:
    from collections.abc import Callable

GROWTH_KIB = 3 << 10
"""From the second crowd on, at most: the first one makes what the next ones use again."""
AT_A_TIME = 50
SPARE_FILES = 100


async def crowds(clients: int, times: int, tell: Callable[[str], None]) -> list[str]:
    """What was found wrong. Raises ValueError if the limit of open files is too low."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if clients > most - SPARE_FILES:
        raise ValueError(f"at most {most - SPARE_FILES} clients, by the limit of open files")
    app = App(keep_alive_s=60)
    await app.start()
    try:
        async with watched(app.port, upstream_idle="2s") as proxy:
            tell(f"idle: {proxy.resident_kib} KiB")
            after: list[int] = []
            for _ in range(times):
                await _crowd(proxy, clients, tell)
                await proxy.settle()
                await asyncio.sleep(LOOK_S + 1)
                after.append(proxy.resident_kib)
                tell(f"they have left: {after[-1]} KiB")
            if after[-1] - after[0] > GROWTH_KIB * (times - 1):
                proxy.failures.append(f"it has grown from crowd to crowd: {after} KiB")
        return proxy.failures
    finally:
        await app.stop()


async def _crowd(proxy: Watched, clients: int, tell: Callable[[str], None]) -> None:
    """All of them at once, each with one answer."""
    writers: list[asyncio.StreamWriter] = []
    while len(writers) < clients:
        writers += await asyncio.gather(*(_client(proxy) for _ in range(min(AT_A_TIME, clients - len(writers)))))
    tell(f"{clients} clients: {proxy.resident_kib} KiB")
    for writer in writers:
        writer.close()


async def _client(proxy: Watched) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(*proxy.address)
    writer.write(b"GET /crowd?delay=0&size=10&parts=1&chunked=0 HTTP/1.1\r\nHost: app\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return writer


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.search.crowd", description=__doc__)
    parser.add_argument("--clients", type=int, default=3000)
    parser.add_argument("--crowds", type=int, default=3)
    asked = parser.parse_args()
    failures = asyncio.run(crowds(asked.clients, asked.crowds, lambda line: print(line, flush=True)))
    for failure in failures:
        print(f"  * {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
