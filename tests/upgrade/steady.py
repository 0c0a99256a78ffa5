"""Does anybody notice many upgrades, or restarts, in a row? `python -m tests.upgrade.steady [--rounds N] [WAY…]`.

Clients of all protocols keep a proxy busy while it is replaced again and again, or its app is. Each request has an
answer of its own, so a wrong one is seen. At the end it is told what they saw, how long new connections waited for an
answer during a switch and besides, and what the last process holds against the first.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import httpx
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.search.app import App, Ask
from tests.search.clients import Load, Saw, ended, http1, http2, web_socket
from tests.support.apps import free_port
from tests.support.certificates import certificate
from tests.support.proxy import Proxy, run_around, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CLIENTS = (*(http1,) * 4, *(http2,) * 2, *(web_socket,) * 2)
FINE = frozenset({Saw.ANSWERED, Saw.LEFT, Saw.RETRIABLE})
"""RETRIABLE: a connection that was used before ended without a byte of the answer, or said that it would end."""
PACE_S = 0.02
WARM_S = 2.0
PATIENCE_S = 60.0
APP = [sys.executable, "-m", "tests.upgrade.app"]


@dataclass
class Report:
    """What was seen."""

    way: str
    rounds: int = 0
    seen: Counter[Saw] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waited: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """Seconds until a new connection had its answer; True: during a switch."""
    held: list[tuple[int, int]] = field(default_factory=list)
    """Resident KiB and open files: of the first and of the last process, after the same load."""

    def lines(self) -> list[str]:
        """For people."""
        seen = ", ".join(f"{count} {saw.name.lower()}" for saw, count in self.seen.most_common())
        during, else_ = (_p99_ms(self.waited[switch]) for switch in (True, False))
        (first_kib, first_files), (last_kib, last_files) = self.held
        return [
            f"{self.way}: {self.rounds} in a row: {seen}; {len(self.failures)} lost",
            f"  new connections, p99 until the answer: {during} during a switch, {else_} otherwise",
            f"  first and last process: {first_kib} and {last_kib} KiB resident, {first_files} and {last_files} files",
            *(f"  * {failure}" for failure in self.failures[:10]),
        ]


def _p99_ms(waited: list[float]) -> str:
    return f"{sorted(waited)[int(len(waited) * 0.99)] * 1000:.0f} ms of {len(waited)}" if waited else "none"


class Steady:
    """A proxy under load, and what its clients see."""

    def __init__(self, proxy: Proxy, report: Report, *, tls: ssl.SSLContext | None = None, grpc_port: int = 0) -> None:
        self._proxy = proxy
        self._report = report
        self._tls = tls
        self._grpc_port = grpc_port
        self._switching = False
        self._load = Load(proxy.address, asyncio.Event())

    async def run(self, replace: Callable[[int], None], rounds: int) -> None:
        """`replace` is called in a thread, with the number of the round, and returns when it is through."""
        clients = [asyncio.create_task(client) for client in self._clients()]
        await asyncio.sleep(WARM_S)
        await self._note_what_is_held()
        for number in range(1, rounds + 1):
            self._switching = True
            await asyncio.to_thread(replace, number)
            self._switching = False
            self._report.rounds = number
            await asyncio.sleep(0.2)
        await asyncio.sleep(WARM_S)
        await self._note_what_is_held()
        self._load.stop.set()
        await asyncio.wait(clients, timeout=PATIENCE_S)
        for client in clients:
            client.cancel()
            with suppress(asyncio.CancelledError):
                await client  # what a client could not carry on with is a failure of the run
        records = self._load.records
        self._report.seen.update(record.saw for record in records)
        self._report.failures += [
            f"{each.kind} {each.name}: {each.saw.value} {each.detail}" for each in records if each.saw not in FINE
        ]

    def _clients(self) -> list[Coroutine[None, None, None]]:
        if self._tls is not None:
            return [self._httpx(self._tls, keep=keep, who=f"tls{keep}") for keep in (True, False)]
        mixed = [kind(self._load, Random(at), f"u{at}") for at, kind in enumerate(CLIENTS)]
        return [*mixed, self._fresh(), *([self._grpc()] if self._grpc_port else [])]

    async def _note_what_is_held(self) -> None:
        pid = int((await asyncio.to_thread(self._proxy.status))["pid"])
        self._report.held.append(_held(pid))

    async def _fresh(self) -> None:
        """One new connection after the other: how long until it has its answer?"""
        number = 0
        while not self._load.stop.is_set():
            number += 1
            ask = Ask(f"fresh{number}")
            record, switching, begun_at = self._load.begin(ask.name, "fresh"), self._switching, time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer = await asyncio.open_connection(*self._load.address)
                    writer.write(f"GET {ask.target} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
                    answer = await reader.read(-1)
                writer.close()
            except (OSError, TimeoutError) as error:
                ended(record, Saw.REFUSED, repr(error))
            else:
                self._report.waited[switching].append(time.monotonic() - begun_at)
                good = answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(ask.body)
                ended(record, Saw.ANSWERED if good else Saw.WRONG, repr(answer[:60]))
            await asyncio.sleep(PACE_S)

    async def _httpx(self, tls: ssl.SSLContext, *, keep: bool, who: str) -> None:
        """HTTPS, on one connection or on a new one for each request."""
        number, limits = 0, httpx.Limits(max_keepalive_connections=None if keep else 0)
        _, port = self._load.address
        async with httpx.AsyncClient(verify=tls, limits=limits, timeout=PATIENCE_S) as client:
            while not self._load.stop.is_set():
                number += 1
                ask = Ask(f"{who}-{number}", size=1000)
                record, switching, begun_at = self._load.begin(ask.name, who), self._switching, time.monotonic()
                try:
                    answer = await client.get(f"https://localhost:{port}{ask.target}")
                except httpx.HTTPError as error:
                    ended(record, Saw.CUT, repr(error))
                else:
                    if not keep:
                        self._report.waited[switching].append(time.monotonic() - begun_at)
                    ended(record, Saw.ANSWERED if answer.content == ask.body else Saw.WRONG, str(answer.status_code))
                await asyncio.sleep(PACE_S)

    async def _grpc(self) -> None:
        """A client that nobody here wrote, on one channel."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._grpc_port}") as channel:
            stub, number = health_pb2_grpc.HealthStub(channel), 0
            while not self._load.stop.is_set():
                number += 1
                record = self._load.begin(f"grpc-{number}", "grpc")
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
                except grpc.aio.AioRpcError as error:
                    ended(record, Saw.CUT, f"{error.code()} {error.details()}")
                else:
                    ended(record, Saw.ANSWERED if answer.status == answer.SERVING else Saw.WRONG)
                await asyncio.sleep(PACE_S)


