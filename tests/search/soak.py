"""Does anything grow while all protocols are at work for long? `python -m tests.search.soak [--minutes N]`.

The clients of the random drains, those that misbehave included, keep one process busy. Once a minute its memory and
open files are told; at the end nothing may be in flight or connected, and nothing may have been logged as a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.search.app import App
from tests.search.case import SETTLES_S
from tests.search.clients import Load, Saw, http1, http2, tcp, web_socket

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
        settings = {"upstream": f"127.0.0.1:{app.port}", "listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        settings |= {"log-format": "json", "upstream-idle": "2s"}
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "serve", *options), stderr=asyncio.subprocess.PIPE, limit=1 << 20
        )
        where: dict[str, str] = {}
        started = asyncio.Event()
        reading = asyncio.create_task(self._read_log(process, where, started))
        try:
            await started.wait()
            host, _, port = where["listening"].rpartition(":")
            load = Load((host, int(port)), asyncio.Event())
            clients = [asyncio.create_task(kind(load, Random(at), f"s{at}")) for at, kind in enumerate(CLIENTS)]
            await self._watch(process.pid, load, minutes, tell)
            load.stop.set()
            await asyncio.wait(clients, timeout=30)
            await self._settled(f"http://{where['admin listening']}")
        finally:
            process.kill()
            await process.wait()
            await reading
            await app.stop()

    async def _watch(self, pid: int, load: Load, minutes: float, tell: Callable[[str], None]) -> None:
        until = time.monotonic() + 60 * minutes
        seen: Counter[Saw] = Counter()
        while time.monotonic() < until:
            await asyncio.sleep(min(60.0, max(0.0, until - time.monotonic())))
            ended = [record for record in load.records if record.ended_at]
            load.records[:] = [record for record in load.records if not record.ended_at]
            seen.update(record.saw for record in ended)
            self.failures += [f"{each.name}: {each.saw.value} {each.detail}" for each in ended if each.saw not in FINE]
            lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()  # noqa: ASYNC240 - no disk behind it
            resident_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))  # noqa: ASYNC240 - no disk behind it
            counts = ", ".join(f"{count} {saw.name.lower()}" for saw, count in seen.most_common())
            tell(f"{resident_kib} KiB resident, {files} open files; requests: {counts}")

    async def _settled(self, admin: str) -> None:
        until = time.monotonic() + SETTLES_S
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{admin}/status") as answer:
                    status = await answer.json()
                left = {**status["in_flight"], "client": status["connections"]["client"]}
                if not any(left.values()):
                    return
                if time.monotonic() > until:
                    self.failures.append(f"{SETTLES_S} s after the last client had gone: {left}")
                    return
                await asyncio.sleep(0.1)

    async def _read_log(
        self, process: asyncio.subprocess.Process, where: dict[str, str], started: asyncio.Event
    ) -> None:
        assert process.stderr is not None, "it is a pipe"
        async for line in process.stderr:
            said: dict[str, Any] = json.loads(line)
            if said["level"] == "error" or "where" in said:
                self.failures.append(line.decode().strip())
            if "address" in said:
                where[said["msg"]] = said["address"]
            if said["msg"] == "started":
                started.set()


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
