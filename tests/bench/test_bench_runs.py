"""Does the benchmark run, and do all proxies do the same job in it?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.__main__ import BY_HAND, write_page
from tests.bench.host import pick_cores, raise_file_limit
from tests.bench.measurement import Goal, Measurement, Metric, Result
from tests.bench.page import page
from tests.bench.peers import PEERS, Peer
from tests.bench.profile import tables
from tests.bench.report import show, verdicts
from tests.bench.stage import SHORT, Stage, set_up
from tests.bench.wire import body_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

needs_load = pytest.mark.skipif(
    shutil.which("nginx") is None or shutil.which("wrk") is None, reason="the benchmark needs nginx and wrk"
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    raise_file_limit()
    with set_up(pick_cores(), SHORT) as stage:
        yield stage


@pytest.mark.debian
@needs_load
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_proxy_forwards_the_same_facts(stage: Stage, peer: Peer) -> None:
    if why := peer.missing():
        pytest.skip(why)
    with stage.proxy(peer, "app") as proxy:
        head = body_of(proxy.port, "/head").lower()
    for name in ("x-forwarded-for: ", "x-forwarded-proto: http", "x-forwarded-host: bench", "x-request-id: "):
        assert f"\r\n{name}" in head, f"{peer.name} forwards\n{head}"


@pytest.mark.debian
@pytest.mark.slow
@needs_load
def test_a_short_run_measures_prints_and_stores(tmp_path: Path) -> None:
    stored = tmp_path / "bench.json"
    names = ("http1-small", "download-1mib", "drain-busy")
    only = [part for name in names for part in ("--only", name)]
    argv = [sys.executable, "-m", "tests.bench", "--short", "--no-install", "--peers", "drainproxy,nginx", *only]
    argv += ["--json", str(stored)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["name"]: each["samples"] for each in json.loads(stored.read_text())["results"]}
    assert results["http1-small"]["drainproxy"]["cpu_us"][0] > 0
    assert results["http1-small"]["nginx"]["cpu_us"][0] > 0
    assert results["drain-busy"]["drainproxy"]["cut"] == [0]
    assert "x nginx" in done.stdout


def sampled(ours: list[float], theirs: list[float]) -> tuple[Measurement, Result]:
    metric = Metric("cpu_us", "CPU per request", "µs", ratio=True)
    goals = (Goal("cpu_us", 0.65, 0.5),)
    measurement = Measurement("small", "Small", "how", (metric,), lambda *_: {}, goals=goals)
    result = Result("small")
    for peer, values in (("drainproxy", ours), ("envoy", theirs)):
        for value in values:
            result.add(peer, {"cpu_us": value})
    return measurement, result


def test_ratios_pair_the_figures_of_a_round() -> None:
    _, result = sampled([10, 20, 30], [20, 40, 60])
    ratio = result.ratio("drainproxy", "envoy", "cpu_us")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.5, 0.5)


def test_a_goal_is_missed_by_the_median() -> None:
    met = next(iter(verdicts(*sampled([10, 10, 99], [20, 20, 20]))))
    missed = next(iter(verdicts(*sampled([10, 14, 14], [20, 20, 20]))))
    assert met.met
    assert not missed.met


def test_a_proxy_that_failed_once_has_no_figures_and_the_page_says_why() -> None:
    measurement, result = sampled([10, 20], [20, 40])
    result.leave_out("envoy", "it | ended")
    assert "left out: envoy: it | ended" in show(measurement, result)
    text = page([measurement], {"small": result}, {"command": "x"}, [])
    assert "envoy is left out: it \\| ended." in text
    assert "| drainproxy | 15.0 (10.0-20.0) |" in text


def test_a_profile_counts_a_recursive_function_once_in_its_total() -> None:
    text = tables("run (a.py:1);walk (a.py:5);walk (a.py:6) 3\nrun (a.py:2) 1", lines=False)
    assert "  75.0 %    75.0 %  walk (a.py)" in text
    assert "  25.0 %   100.0 %  run (a.py)" in text


def test_what_was_written_by_hand_stays_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text(f"# Before\n{BY_HAND}\nMine.\n")
    write_page(tmp_path, [], {"command": "x"})
    assert "# Before" not in file.read_text()
    assert file.read_text().endswith(f"{BY_HAND}\nMine.\n")
