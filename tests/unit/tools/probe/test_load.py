"""How is steady traffic made? Requests go out when they are due, whatever became of the earlier ones."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.probe.load import Load, Traffic
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


class Scripted:
    """A client whose answers take `takes_s(number)` seconds."""

    on_loss: Callable[[Reply], None]

    def __init__(self, takes_s: Callable[[int], float]) -> None:
        self._takes_s = takes_s

    async def send(self, number: int) -> Reply:
        await asyncio.sleep(self._takes_s(number))
        return Reply(status=200)

    async def close(self) -> None: ...


async def ran(load: Load, seconds: float) -> None:
    running = asyncio.create_task(load.run())
    await asyncio.sleep(seconds)
    load.stop()
    await running


async def test_slow_answers_do_not_hold_back_the_next_requests() -> None:
    load = Load(Scripted(lambda _: 0.5), rate=100)
    await ran(load, 0.3)
    assert 25 <= load.started <= 31
    assert load.in_flight == load.started
    assert await load.settle(5) == 0
    assert [sample.due_s for sample in load.samples] == [n / 100 for n in range(load.started)]


async def test_a_stalled_sender_catches_up_and_the_stall_is_in_the_latency() -> None:
    def stall_once(number: int) -> float:
        if number == 5:
            time.sleep(0.3)
        return 0.0

    load = Load(Scripted(stall_once), rate=100)
    await ran(load, 0.5)
    await load.settle(5)
    assert load.started >= 45
    assert max(sample.latency_s for sample in load.samples) >= 0.25
    late = [sample for sample in load.samples if sample.latency_s > 0.1]
    assert len(late) >= 15  # coordinated omission would show one


async def test_what_does_not_end_in_time_is_given_up_and_counted() -> None:
    load = Load(Scripted(lambda number: 60.0 if number == 0 else 0.0), rate=50)
    await ran(load, 0.1)
    assert await load.settle(0.1) == 1
    assert load.in_flight == 0


async def test_a_loss_that_no_request_saw_is_a_sample_of_its_moment() -> None:
    client = Scripted(lambda _: 0.0)
    load = Load(client, rate=50)
    await ran(load, 0.05)
    client.on_loss(Reply("close 1006", "died"))
    assert load.samples[-1].reply.fault == "close 1006"
    assert load.samples[-1].due_s > 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_fresh_requests_are_exactly_their_share(share: float) -> None:
    traffic = Traffic(fresh=share)
    assert sum(traffic.wants_fresh(number) for number in range(1000)) == round(1000 * share)


async def test_a_ramp_lets_the_rate_grow_evenly_from_nothing() -> None:
    load = Load(Scripted(lambda _: 0.0), rate=200, ramp_s=0.5)
    await ran(load, 0.8)
    await load.settle(5)
    assert load.samples[0].due_s == 0
    assert sum(sample.due_s < 0.25 for sample in load.samples) == 13  # 200 * 0.25² / (2 * 0.5), and the first
    assert sum(sample.due_s < 0.5 for sample in load.samples) == 50
    assert load.pace().reached
    assert load.pace().due == pytest.approx(200 * (load.pace().sending_s - 0.25))
