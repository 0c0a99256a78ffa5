"""Does `drainproxy demo` run for real? A run without the proxy, an interrupted one, and bad usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.slow
def test_bare_loses_and_sleep_loses_less_in_a_real_run(tmp_path: Path) -> None:
    """Without drainproxy the demo must show losses: else a run without them would mean nothing."""
    files = [str(tmp_path / "demo.html"), str(tmp_path / "demo.svg")]
    command = [sys.executable, "-m", "drainproxy", "demo", "--only", "bare", "--only", "sleep", "--json"]
    done = subprocess.run(
        [*command, "--html", files[0], "--svg", files[1]], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 1, done.stderr
    bare, sleep = json.loads(done.stdout)["runs"]
    assert bare["failed"] > sleep["failed"] > 0
    assert set(bare["failures"]) >= {"reset"}
    assert "rolling out" in done.stderr  # progress, although stderr is no terminal
    assert (tmp_path / "demo.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "demo.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_stop_and_start_loses_and_neither_restart_nor_upgrade_does() -> None:
    command = [sys.executable, "-m", "drainproxy", "demo", "--upgrade", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stop_and_start, restart, upgrade = json.loads(done.stdout)["runs"]
    assert stop_and_start["failed"]
    assert (restart["failed"], upgrade["failed"]) == (0, 0)


def test_upgrade_has_no_rollouts_to_choose() -> None:
    command = [sys.executable, "-m", "drainproxy", "demo", "--upgrade", "--only", "bare"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--only" in done.stderr


@pytest.fixture
def sigint_is_heard() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would whatever these tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("sigint_is_heard")
def test_an_interrupted_demo_leaves_no_process_behind(signum: signal.Signals) -> None:
    marker = f"DEMO_TEST_{os.getpid()}_{signum}"
    demo = subprocess.Popen(
        [sys.executable, "-m", "drainproxy", "demo", "--only", "bare"],
        env={**os.environ, marker: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "rolling out" in line:
            break
    assert len(_with(marker)) > 1  # the Pods run
    demo.send_signal(signum)
    rest = demo.stdout.read()
    demo.wait(20)
    demo.stdout.close()
    assert "Traceback" not in rest, rest
    assert demo.returncode == 130, rest
    deadline = time.monotonic() + 5
    while _with(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _with(marker) == []


def _with(marker: str) -> list[int]:
    """Processes whose environment has the variable; a process that ends meanwhile has none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize(
    "arguments", [("--rate", "0"), ("--app", "no-such-program-anywhere"), ("--path", "nope"), ("--only", "luck")]
)
def test_bad_usage_of_the_demo_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "drainproxy", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
