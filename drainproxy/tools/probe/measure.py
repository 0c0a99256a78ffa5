"""How is one system measured? Traffic before, during and after a command, or for a while; out come the samples."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.errors import DrainproxyError
from drainproxy.tools.probe.verdict import Sample, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drainproxy.tools.probe.load import Load

_KILL_AFTER_S = 5.0


class CommandError(DrainproxyError):
    """The command behind `--` cannot be started."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Command:
    """What became of the command: when it ran (seconds since the first request was due) and its exit code."""

    argv: tuple[str, ...]
    start_s: float
    end_s: float
    exit_code: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. `started_at`: seconds since the epoch when the first request was due."""

    started_at: float
    samples: tuple[Sample, ...]
    verdict: Verdict
    command: Command | None
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. Without a command: `duration_s`. With one: `before_s`, the command, `after_s`, and in all
    at least `duration_s`. `settle_s`: how long requests in flight may take to end. Seconds."""

    duration_s: float
    before_s: float = 5.0
    after_s: float = 10.0
    settle_s: float = 30.0
    command: tuple[str, ...] = ()


class Watcher:
    """Hears what happens while it happens. Every method may be left as it is."""

    def phase(self, name: str) -> None:
        """A new phase begins: before, during, after, settling."""

    def output(self, line: str) -> None:
        """The command wrote a line."""


async def measure(load: Load, plan: Plan, watcher: Watcher, stop: asyncio.Event) -> Measurement:
    """Run `load` as `plan` says; `stop` ends it early (and the command with it). Raises CommandError."""
    started_at = time.time()
    traffic = asyncio.create_task(load.run(), name="traffic")
    command: Command | None = None
    try:
        if plan.command:
            watcher.phase("before")
            if not await _fires(stop, plan.before_s):
                watcher.phase("during")
                command = await _run_command(plan.command, load.elapsed_s, watcher.output, stop)
            watcher.phase("after")
            await _fires(stop, max(plan.after_s, plan.duration_s - load.elapsed_s()))
        else:
            watcher.phase("")
            await _fires(stop, plan.duration_s)
        interrupted = stop.is_set()
        load.stop()
        await traffic
        watcher.phase("settling")
        unfinished = await load.settle(plan.settle_s)
    finally:
        load.stop()
        await traffic
        await load.settle(0)
    samples = tuple(load.samples)
    during = (command.start_s, command.end_s) if command else None
    return Measurement(started_at, samples, judge(samples, during=during, unfinished=unfinished), command, interrupted)


async def _fires(event: asyncio.Event, within_s: float) -> bool:
    """Wait for `event`, at most `within_s`."""
    if within_s > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()
    return event.is_set()


async def _run_command(
    argv: Sequence[str], now: Callable[[], float], output: Callable[[str], None], stop: asyncio.Event
) -> Command:
    """Run the command in a process group of its own, its output line by line to `output`."""
    # A pipe of our own: asyncio's wait() would wait for whoever else holds the command's output open.
    read_end, write_end = os.pipe()
    stream = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb", 0)
    )
    start_s = now()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end, start_new_session=True
        )
    except OSError as error:
        pipe.close()
        raise CommandError(f"cannot start {argv[0]!r}: {error.strerror}") from error
    finally:
        os.close(write_end)
    reader = asyncio.create_task(_relay(stream, output), name="command output")
    ended = asyncio.create_task(process.wait(), name="command")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        end_s = now()
    finally:
        stopped.cancel()
        await _end(process)
        # A process that the command left behind may hold the pipe open: its output is not ours to wait for.
        await asyncio.wait({reader}, timeout=0.5)
        reader.cancel()
        await asyncio.gather(reader, stopped, ended, return_exceptions=True)
        pipe.close()
    assert process.returncode is not None, "the command was waited for"
    return Command(tuple(argv), start_s, end_s, process.returncode)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to the group if it still runs, SIGKILL if that is not enough."""
    for signum, patience_s in ((signal.SIGTERM, _KILL_AFTER_S), (signal.SIGKILL, None)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.wait()


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
