"""A drainproxy at work for long: what does it log as a failure, what does it keep, and does it let everything go?"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTLES_S = 15.0
"""What lingers, closes slowly or waits for a head must be over in this time after everybody has gone."""


class Watched:
    """A process that serves. `failures`: what was found wrong so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.failures: list[str] = []
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._where: dict[str, str] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        host, _, port = self._where["listening"].rpartition(":")
        return host, int(port)

    @property
    def resident_kib(self) -> int:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    @property
    def open_files(self) -> int:
        """File descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def read_log(self) -> None:
        """Until its end."""
        assert self.process.stderr is not None, "it is a pipe"
        async for line in self.process.stderr:
            try:
                said: dict[str, Any] = json.loads(line)
            except ValueError:  # a usage error, or a crash of the interpreter
                self.failures.append(line.decode().strip())
                continue
            if said["level"] == "error" or "where" in said:
                self.failures.append(line.decode().strip())
            if "address" in said:
                self._where[said["msg"]] = said["address"]
            if said["msg"] == "started":
                self.started.set_result(None)
        if not self.started.done():
            self.started.set_exception(RuntimeError(f"it ended before it served: {self.failures}"))

    async def settle(self) -> None:
        """All clients have gone: so must everything that was kept for them."""
        until = time.monotonic() + SETTLES_S
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"http://{self._where['admin listening']}/status") as answer:
                    status = await answer.json()
                counts = status["connections"]
                left = {**status["in_flight"], "client": counts["client"], "upstream_busy": counts["upstream_busy"]}
                if not any(left.values()):
                    return
                if time.monotonic() > until:
                    oldest = status["oldest"][:3]
                    self.failures.append(f"{SETTLES_S} s after everybody had gone: {left} {oldest}")
                    return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def watched(upstream_port: int, **options: str) -> AsyncIterator[Watched]:
    """One that has started; killed at the end."""
    settings = {"upstream": f"127.0.0.1:{upstream_port}", "listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    settings |= {"log-format": "json"} | {name.replace("_", "-"): value for name, value in options.items()}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "serve", *flags), stderr=asyncio.subprocess.PIPE, limit=1 << 20
    )
    found = Watched(process)
    reading = asyncio.create_task(found.read_log())
    try:
        await found.started
        yield found
    finally:
        if process.returncode is not None:
            found.failures.append(f"the process ended with {process.returncode}")
        else:
            process.kill()
        await process.wait()
        await reading
