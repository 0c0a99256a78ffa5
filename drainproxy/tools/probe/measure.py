"""How is a system measured? Traffic before, during and after a command, or for a while; out come the samples."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drainproxy.errors import DrainproxyError
from drainproxy.tools.probe.verdict import Sample, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drainproxy.tools.probe.load import Load

_KILL_AFTER_S = 5.0


class CommandError(DrainproxyError):
    """The command behind `--` cannot be started."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Command:
    """What became of the command: when it ran (seconds since the first request was due) and its exit code.

    `stopped`: it had not ended by itself when the run was stopped.
    """

    argv: tuple[str, ...]
    start_s: float
    end_s: float
    exit_code: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one target did."""

    target: str
    samples: tuple[Sample, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run against one target or more. `started_at`: seconds since the epoch when the first request was due."""

    started_at: float
    results: tuple[Result, ...]
    command: Command | None
    interrupted: bool
    command_due: bool = False
    """There was a command; `command` is None if the run was stopped before it started."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. Seconds.

    Without a command: `duration_s`, or until it is stopped if that is None. With one: `before_s`, the command,
    `after_s`, and in all at least `duration_s`. `settle_s`: how long requests in flight may take to end.
    """

    duration_s: float | None
    before_s: float = 5.0
    after_s: float = 10.0
    settle_s: float = 30.0
    command: tuple[str, ...] = ()


@dataclass(slots=True)
class Stop:
    """How a user ends a run early: `asked` ends traffic and command in good order, `now` ends the waiting for them."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)


class Watcher:
    """Hears what happens while it happens. Every method may be left as it is."""

    def phase(self, name: str) -> None:
        """A new phase begins: before, during, after, settling."""

    def output(self, line: str) -> None:
        """The command wrote a line."""

    def waits(self, reason: str) -> None:
        """The run was stopped and is not over yet: for this reason."""


async def measure(loads: Mapping[str, Load], plan: Plan, watcher: Watcher, stop: Stop) -> Measurement:
    """Run the loads, by their targets, as `plan` says; `stop` ends it early, and the command with it.

    Raises CommandError.
    """
    started_at = time.time()
    traffic = [asyncio.create_task(load.run(), name=f"traffic to {target}") for target, load in loads.items()]
    try:
        command = await _phases(next(iter(loads.values())).elapsed_s, plan, watcher, stop)
        interrupted = stop.asked.is_set()
        unfinished = await _settled(loads, traffic, plan.settle_s, watcher, stop)
    finally:
        for load in loads.values():
            load.stop()
        await asyncio.gather(*traffic)
        await asyncio.gather(*(load.settle(0) for load in loads.values()))
    during = (command.start_s, command.end_s) if command else None
    results = tuple(
        Result(
            target,
            tuple(load.samples),
            judge(load.samples, during=during, unfinished=left, pace=load.pace()),
        )
        for (target, load), left in zip(loads.items(), unfinished, strict=True)
    )
    return Measurement(started_at, results, command, interrupted, bool(plan.command))


async def _phases(elapsed_s: Callable[[], float], plan: Plan, watcher: Watcher, stop: Stop) -> Command | None:
    """Traffic flows on its own: what is left is to wait for the right moments, and to run the command."""
    if not plan.command:
        watcher.phase("")
        await _fires(stop.asked, plan.duration_s)
        return None
    command: Command | None = None
    watcher.phase("before")
    if not await _fires(stop.asked, plan.before_s):
        watcher.phase("during")
        command = await _run_command(plan.command, elapsed_s, watcher, stop)
    watcher.phase("after")
    await _fires(stop.asked, max(plan.after_s, (plan.duration_s or 0.0) - elapsed_s()))
    return command


async def _settled(
    loads: Mapping[str, Load], traffic: Sequence[asyncio.Task[None]], within_s: float, watcher: Watcher, stop: Stop
) -> list[int]:
    """No more traffic; wait for what is in flight. How many requests of each target had not ended."""
    for load in loads.values():
        load.stop()
    await asyncio.gather(*traffic)
    watcher.phase("settling")
    flying = sum(load.in_flight for load in loads.values())
    if flying:
        watcher.waits(f"for {flying} request{'s' * (flying > 1)} in flight, {within_s:g} s at most")
    return await asyncio.gather(*(load.settle(within_s, stop.now) for load in loads.values()))


async def _fires(event: asyncio.Event, within_s: float | None) -> bool:
    """Wait for `event`, at most `within_s`; None: as long as it takes."""
    if within_s is None or within_s > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()
    return event.is_set()


async def _run_command(argv: Sequence[str], elapsed_s: Callable[[], float], watcher: Watcher, stop: Stop) -> Command:
    """Run the command in a process group of its own, its output line by line to `output`."""
    # A pipe of our own: asyncio's wait() would wait for whoever else holds the command's output open.
    read_end, write_end = os.pipe()
    stream = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb", 0)
    )
    start_s = elapsed_s()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end, start_new_session=True
        )
    except OSError as error:
        pipe.close()
        raise CommandError(f"cannot start {argv[0]!r}: {error.strerror}") from error
    finally:
        os.close(write_end)
    reader = asyncio.create_task(_relay(stream, watcher.output), name="command output")
    ended = asyncio.create_task(process.wait(), name="command")
    stopped = asyncio.create_task(stop.asked.wait(), name="stop")
    try:
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        cut_short = not ended.done()
        if cut_short:
            watcher.waits(f"for the command to end: it got SIGTERM, and gets SIGKILL in {_KILL_AFTER_S:g} s")
        end_s = elapsed_s()
    finally:
        stopped.cancel()
        await _end(process, stop.now)
        # A process that the command left behind may hold the pipe open: its output is not ours to wait for.
        await asyncio.wait({reader}, timeout=0.5)
        reader.cancel()
        await asyncio.gather(reader, stopped, ended, return_exceptions=True)
        pipe.close()
    assert process.returncode is not None, "the command was waited for"
    return Command(tuple(argv), start_s, end_s, process.returncode, cut_short)


async def _end(process: asyncio.subprocess.Process, now: asyncio.Event) -> None:
    """SIGTERM to the group if it still runs, SIGKILL if that is not enough, or as soon as `now` is set."""
    if process.returncode is not None:
        return
    _signal_group(process, signal.SIGTERM)
    ended, hurried = asyncio.create_task(process.wait()), asyncio.create_task(now.wait())
    try:
        await asyncio.wait({ended, hurried}, timeout=_KILL_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _signal_group(process, signal.SIGKILL)
            await ended
    finally:
        hurried.cancel()
        await asyncio.gather(ended, hurried, return_exceptions=True)


def _signal_group(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)


async def _relay(stream: asyncio.StreamReader, output: Callable[[str], None]) -> None:
    while chunk := await _line(stream):
        output(chunk.decode(errors="replace").rstrip("\r\n"))


async def _line(stream: asyncio.StreamReader) -> bytes:
    """One line, or what fits of a line that is too long."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as long:
        return await stream.read(max(long.consumed, 1))
