"""How is steady traffic made? Requests go out when they are due, whatever became of the earlier ones (open loop)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Protocol

from drainproxy.tools.probe.verdict import OTHER, Pace, Reply, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


@dataclass(frozen=True, slots=True)
class Traffic:
    """How requests use connections, whatever the protocol.

    `connections` kept connections take turns; `fresh` is the share (0..1) of requests that open one of their own.
    `pod_header` names the response header that tells which Pod answered.
    """

    connections: int = 8
    fresh: float = 0.5
    timeout_s: float = 30.0
    headers: tuple[tuple[str, str], ...] = ()
    pod_header: str = "X-Pod"

    def wants_fresh(self, number: int) -> bool:
        """Is request `number` one that opens its own connection? Spread evenly, exact over any run."""
        return self.connections == 0 or int((number + 1) * self.fresh) > int(number * self.fresh)


class Client(Protocol):
    """Sends one request and tells what came of it; never raises for what a server or network can do.

    `on_loss` is called for a failure that no request saw, such as an idle WebSocket that died.
    """

    on_loss: Callable[[Reply], None]

    async def send(self, number: int) -> Reply: ...

    async def close(self) -> None: ...


class Load:
    """One run of traffic: `rate` requests a second from `run` until `stop`; samples in the order of their ends.

    With `ramp_s` the rate grows evenly from 0 to `rate` over that time. Seconds.
    """

    def __init__(self, client: Client, rate: float, ramp_s: float = 0.0) -> None:
        self.samples: list[Sample] = []
        self.on_sample: Callable[[Sample], None] = lambda _: None
        self.started = 0
        self._client = client
        self._rate, self._ramp_s = rate, ramp_s
        self._sending_s = 0.0
        self._stop = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._zero = 0.0
        client.on_loss = self._note

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def elapsed_s(self) -> float:
        """Seconds since the first request was due; 0 before the run."""
        return asyncio.get_running_loop().time() - self._zero if self._zero else 0.0

    def stop(self) -> None:
        """No request becomes due any more; those in flight go on."""
        self._stop.set()

    async def run(self) -> None:
        """Send until `stop`. Returns when the last request has been *sent*; `settle` waits for their ends."""
        loop = asyncio.get_running_loop()
        self._zero = loop.time()
        while not self._stop.is_set():
            due_s = self._due_s(self.started)
            wait_s = self._zero + due_s - loop.time()
            if wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._stop.wait()
                    break
                except TimeoutError:
                    pass
            else:
                # Behind schedule: send at once, but let what is in flight have its turn.
                await asyncio.sleep(0)
            task = asyncio.create_task(self._one(self.started, due_s), name=f"request {self.started}")
            self._flying.add(task)
            task.add_done_callback(self._landed)
            self.started += 1
        self._sending_s = loop.time() - self._zero

    def pace(self) -> Pace:
        """What was asked of the sender until `run` returned, and what it did."""
        return Pace(self._due_by(self._sending_s), self.started, self._sending_s)

    async def settle(self, within_s: float, give_up: asyncio.Event | None = None) -> int:
        """Wait for what is in flight; give up on the rest after `within_s`, or when `give_up` is set, and return how
        many those were."""
        if self._flying:
            await _first_of(self._all_landed(), give_up, within_s)
        left = list(self._flying)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    async def _all_landed(self) -> None:
        await asyncio.wait(self._flying)

    def _due_s(self, number: int) -> float:
        """When request `number` is due: while the rate grows, the requests due by then grow as the square of time."""
        in_ramp = self._rate * self._ramp_s / 2
        if number < in_ramp:
            return sqrt(2 * number * self._ramp_s / self._rate)
        return self._ramp_s + (number - in_ramp) / self._rate

    def _due_by(self, at_s: float) -> float:
        """How many requests are due by then: the inverse of `_due_s`."""
        if at_s < self._ramp_s:
            return self._rate * at_s * at_s / (2 * self._ramp_s)
        return self._rate * (at_s - self._ramp_s / 2)

    async def _one(self, number: int, due_s: float) -> None:
        sent_s = self.elapsed_s()
        reply = await self._client.send(number)
        self._record(Sample(due_s, sent_s, self.elapsed_s(), reply))

    def _record(self, sample: Sample) -> None:
        """Take down a sample, and tell who listens."""
        self.samples.append(sample)
        self.on_sample(sample)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A client that raises is a bug of ours: it must not pass as a quiet run.
            task.get_loop().call_exception_handler({"message": "a probe client failed", "exception": error})
            self._note(Reply(OTHER, f"the probe itself failed: {error!r}"))

    def _note(self, reply: Reply) -> None:
        """A failure that no request saw becomes a sample of this moment."""
        now = self.elapsed_s()
        self._record(Sample(now, now, now, reply))


async def _first_of(work: Coroutine[None, None, None], give_up: asyncio.Event | None, within_s: float) -> None:
    """Returns when `work` has ended, `give_up` is set, or the time is over, whichever comes first."""
    waits = [asyncio.ensure_future(work)]
    if give_up is not None:
        waits.append(asyncio.create_task(_set(give_up)))
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _set(event: asyncio.Event) -> None:
    await event.wait()
