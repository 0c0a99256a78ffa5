"""A process that we started ends when it is told to, and leaves nobody behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from drainproxy.errors import ChildError
from drainproxy.process.children import Children
from tests.support.pids import runs
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(60)"

LOOPS = pytest.mark.parametrize(
    "loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "stock"]
)


def run(story: Callable[[Children], Coroutine[Any, Any, None]], loop_factory: Callable[[], Any]) -> None:
    """Play the story on a loop that listens to signals, as the app's does, and put the signal handlers back."""

    async def played() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        children = Children(loop)
        children.listen()
        async with asyncio.timeout(20):
            await story(children)

    before = signal.getsignal(signal.SIGCHLD)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(played())
    finally:
        signal.signal(signal.SIGCHLD, before)


@contextmanager
def output() -> Iterator[int]:
    """A pipe to read the children's standard output from: they inherit ours."""
    out_of, into = os.pipe()
    ours = os.dup(1)
    os.dup2(into, 1)
    try:
        yield out_of
    finally:
        os.dup2(ours, 1)
        for each in (ours, into, out_of):
            os.close(each)


def ended_but_not_reaped(pid: int) -> None:
    """Wait for that."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def has_children() -> bool:
    """Any that runs or is a zombie."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@LOOPS
def test_its_exit_code_is_told(loop_factory: Callable[[], Any]) -> None:
    async def story(children: Children) -> None:
        seven = children.start(("sh", "-c", "exit 7"))
        killed = children.start(("sh", "-c", "kill -KILL $$"))
        assert await seven.exited == 7
        assert await killed.exited == 128 + signal.SIGKILL

    run(story, loop_factory)


@LOOPS
def test_many_that_end_at_once_are_all_reaped(loop_factory: Callable[[], Any]) -> None:
    async def story(children: Children) -> None:
        all_of_them = [children.start(("sh", "-c", f"exit {code}")) for code in range(50)]
        assert await asyncio.gather(*(each.exited for each in all_of_them)) == list(range(50))

    run(story, loop_factory)


@LOOPS
def test_one_that_ends_after_the_loop_disturbs_nobody(loop_factory: Callable[[], Any]) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            Children(runner.get_loop()).listen()
        signal.raise_signal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_program_that_cannot_be_run_has_a_shells_exit_code(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")

    async def story(children: Children) -> None:
        with pytest.raises(ChildError, match="No such file") as missing:
            children.start(("/no/such/program",))
        with pytest.raises(ChildError, match="Permission denied") as forbidden:
            children.start((str(script),))
        assert (missing.value.exit_code, forbidden.value.exit_code) == (127, 126)

    run(story, uvloop.new_event_loop)


def test_one_that_ignores_sigterm_is_killed_when_its_time_is_over_and_not_twice_that() -> None:
    async def story(children: Children) -> None:
        loop = asyncio.get_running_loop()
        with output() as lines:
            child = children.start((sys.executable, "-c", DEAF))
            read = b""
            while not read.endswith(b"set\n"):
                read += await asyncio.to_thread(os.read, lines, 100)
        begun_at = loop.time()
        child.stop(0.4)
        await asyncio.sleep(0.2)
        await child.end(0.4)  # joins: the time runs since it was told to stop
        assert child.exited.result() == 128 + signal.SIGKILL
        assert 0.4 <= loop.time() - begun_at < 0.6 + 5

    run(story, uvloop.new_event_loop)


def test_one_that_has_just_ended_can_still_be_told_to_stop() -> None:
    async def story(children: Children) -> None:
        child = children.start(("true",))
        ended_but_not_reaped(child.pid)
        child.stop(1)
        child.signal(signal.SIGUSR1)
        assert await child.exited == 0
        child.stop(1)
        child.kill()
        await child.end(1)

    run(story, uvloop.new_event_loop)


def test_it_starts_with_no_signal_blocked_or_ignored() -> None:
    async def story(children: Children) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        try:
            with output() as lines:
                child = children.start(("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"))
                await child.exited
                said = dict(line.split(":\t") for line in os.read(lines, 1000).decode().splitlines())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
        assert int(said["SigBlk"], 16) == 0
        assert int(said["SigIgn"], 16) & 1 << signal.SIGPIPE - 1 == 0

    run(story, uvloop.new_event_loop)


def test_what_it_leaves_behind_is_reaped_and_can_be_killed() -> None:
    """A daemon that has left the app's process group and session, and a child of it."""
    daemon = "setsid sh -c 'sleep 60 & echo $! $$; wait' & exit 0"

    async def story(children: Children) -> None:
        with output() as lines:
            child = children.start(("sh", "-c", daemon))
            await child.exited
            left = [int(word) for word in os.read(lines, 100).split()]
        assert [runs(pid) for pid in left] == [True, True]
        children.kill_rest()
        await asyncio.to_thread(wait_for, lambda: not any(runs(pid) for pid in left), "their end")
        children.reap()
        assert not has_children()

    run(story, uvloop.new_event_loop)


def test_one_that_reads_the_terminal_is_not_stopped() -> None:
    script = (
        "import os, pty, sys, time\n"
        "pid, terminal = pty.fork()\n"
        "if pid == 0:\n"
        "    from tests.process import reader\n"
        "    reader.main()\n"
        "os.write(terminal, b'hello\\n')\n"
        "said = b''\n"
        "while b'got hello' not in said:\n"
        "    said += os.read(terminal, 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
