"""Does anything grow while all protocols are at work for long? `python -m tests.search.soak [--minutes N]`.

The clients of the random drains, those that misbehave included, keep one process busy. Once a minute its memory and
open files are told; at the end nothing may be in flight or connected, and nothing may have been logged as a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.search.app import App
from tests.search.clients import Load, Saw, http1, http2, tcp, web_socket
from tests.search.watched import Watched, watched

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = (*(http1,) * 6, *(http2,) * 2, *(web_socket,) * 2, tcp)
FINE = frozenset({Saw.ANSWERED, Saw.LEFT, Saw.RETRIABLE})


class Soak:
    """One drainproxy under steady load."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    async def run(self, minutes: float, tell: Callable[[str], None]) -> None:
        app = App(keep_alive_s=60)
        await app.start()
        try:
            async with watched(app.port, upstream_idle="2s") as proxy:
                self.failures = proxy.failures
                load = Load(proxy.address, asyncio.Event())
                clients = [asyncio.create_task(kind(load, Random(at), f"s{at}")) for at, kind in enumerate(CLIENTS)]
                await self._watch(proxy, load, minutes, tell)
                load.stop.set()
                await asyncio.wait(clients, timeout=30)
                await proxy.settle()
        finally:
            await app.stop()

    async def _watch(self, proxy: Watched, load: Load, minutes: float, tell: Callable[[str], None]) -> None:
        until = time.monotonic() + 60 * minutes
        seen: Counter[Saw] = Counter()
        while time.monotonic() < until:
            await asyncio.sleep(min(60.0, max(0.0, until - time.monotonic())))
            ended = [record for record in load.records if record.ended_at]
            load.records[:] = [record for record in load.records if not record.ended_at]
            seen.update(record.saw for record in ended)
            self.failures += [f"{each.name}: {each.saw.value} {each.detail}" for each in ended if each.saw not in FINE]
            counts = ", ".join(f"{count} {saw.name.lower()}" for saw, count in seen.most_common())
            tell(f"{proxy.resident_kib} KiB resident, {proxy.open_files} open files; requests: {counts}")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.search.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    soak = Soak()
    asyncio.run(soak.run(parser.parse_args().minutes, lambda line: print(line, flush=True)))
    for failure in soak.failures[:20]:
        print(f"  * {failure}")
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
