"""No signal ends drainproxy without a drain, however early it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import HERE, free_port
from tests.support.pids import runs
from tests.support.proxy import QUICK, Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = [word for name, value in QUICK.items() for word in (f"--{name}", value)]
FREE_PORTS = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]


@contextmanager
def started(*argv: str, env: dict[str, str] | None = None) -> Iterator[Proxy]:
    """A process of ours, killed at the end with all its descendants if it has not ended."""
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {}))
    proxy = Proxy(process)
    try:
        yield proxy
    finally:
        for pid in list(descendants(process.pid)) if proxy.alive else ():
            os.kill(pid, signal.SIGKILL)
        proxy.wait()
        assert process.stderr is not None
        process.stderr.close()


PID_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
"""Runs a program as the first process of a PID namespace, whose signals the kernel treats as in a container."""


def can_be_pid_1() -> bool:
    try:
        return subprocess.run([*PID_1, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("as_pid_1", [False, True])
def test_sigterm_while_it_starts_is_a_drain_and_exit_code_0(as_pid_1: bool) -> None:
    """From our first line on, which Python reaches in some 20 ms."""
    if as_pid_1 and not can_be_pid_1():
        pytest.skip("this machine lets nobody make a PID namespace")
    argv = [*(PID_1 if as_pid_1 else ()), sys.executable, "-m", "drainproxy", "serve", *FREE_PORTS, *FLAGS]
    with started(*argv, "--upstream", f"127.0.0.1:{free_port()}") as proxy:
        ours = wait_for(lambda: next(filter(holds_sigterm, descendants(proxy.process.pid)), None), "our first line")
        os.kill(ours, signal.SIGTERM)
        assert proxy.wait() == 0
        assert proxy.logged("drain finished") is not None, proxy.text


def holds_sigterm(pid: int) -> bool:
    """SIGTERM waits in the kernel for it. (It does for unshare, too, while that waits.)"""
    try:
        if open_bytes(f"/proc/{pid}/comm") == b"unshare\n":
            return False
        facts = dict(line.split(b":\t") for line in open_bytes(f"/proc/{pid}/status").splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(facts[b"SigBlk"], 16) >> signal.SIGTERM - 1 & 1 == 1


def open_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = open_bytes(f"/proc/{pid}/task/{pid}/children").split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from descendants(int(child))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGALRM, signal.SIGIO, signal.SIGRTMIN + 3])
def test_signals_without_a_meaning_are_ignored(number: int, app: str) -> None:
    with serve(app) as proxy:
        proxy.await_ready().signal(number)
        assert proxy.await_log("signal ignored")
        assert httpx.get(f"{proxy.url}/").status_code == 200


def test_sighup_reads_the_log_level_again_and_a_bad_file_changes_nothing(app: str, tmp_path: Path) -> None:
    config = tmp_path / "drainproxy.toml"
    config.write_text('log-level = "info"\n')
    with serve(app, "--config", str(config)) as proxy:
        proxy.await_ready()
        config.write_text('log-level = "loud"\n')
        proxy.signal(signal.SIGHUP)
        assert "loud" in proxy.await_log("SIGHUP: settings not changed")["reason"]
        config.write_text('log-level = "error"\n')
        proxy.signal(signal.SIGHUP)
        wait_for(lambda: proxy.alive and proxy.ask("/livez").status == 200, "life")
        config.write_text('log-level = "info"\n')
        proxy.signal(signal.SIGHUP)
        assert proxy.await_log("SIGHUP: settings read again")["log_level"] == "info"


NOTES_SIGNALS = """
import signal, sys, runpy
for number in (signal.SIGUSR1, signal.SIGWINCH):
    signal.signal(number, lambda number, _: print("app got", number, file=sys.stderr, flush=True))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_run_passes_signals_without_a_meaning_on_to_the_app() -> None:
    port = free_port()
    app = [sys.executable, "-c", NOTES_SIGNALS, str(HERE / "plain_app.py"), str(port)]
    argv = ["-m", "drainproxy", "run", *FREE_PORTS, *FLAGS, "--upstream", f"127.0.0.1:{port}", "--", *app]
    with started(sys.executable, *argv) as proxy:
        proxy.await_ready()
        proxy.signal(signal.SIGUSR1)
        proxy.signal(signal.SIGWINCH)
        for number in (signal.SIGUSR1, signal.SIGWINCH):
            wait_for(partial(proxy.text.__contains__, f"app got {int(number)}\n"), "the signal")
        proxy.signal(signal.SIGHUP)  # has a meaning of its own
        assert proxy.await_log("SIGHUP: settings read again")
        assert httpx.get(f"{proxy.url}/").status_code == 200


DEAF = (
    *(sys.executable, "-c"),
    "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a program that ignores SIGTERM, as do all that it starts."""


def test_run_kills_a_deaf_app_within_the_grace_period_and_what_it_leaves_behind() -> None:
    port = free_port()
    deaf = f"sleep 300 & exec {sys.executable} {HERE / 'plain_app.py'} {port}"
    options = {**QUICK, "grace-period": "5s", "app-stop-time": "2s", "drain-timeout": "2s"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    argv = ["-m", "drainproxy", "run", *FREE_PORTS, *flags, "--upstream", f"127.0.0.1:{port}"]
    with started(sys.executable, *argv, "--", *DEAF, "sh", "-c", deaf) as proxy:
        proxy.await_ready()
        family = [pid for pid in descendants(proxy.process.pid) if pid != proxy.process.pid]
        begun_at = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert time.monotonic() - begun_at < 5
        ended = proxy.logged("app ended")
        assert ended is not None
        assert ended["exit_code"] == 128 + signal.SIGKILL
        assert len(family) >= 2
        wait_for(lambda: not any(runs(pid) for pid in family), "the end of all of them")
