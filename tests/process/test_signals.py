"""No signal ends the process without a drain, from its first instruction on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from drainproxy.process.signals import HANDLED

HOLD = "import os, signal, asyncio; from drainproxy.process.signals import hold, listen; hold(); "


def play(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HOLD + script], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize("factory", ["uvloop.new_event_loop", "asyncio.new_event_loop"])
def test_what_was_sent_before_the_loop_listens_is_delivered_then(factory: str) -> None:
    script = f"""
import uvloop
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGHUP)
async def main():
    loop = asyncio.get_running_loop()
    got, both = set(), asyncio.Event()
    def note(number):
        got.add(number)
        if got == {{signal.SIGTERM, signal.SIGHUP}}: both.set()
    listen(loop, {{signal.SIGTERM: lambda: note(signal.SIGTERM)}}, note)
    await asyncio.wait_for(both.wait(), 10)
    print("both")
with asyncio.Runner(loop_factory={factory}) as runner: runner.run(main())
"""
    done = play(script)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr


def test_every_signal_that_would_end_the_process_is_handled() -> None:
    """Sent one after the other to a process that only sleeps: those that end it are handled, or left to do so."""
    left = {"SIGKILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU", "SIGSTOP"}
    for number in sorted(signal.valid_signals()):
        name = signal.Signals(number).name if number in signal.Signals.__members__.values() else ""
        if name in left | {"SIGTSTP", "SIGTTIN", "SIGTTOU"}:
            continue  # faults, and job control that stops
        with subprocess.Popen(["sleep", "0.05"]) as sleeper:
            sleeper.send_signal(number)
            ended_by_it = sleeper.wait() == -number
        assert not ended_by_it or number in HANDLED or name in {"SIGPIPE", "SIGXFSZ"}, name or number
