"""How is one system measured? The phases around a command, its output, its end, and being stopped early."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.probe.load import Load
from drainproxy.tools.probe.measure import CommandError, Measurement, Plan, Result, Stop, Watcher, measure
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


class Fine:
    """A client that always succeeds, after `takes_s`."""

    on_loss: Callable[[Reply], None]

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s

    async def send(self, number: int) -> Reply:
        await asyncio.sleep(self.takes_s)
        return Reply(status=200)

    async def close(self) -> None: ...


class Heard(Watcher):
    def __init__(self) -> None:
        self.phases: list[str] = []
        self.lines: list[str] = []
        self.reasons: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def output(self, line: str) -> None:
        self.lines.append(line)

    def waits(self, reason: str) -> None:
        self.reasons.append(reason)


async def measured(plan: Plan, heard: Heard | None = None, stop: Stop | None = None) -> Measurement:
    return await measure({"it": Load(Fine(), 100)}, plan, heard or Heard(), stop or Stop())


def only(measurement: Measurement) -> Result:
    (result,) = measurement.results
    return result


async def test_traffic_runs_before_during_and_after_the_command() -> None:
    heard = Heard()
    plan = Plan(0, before_s=0.2, after_s=0.2, command=("sh", "-c", "echo one; echo two >&2; sleep 0.3; exit 3"))
    result = await measured(plan, heard)
    assert heard.phases == ["before", "during", "after", "settling"]
    assert sorted(heard.lines) == ["one", "two"]
    assert result.command is not None
    assert result.command.exit_code == 3
    assert 0.2 <= result.command.start_s < result.command.end_s - 0.3
    assert all(each.sent >= 15 for each in only(result).verdict.latency)


async def test_duration_is_the_least_with_a_command_and_the_whole_without() -> None:
    for plan in (Plan(0.6, before_s=0.1, after_s=0.1, command=("true",)), Plan(0.6)):
        result = await measured(plan)
        assert 0.55 <= only(result).samples[-1].due_s <= 0.7


async def test_a_command_that_cannot_start_is_an_expected_error() -> None:
    with pytest.raises(CommandError, match="no-such-program"):
        await measured(Plan(0, before_s=0.0, after_s=0.0, command=("/no-such-program",)))


async def test_stopping_early_ends_the_command_and_still_reports() -> None:
    stop = Stop()
    asyncio.get_running_loop().call_later(0.3, stop.asked.set)
    begin = time.monotonic()
    result = await measured(Plan(0, before_s=0.1, after_s=60, command=("sleep", "600")), stop=stop)
    assert time.monotonic() - begin < 5
    assert result.interrupted
    assert result.command is not None
    assert (result.command.exit_code, result.command.stopped) == (-15, True)
    assert only(result).verdict.ok


async def test_a_process_that_the_command_leaves_behind_does_not_hold_the_report() -> None:
    begin = time.monotonic()
    plan = Plan(0, before_s=0.0, after_s=0.0, command=("sh", "-c", "sleep 3 & echo started"))
    result = await measured(plan)
    assert time.monotonic() - begin < 2.5
    assert result.command is not None
    assert result.command.exit_code == 0


async def test_requests_in_flight_at_the_end_are_waited_for() -> None:
    load = Load(Fine(takes_s=0.4), 50)
    result = await measure({"it": load}, Plan(0.2, settle_s=5), Heard(), Stop())
    assert only(result).verdict.unfinished == 0
    assert only(result).verdict.sent == load.started


async def test_requests_that_do_not_end_are_counted_apart() -> None:
    result = await measure({"it": Load(Fine(takes_s=60), 50)}, Plan(0.1, settle_s=0.1), Heard(), Stop())
    assert only(result).verdict.unfinished >= 4
    assert only(result).verdict.sent == 0


async def test_a_line_that_is_too_long_is_cut_not_fatal() -> None:
    heard = Heard()
    await measured(
        Plan(0, before_s=0, after_s=0, command=("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; echo")), heard
    )
    assert sum(len(line) for line in heard.lines) == 200_000


async def test_a_run_that_was_stopped_says_what_it_waits_for_and_a_second_stop_ends_the_waiting() -> None:
    heard, stop = Heard(), Stop()
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, stop.asked.set)
    loop.call_later(0.6, stop.now.set)
    begin = time.monotonic()
    command = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    result = await measure({"it": Load(Fine(takes_s=60), 50)}, Plan(0, 0.1, 1, 30, command), heard, stop)
    assert time.monotonic() - begin < 4
    assert heard.reasons[0].startswith("for the command to end")
    assert heard.reasons[1].startswith(f"for {only(result).verdict.unfinished} requests in flight")
    assert only(result).verdict.unfinished > 10
    assert result.command is not None
    assert result.command.exit_code == -9


async def test_without_a_duration_it_runs_until_it_is_stopped() -> None:
    stop = Stop()
    asyncio.get_running_loop().call_later(0.4, stop.asked.set)
    result = await measured(Plan(None), stop=stop)
    assert result.interrupted
    assert only(result).samples[-1].due_s >= 0.35


async def test_several_targets_share_the_command_and_have_samples_of_their_own() -> None:
    loads = {"one": Load(Fine(), 100), "two": Load(Fine(), 50)}
    result = await measure(loads, Plan(0, 0.2, 0.2, command=("sleep", "0.2")), Heard(), Stop())
    one, two = result.results
    assert (one.target, two.target) == ("one", "two")
    assert 1.5 < one.verdict.sent / two.verdict.sent < 2.5
    assert [each.phase for each in two.verdict.latency] == ["before", "during", "after"]


async def test_a_sender_that_is_too_slow_is_told_from_one_that_keeps_up() -> None:
    class Blocking(Fine):
        async def send(self, number: int) -> Reply:
            time.sleep(0.02)  # noqa: ASYNC251 - a machine that is too slow
            return Reply(status=200)

    slow = await measure({"it": Load(Blocking(), 500)}, Plan(0.5), Heard(), Stop())
    assert not only(slow).verdict.pace.reached
    assert only(slow).verdict.pace.achieved_per_s < 100
    assert only(await measured(Plan(0.5))).verdict.pace.reached
