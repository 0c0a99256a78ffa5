"""Does this drain keep every promise? One random case: drawn from a seed, played with a real process, judged.

The judge knows three moments: the trigger, `told` (from then on the app may be stopped, and is), and the process's end.
What was sent before `told` must be answered, unless the summary says that the deadline cut it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from drainproxy.config.values import parse_duration
from tests.search.app import App
from tests.search.clients import Load, Record, Saw, ended, http1, http2, tcp, web_socket

SLACK_S = 1.5
"""What a busy machine may be late."""
SIBLINGS = 0.4
"""Share of the cases in which another replica answers what comes late."""
SETTLES_S = 6.0
"""Within this time after the last client has gone, nothing is in flight and nobody is connected (2 s of lingering)."""


@dataclass
class Facts:
    """What happened to the process. Times are the loop's."""

    triggered_at: float = 0.0
    told_at: float = float("inf")
    over_at: float = 0.0
    """The last drain had ended."""
    let_go_s: float | None = None
    """Siblings had answered, so the app was told to stop before that."""
    terminated_at: float | None = None
    hurried: bool = False
    frozen_s: float = 0.0
    back_at: float = 0.0
    """When the app was back after a crash."""
    called_off: bool = False
    exited_at: float = 0.0
    exit_code: int | None = None
    summaries: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def options(rng: Random) -> dict[str, str]:
    """Options of `serve`, at random."""
    return {
        "grace-period": "8s",
        "app-stop-time": "1s",
        "drain-timeout": rng.choice(("6s", "6s", "3s", "2s")),
        "propagation-delay": rng.choice(("0s", "200ms", "800ms")),
        "quiet-period": rng.choice(("50ms", "200ms", "500ms")),
        "quiet-limit": rng.choice(("200ms", "1s")),
        "close-spread": rng.choice(("0s", "300ms", "2s")),
        "websocket-drain": rng.choice(("close", "close", "wait")),
        "readiness-on-drain": rng.choice(("fail", "hold")),
        "upstream-idle": rng.choice(("100ms", "2s")),
        "idle-timeout": rng.choice(("1s", "75s")),
        "header-timeout": rng.choice(("500ms", "10s")),
        "connect-wait": "1s",
        "max-connections": rng.choice(("10000", "10000", "12")),
        "resume-after": "never",
        "log-format": "json",
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
    }


