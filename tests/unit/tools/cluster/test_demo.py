"""What does the demo conclude, and from what? Its sentences, its table, and a real run without the proxy."""

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

from drainproxy.tools.cluster.demo import BARE, DRAINPROXY, SLEEP, Run, conclusion, pod_bars
from drainproxy.tools.cluster.demo_view import as_json, page, rows, svg
from drainproxy.tools.cluster.kubelet import Event, EventReason
from drainproxy.tools.probe.verdict import Reply, Sample, judge

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(name: str, *faults: str) -> Run:
    samples = [Sample(n / 10, n / 10, n / 10 + 0.02, Reply(status=200)) for n in range(50)]
    samples += [Sample(2.0, 2.0, 2.1, Reply(fault, "why")) for fault in faults]
    verdict = judge(samples, during=(1.0, 3.0))
    return Run(name, verdict, tuple(samples), pod_bars(EVENTS, 100.0), 2.0)


EVENTS = [
    Event(99.0, "v1-1", "", EventReason.CREATED),
    Event(99.2, "v1-1", "app", EventReason.STARTED),
    Event(99.5, "v1-1", "", EventReason.READY),
    Event(102.0, "v1-1", "", EventReason.DELETED),
    Event(102.1, "v1-1", "", EventReason.UNREADY),
    Event(103.0, "v1-1", "", EventReason.GONE),
]


def test_drainproxy_alone_without_loss_is_the_good_end() -> None:
    good, sentence = conclusion([run(BARE, "reset", "reset"), run(SLEEP, "cut body"), run(DRAINPROXY)])
    assert good
    assert sentence == "drainproxy lost no request; bare lost 2, preStop: sleep lost 1."


def test_a_bare_rollout_that_loses_nothing_proves_nothing() -> None:
    good, sentence = conclusion([run(BARE), run(SLEEP), run(DRAINPROXY)])
    assert not good
    assert "proves nothing" in sentence


def test_a_loss_with_drainproxy_is_said_first_and_is_a_failure() -> None:
    good, sentence = conclusion([run(BARE, "reset"), run(SLEEP), run(DRAINPROXY, "502")])
    assert not good
    assert sentence.startswith("drainproxy lost 1")


def test_the_table_has_a_column_for_every_failure_class_that_occurred() -> None:
    head, body = rows([run(BARE, "reset", "reset", "cut body"), run(SLEEP, "cut body"), run(DRAINPROXY)])
    assert head == ["rollout", "requests", "failed", "reset", "cut body", "took", "longest served"]
    assert body[0] == [BARE, "53", "3", "2", "1", "2.00 s", "20 ms"]
    assert body[2][2:5] == ["0", "0", "0"]


def test_a_pods_bar_is_its_life_on_the_samples_clock() -> None:
    (bar,) = pod_bars(EVENTS, 100.0)
    assert (bar.name, bar.start_s, bar.ready_s, bar.ending_s, bar.end_s) == ("v1-1", -1.0, -0.5, 2.0, 3.0)


def test_the_results_forms_agree() -> None:
    runs = [run(BARE, "reset"), run(SLEEP), run(DRAINPROXY)]
    good, sentence = conclusion(runs)
    assert as_json(runs, good, sentence)["ok"] is True
    assert sentence in page(runs, good, sentence)
    assert svg(runs).count('class="ink title"') == 3


# --- for real ---------------------------------------------------------------------------------------------------------


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
