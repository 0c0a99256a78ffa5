"""How is traffic made and counted? peers/load runs where clients live, and its samples come back line by line."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from drainproxy.tools.probe.verdict import Reply, Sample, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


class Place(Protocol):
    """Where clients live: what to put in front of a Python program's arguments to start it there."""

    @property
    def name(self) -> str: ...

    def python(self, *arguments: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, behind a command prefix such as `ip netns exec NAME`: it reaches Service addresses from there."""

    prefix: str

    @property
    def name(self) -> str:
        return f"this machine, `{self.prefix}`" if self.prefix else "this machine"

    def python(self, *arguments: str) -> list[str]:
        return [*shlex.split(self.prefix), sys.executable, *arguments]


@dataclass(frozen=True, slots=True)
class InPod:
    """A Pod of the peers' image, in a namespace of its own."""

    kubectl: Kubectl
    pod: str
    name: str = "a Pod in the cluster"

    def python(self, *arguments: str) -> list[str]:
        return self.kubectl.argv("exec", "--stdin", self.pod, "--", "python3", *arguments)


@dataclass(frozen=True, slots=True)
class Kind:
    """What to send. `rate` is requests a second, open loop: each goes out when it is due."""

    name: str
    kind: str
    rate: float
    connections: int
    fresh: float
    paths: tuple[str, ...] = ("/",)
    timeout_s: float = 30.0

    def arguments(self, address: str) -> list[str]:
        numbers = {"rate": self.rate, "connections": self.connections, "fresh": self.fresh, "timeout": self.timeout_s}
        options = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
        return ["-m", "tests.cluster.peers.load", self.kind, address, *options, "--paths", *self.paths]


# Eleven paths in turn, so that each of them meets kept and fresh connections alike.
MIXED = Kind(
    "HTTP/1, kept and new connections, 1 of 6 answers slow",
    "http",
    rate=40,
    connections=8,
    fresh=0.5,
    paths=("/", "/", "/", "/slow?s=2", "/", "/", "/", "/drip?s=2", "/", "/", "/"),
)
QUICK = Kind("HTTP/1, kept and new connections", "http", rate=30, connections=6, fresh=0.5)
GRPC = Kind("gRPC, unary calls", "grpc", rate=30, connections=6, fresh=0.2)
STREAMS = Kind("gRPC, streams of 3 s both ways", "grpc-streams", rate=5, connections=6, fresh=0)
WEBSOCKET = Kind("WebSocket, kept and new connections", "websocket", rate=30, connections=12, fresh=0.2)


REACH = """
import socket, sys, time
host, _, port = sys.argv[1].rpartition(":")
while True:
    try:
        socket.create_connection((host, int(port)), 1).close()
        break
    except OSError:
        time.sleep(0.1)
"""
"""Ends when the address can be connected to."""


async def reachable(place: Place, address: str) -> None:
    """Wait until clients get through to an address that is new. Raises TimeoutError."""
    process = await asyncio.create_subprocess_exec(*place.python("-c", REACH, address))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass
class Flow:
    """Traffic of one kind: all that is over so far. Times of samples count from `started_at`, of `time.monotonic`."""

    kind: Kind
    samples: list[Sample] = field(default_factory=list)
    good: int = 0
    unfinished: int = 0
    closes: dict[str, int] = field(default_factory=dict)
    started_at: float = 0.0
    ended: bool = False
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def more(self, answers: int, within_s: float = PATIENCE_S) -> None:
        """Wait until so many more requests have been answered well."""
        target = self.good + answers
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: self.good >= target or self.ended)
        except TimeoutError:
            raise AssertionError(f"{self.good} of {target} answers within {within_s:g} s: {self.said()}") from None
        assert self.good >= target, "the load ended before its time"

    @property
    def verdict(self) -> Verdict:
        return judge(self.samples, unfinished=self.unfinished)

    @property
    def failed_at(self) -> list[float]:
        """When each failure was seen, of `time.monotonic`."""
        return [self.started_at + sample.end_s for sample in self.samples if sample.failed]

    def said(self) -> list[str]:
        """Every class of failure, in words for an assertion."""
        return [
            f"{each.count} x {each.name} at {each.first_s:.2f}-{each.last_s:.2f} s, {each.reused} on kept connections: "
            f"{each.example}"
            for each in self.verdict.failures
        ]

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            told = json.loads(line)
            async with self._news:
                if sample := told.get("sample"):
                    self._take(Sample(**{**sample, "reply": Reply(**sample["reply"])}))
                else:
                    self.unfinished, self.closes = told["unfinished"], told["closes"]
                self._news.notify_all()
        async with self._news:
            self.ended = True
            self._news.notify_all()

    def _take(self, sample: Sample) -> None:
        if not self.samples:
            self.started_at = time.monotonic() - sample.end_s
        self.samples.append(sample)
        self.good += not sample.failed


@asynccontextmanager
async def traffic(place: Place, kind: Kind, address: str) -> AsyncIterator[Flow]:
    """Steady traffic inside the block; left, every request has ended and is counted."""
    process = await asyncio.create_subprocess_exec(
        *place.python(*kind.arguments(address)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    flow = Flow(kind)
    reading = asyncio.create_task(flow._read(process.stdout), name="samples")
    try:
        yield flow
    finally:
        try:
            process.stdin.close()
            async with asyncio.timeout(kind.timeout_s + PATIENCE_S):
                await reading
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            reading.cancel()
    assert process.returncode == 0, f"the load ended with {process.returncode}: it ran at {place.name}"