def _held(pid: int) -> tuple[int, int]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    resident_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return resident_kib, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _upgrade(proxy: Proxy, number: int) -> None:
    answer = proxy.ask("/upgrade", "POST", timeout_s=PATIENCE_S)
    assert answer.status == 200, answer.body
    until = time.monotonic() + PATIENCE_S
    while sum(line.get("msg") == "the generation before has ended its connections" for line in proxy.log) < number:
        assert time.monotonic() < until, "the generation before does not end"
        time.sleep(0.05)


def _restart(proxy: Proxy, _: int) -> None:
    answer = proxy.ask("/restart", "POST", timeout_s=PATIENCE_S)
    assert answer.status == 200, answer.body
    until = time.monotonic() + PATIENCE_S
    while len(proxy.status()["children"]) > 1:
        assert time.monotonic() < until, "the old process does not end"
        time.sleep(0.05)


async def upgrades(rounds: int) -> Report:
    """Of `serve`, with all protocols; gRPC on a route of its own."""
    report, app, rpc = Report("upgrade"), App(keep_alive_s=60), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), rpc)
    rpc_port, front = rpc.add_insecure_port("127.0.0.1:0"), free_port()
    await app.start()
    await rpc.start()
    routes = (f"127.0.0.1:0=127.0.0.1:{app.port}", f"127.0.0.1:{front}=127.0.0.1:{rpc_port}")
    try:
        with serve("", *(word for route in routes for word in ("--route", route))) as proxy:
            await asyncio.to_thread(proxy.await_ready)
            await Steady(proxy, report, grpc_port=front).run(lambda number: _upgrade(proxy, number), rounds)
            proxy.signal(signal.SIGTERM)
            assert await asyncio.to_thread(proxy.wait) == 0
    finally:
        await rpc.stop(None)
        await app.stop()
    return report


async def tls_upgrades(rounds: int) -> Report:
    """Of `serve` that terminates TLS."""
    report, app = Report("upgrade with TLS"), App(keep_alive_s=60)
    await app.start()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        for path, text in zip((cert, key), certificate("steady"), strict=True):
            path.write_bytes(text)
        proxy = stack.enter_context(serve(f"127.0.0.1:{app.port}", tls_cert=str(cert), tls_key=str(key)))
        await asyncio.to_thread(proxy.await_ready)
        tls = ssl.create_default_context(cafile=str(cert))
        await Steady(proxy, report, tls=tls).run(lambda number: _upgrade(proxy, number), rounds)
        proxy.signal(signal.SIGTERM)
        assert await asyncio.to_thread(proxy.wait) == 0
    await app.stop()
    return report


async def restarts(rounds: int, way: str) -> Report:
    """Under `run`; way: overlap or hold."""
    report, port = Report(f"restart, {way}"), free_port()
    command = [*APP, "{port}" if way == "overlap" else str(port)]
    with run_around(command, port, restart_trial="500ms") as proxy:
        await asyncio.to_thread(proxy.await_ready)
        await Steady(proxy, report).run(lambda number: _restart(proxy, number), rounds)
    return report


WAYS: dict[str, Callable[[int], Coroutine[None, None, Report]]] = {
    "upgrade": upgrades,
    "tls": tls_upgrades,
    "overlap": partial(restarts, way="overlap"),
    "hold": partial(restarts, way="hold"),
}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.steady", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("way", nargs="*", help=", ".join(WAYS))
    arguments = parser.parse_args()
    lost = False
    for way in arguments.way or WAYS:
        report = asyncio.run(WAYS[way](arguments.rounds))
        print("\n".join(report.lines()), flush=True)
        lost |= bool(report.failures)
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
