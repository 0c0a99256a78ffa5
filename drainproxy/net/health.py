"""Is the app there, and is it well? One look after the other, for as long as drainproxy runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.net.resolve import Resolver
from drainproxy.protocol.http1 import parse_response
from drainproxy.protocol.reasons import BadMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.options import Config
    from drainproxy.config.values import Address, Route

FAST_S = 0.1
"""Between two looks until the app has answered."""
WATCH_S = 0.03
"""Between two looks once the app may be stopped: shorter than any app takes to start, so no restart goes unseen."""
MAX_GATE_BYTES = 64
HEALTHY = range(200, 400)
"""As the kubelet takes a probe's status."""


@dataclass(frozen=True, slots=True)
class Health:
    """What one look saw. `reachable`: the app accepts connections; `healthy`: its health check passes."""

    reachable: bool
    healthy: bool
    reason: str


class HealthMonitor:
    """Looks at one upstream. `hurry` makes it look at once and often from then on."""

    def __init__(self, route: Route, config: Config) -> None:
        self.address = address = route.upstream
        """Where it looks."""
        self._resolver = Resolver(address)
        self._path = config.ready_path if route.protocol in ("auto", "http1") else None  # it is asked in HTTP/1
        self._config = config
        self._wake = asyncio.Event()
        self._failures = 0
        self._pace_s = min(FAST_S, config.ready_interval_s)
        self.health = Health(reachable=False, healthy=False, reason=f"no answer from {address} yet")

    def retarget(self, address: Address) -> None:
        """The app is there from now on, and was found well: look on."""
        self.address = address
        self._resolver = Resolver(address)
        self._failures = 0
        self._wake.set()

    def hurry(self) -> None:
        """Look now, and every WATCH_S from now on."""
        self._pace_s = min(WATCH_S, self._config.ready_interval_s)
        self._wake.set()

    def calm(self) -> None:
        """Back to the usual interval once the app has answered."""
        self._pace_s = self._config.ready_interval_s

    async def run(self, tell: Callable[[Health], None]) -> None:
        """Look until cancelled; `tell` what each look saw."""
        while True:
            address, seen = self.address, await self._look()
            if address is not self.address:
                continue  # it is the other process that counts now
            self._failures = 0 if seen.healthy else self._failures + 1
            patient = self.health.healthy and seen.reachable and self._failures < self._config.ready_failures
            self.health = Health(seen.reachable, healthy=True, reason=seen.reason) if patient else seen
            tell(self.health)
            pace_s = self._pace_s if seen.reachable else min(FAST_S, self._pace_s)
            try:
                async with asyncio.timeout(pace_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _look(self) -> Health:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._config.ready_timeout_s):
                reader, writer = await self._connect()
                if self._path is None:
                    return Health(reachable=True, healthy=True, reason="accepts connections")
                return await self._ask(reader, writer, self._path)
        except TimeoutError:
            # A full accept queue drops what comes: the app is busy. Only one that refuses is gone.
            still_there = writer is not None or self.health.reachable
            return Health(still_there, healthy=False, reason=f"{self.address} did not answer in time")
        except OSError as error:
            # Only who refuses is gone. A name that does not resolve, or a route that is away, is no word of the app's.
            refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            still_there = writer is not None or (self.health.reachable and not refused)
            return Health(still_there, healthy=False, reason=f"{self.address}: {error.strerror or error}")
        except Exception as error:
            context = {"message": f"looking at {self.address} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return Health(self.health.reachable, healthy=False, reason=f"{self.address}: {error}")
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.path:
            return await asyncio.open_unix_connection(self.address.path)
        hosts = await self._resolver.hosts()
        for host in hosts[:-1]:
            with suppress(OSError):
                return await asyncio.open_connection(host, self.address.port)
        return await asyncio.open_connection(hosts[-1], self.address.port)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> Health:
        request = f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\nUser-Agent: drainproxy\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        data = b""
        try:
            while (head := parse_response(data, self._config.max_header_size) if data else None) is None:
                more = await reader.read(1 << 16)
                if not more:
                    return Health(
                        reachable=True, healthy=False, reason=f"GET {path}: connection closed without an answer"
                    )
                data += more
        except BadMessage as bad:
            return Health(reachable=True, healthy=False, reason=f"GET {path}: not HTTP ({bad.reason})")
        return Health(reachable=True, healthy=head.status in HEALTHY, reason=f"GET {path} answered {head.status}")


def gate_reason(path: str | None) -> str | None:
    """Why the readiness gate is shut, or None if it is open: FILE exists and, if it is not empty, reads `true`."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_GATE_BYTES).strip()
    except FileNotFoundError:
        return f"gate {path} does not exist"
    except OSError as error:
        return f"gate {path}: {error.strerror}"
    return None if text in (b"", b"true") else f"gate {path} does not contain true"