class Sibling:
    """Another replica of the same workload: an app of its own, and its drainproxy, which is ready throughout."""

    def __init__(self, options: dict[str, str]) -> None:
        self.app = App(keep_alive_s=60.0)
        self._options = {**options, "max-connections": "10000", "successor": "127.0.0.1:1"}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[bytes] | None = None

    async def start(self) -> str:
        """Where it listens, once it is ready."""
        await self.app.start()
        flags = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "serve", "--upstream", f"127.0.0.1:{self.app.port}", *flags),
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert self._process.stderr is not None, "it is a pipe"
        address = ""
        async for line in self._process.stderr:
            said = json.loads(line)
            address = said["address"] if said["msg"] == "listening" else address
            if said.get("state") == "ready":
                break
        self._reading = asyncio.create_task(self._process.stderr.read())
        return address

    async def stop(self) -> None:
        """Its end."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading
        await self.app.stop()


class Case:
    """One case from its seed to the list of promises that were broken."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.options = options(self.rng)
        self.app = App(keep_alive_s=parse_duration(self.options["upstream-idle"]) + self.rng.choice((0.5, 60.0)))
        self.sibling = Sibling(self.options) if Random(f"a sibling, {seed}").random() < SIBLINGS else None
        self.facts = Facts()
        self.records: list[Record] = []
        self._summary = asyncio.Event()
        self._log: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def now(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    async def play(self) -> list[str]:
        """The broken promises."""
        await self.app.start()
        if self.sibling is not None:
            self.options["successor"] = await self.sibling.start()
        flags = [word for name, value in self.options.items() for word in (f"--{name}", value)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "serve", "--upstream", f"127.0.0.1:{self.app.port}", *flags),
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        reading = asyncio.create_task(self._read_log(process))
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as session:
                await self._story(process, session)
        except TimeoutError:
            self.facts.errors.append("the case did not end within a minute")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading
            await self.app.stop()
            if self.sibling is not None:
                await self.sibling.stop()
        return self._judge()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None, "it is a pipe"
        async for line in process.stderr:
            try:
                said = json.loads(line)
            except ValueError:
                self.facts.errors.append(f"not a log line: {line.decode()!r}")
                continue
            if said["level"] == "error" or "where" in said:
                self.facts.errors.append(f"logged: {line.decode().strip()}")
            if said["msg"] == "drain finished":
                self.facts.summaries.append(said)
                self.facts.over_at, self.facts.let_go_s = self.now(), said["let_go_s"]
                self._summary.set()
            seen = self._logged(said["msg"])
            if not seen.done():
                seen.set_result(said)

    def _logged(self, message: str) -> asyncio.Future[dict[str, Any]]:
        return self._log.setdefault(message, asyncio.get_running_loop().create_future())

    async def _story(self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession) -> None:
        rng = self.rng
        host, _, port = (await self._logged("listening"))["address"].rpartition(":")
        admin = f"http://{(await self._logged('admin listening'))['address']}"
        await self._until_ready(session, admin)
        load = Load((host, int(port)), asyncio.Event(), self.records)
        kinds = (*(http1,) * rng.randint(1, 6), *(http2,) * rng.randint(0, 3), *(web_socket,) * rng.randint(0, 3))
        kinds = (*kinds, *(tcp,) * rng.randint(0, 3))
        clients = [
            asyncio.create_task(kind(load, Random(rng.random()), f"c{at}-{kind.__name__}"))
            for at, kind in enumerate(kinds)
        ]
        try:
            await asyncio.sleep(rng.uniform(0.05, 0.5))
            await self._prelude(process, session, admin)
            await self._drain(process, session, admin, load)
            load.stop.set()
            await asyncio.wait(clients, timeout=30)
            if process.returncode is None and self.facts.terminated_at is None:
                await self._settle(session, admin)
            await self._end(process)
        finally:
            load.stop.set()
            for client in clients:
                client.cancel()
            for result in await asyncio.gather(*clients, return_exceptions=True):
                if isinstance(result, Exception):
                    self.facts.errors.append(f"a client of the search failed: {result!r}")

    async def _until_ready(self, session: aiohttp.ClientSession, admin: str) -> None:
        while (await self._ask(session, "GET", f"{admin}/readyz"))[0] != 200:  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.02)

    async def _ask(self, session: aiohttp.ClientSession, method: str, url: str) -> tuple[int, str]:
        async with session.request(method, url) as answer:
            return answer.status, await answer.text()

    async def _prelude(self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession, admin: str) -> None:
        """What may come before the drain that ends it all."""
        rng, facts = self.rng, self.facts
        if rng.random() < 0.3:
            facts.steps.append("drain and resume")
            facts.called_off = True
            drain = asyncio.create_task(self._ask(session, "POST", f"{admin}/drain"))
            await asyncio.sleep(rng.uniform(0.0, 1.5))
            await self._ask(session, "POST", f"{admin}/resume")
            await drain
            await asyncio.sleep(rng.uniform(0.0, 0.5))
        if rng.random() < 0.15:
            facts.steps.append("the app crashes and is back")
            await self.app.stop()
            await asyncio.sleep(rng.uniform(0.0, 0.4))
            await self.app.start()
            facts.back_at = self.now()
            await asyncio.sleep(0.3)

    async def _drain(
        self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession, admin: str, load: Load
    ) -> None:
        """Trigger, until the app has been stopped."""
        rng, facts = self.rng, self.facts
        self._summary.clear()
        facts.triggered_at = self.now()
        by_hook = rng.random() < 0.7
        drains: list[asyncio.Task[tuple[int, str]]] = []
        others: list[asyncio.Task[None]] = []
        if rng.random() < 0.8:  # else traffic goes on to the end
            asyncio.get_running_loop().call_later(rng.uniform(0.0, 2.0), load.stop.set)
        if by_hook:
            drains.append(asyncio.create_task(self._ask(session, rng.choice(("GET", "POST")), f"{admin}/drain")))
        else:
            self._signal(process, signal.SIGTERM)
        for what, chance in ((self._drain_again, 0.3), (self._term, 0.3), (self._hurry, 0.1), (self._freeze, 0.1)):
            if rng.random() < chance:
                others.append(asyncio.create_task(what(process, session, admin, rng.uniform(0.0, 2.0))))
        if by_hook:
            status, said = await drains[0]
            summary = json.loads(said)
        else:
            await self._summary.wait()
            status, summary = 200, facts.summaries[-1] if facts.summaries else {}
        facts.told_at = self.now()
        facts.steps.append(f"told {status}: {json.dumps(summary)}")
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await self.app.stop()
        await asyncio.sleep(rng.uniform(0.0, 0.3))

    def _signal(self, process: asyncio.subprocess.Process, number: int) -> None:
        if process.returncode is None:
            self.facts.steps.append(f"{signal.Signals(number).name} at {self.now() - self.facts.triggered_at:.3f}")
            process.send_signal(number)
            if number == signal.SIGTERM and self.facts.terminated_at is None:
                self.facts.terminated_at = self.now()

    async def _drain_again(self, _: Any, session: aiohttp.ClientSession, admin: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with suppress(aiohttp.ClientError):
            await self._ask(session, "POST", f"{admin}/drain")

    async def _term(self, process: asyncio.subprocess.Process, _: Any, __: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._signal(process, signal.SIGTERM)

    async def _hurry(self, process: asyncio.subprocess.Process, _: Any, __: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.facts.hurried = True
        self._signal(process, signal.SIGINT)
        if self.facts.terminated_at is None:
            self.facts.terminated_at = self.now()

    async def _freeze(self, process: asyncio.subprocess.Process, _: Any, __: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        frozen_s = self.rng.choice((0.3, 1.0, 4.0))
        self.facts.frozen_s = frozen_s
        self._signal(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(frozen_s)
        finally:
            self._signal(process, signal.SIGCONT)

    async def _settle(self, session: aiohttp.ClientSession, admin: str) -> None:
        """All clients have gone: so is all that was kept for them."""
        until = self.now() + SETTLES_S
        while True:
            status = json.loads((await self._ask(session, "GET", f"{admin}/status"))[1])
            left = {**status["in_flight"], "client": status["connections"]["client"]}
            left["upstream_busy"] = status["connections"]["upstream_busy"]
            if not any(left.values()):
                return
            if self.now() > until:
                self.facts.errors.append(f"{SETTLES_S} s after the last client had gone: {left}")
                return
            await asyncio.sleep(0.05)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if self.facts.terminated_at is None:
            self._signal(process, signal.SIGTERM)
        self.facts.exit_code = await process.wait()
        self.facts.exited_at = self.now()

    def _judge(self) -> list[str]:
        facts = self.facts
        return [*facts.errors, *self._times(), *(found for record in self.records if (found := self._fate(record)))]

    def _times(self) -> list[str]:
        facts, broken = self.facts, []
        took_s = facts.told_at - facts.triggered_at
        floor_s = parse_duration(self.options["propagation-delay"])
        most_s = parse_duration(self.options["drain-timeout"]) + facts.frozen_s + SLACK_S
        if took_s < floor_s - 0.02 and not facts.hurried and self.sibling is None:
            broken.append(f"the app was told to stop {took_s:.3f} s after the trigger, before the floor of {floor_s} s")
        if took_s > most_s:
            broken.append(f"the app was told to stop {took_s:.3f} s after the trigger, {most_s} s at most was promised")
        if facts.exit_code != 0:
            broken.append(f"exit code {facts.exit_code}")
        ends_by = max(facts.triggered_at + 8, (facts.terminated_at or facts.exited_at) + 2) + facts.frozen_s + SLACK_S
        if facts.exited_at > ends_by:
            broken.append(f"the process ended {facts.exited_at - ends_by:.3f} s too late")
        return broken

    def _fate(self, record: Record) -> str | None:
        """The promise that this request saw broken, if it did."""
        facts, saw, name = self.facts, record.saw, record.name
        sent_s, ended_s = record.sent_at - facts.triggered_at, record.ended_at - facts.triggered_at
        told = f"{name} ({record.kind}) saw {saw.value}: {record.detail}; sent {sent_s:.3f}, ended {ended_s:.3f}"
        told += f" (trigger 0, told {facts.told_at - facts.triggered_at:.3f})"
        began = self.app.begun[name] + (0 if self.sibling is None else self.sibling.app.begun[name])
        if saw in (Saw.ANSWERED, Saw.LEFT):
            return f"{told}; the app got it {began} times" if began > 1 and not facts.back_at else None
        if saw in (Saw.WRONG, Saw.HUNG):
            return told
        if record.sent_at > self._served_until(record) - 0.01 or self._may_be_cut(record):
            return None
        if saw is Saw.RETRIABLE and not began:
            return None
        return f"{told}; the app got it {began} times"

    def _served_until(self, record: Record) -> float:
        """What was sent before this must be answered: siblings answer until the drain is over.

        A client whose own connection to the app was open when that was told to stop may not have read the GOAWAY yet.
        """
        facts = self.facts
        handing_over = record.kind.startswith("http1") and facts.let_go_s is not None
        return max(facts.told_at, facts.over_at) if handing_over else facts.told_at

    def _may_be_cut(self, record: Record) -> bool:
        """By the deadline, and the summary says so; or by the app's crash."""
        if record.sent_at <= self.facts.back_at + SLACK_S and self.facts.back_at:
            return True
        forced = any(summary["outcome"] == "forced" for summary in self.facts.summaries)
        return forced and record.ended_at >= self.facts.told_at - 0.5


async def play(seed: int) -> tuple[Case, list[str]]:
    """One case."""
    case = Case(seed)
    broken = await case.play()
    for record in case.records:
        ended(record, Saw.LEFT)
    return case, broken
