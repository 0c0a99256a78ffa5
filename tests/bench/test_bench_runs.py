"""Does the benchmark run, and do all proxies do the same job in it?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.bench import history
from tests.bench.__main__ import BY_HAND, store, write_page
from tests.bench.client_stream import Connection
from tests.bench.client_tls import Visitor
from tests.bench.drains import drain_under_load
from tests.bench.host import pick_cores, raise_file_limit, wait_until
from tests.bench.measurement import Goal, Measurement, Metric, Result
from tests.bench.page import page
from tests.bench.peers import DRAINPROXY, PEERS, Job, Peer
from tests.bench.profile import tables
from tests.bench.report import show, verdicts
from tests.bench.stage import SHORT, Stage, set_up
from tests.bench.wire import body_of, status_of

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
@needs_load
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("resumption", [True, False], ids=["resumed", "full"])
def test_tls_sessions_are_resumed_only_where_that_is_measured(stage: Stage, peer: Peer, *, resumption: bool) -> None:
    if why := peer.missing():
        pytest.skip(why)
    with stage.proxy(peer, job=Job("tls", resumption=resumption)) as proxy:
        visitor = Visitor(proxy.port, resumes=True)
        assert [visitor.visit() for _ in range(3)] == [False, resumption, resumption]


@pytest.mark.debian
@pytest.mark.slow  # Envoy writes its log every ten seconds
@needs_load
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_an_access_log_has_a_line_for_every_request(stage: Stage, peer: Peer) -> None:
    if why := peer.missing():
        pytest.skip(why)
    with stage.proxy(peer, job=Job(access_log=True, ports=2)) as proxy:
        for port in proxy.ports:
            assert status_of(port, f"/logged-{port}") == 200
        log = proxy.measured.log
        files = [log, log.with_name("access.log")]

        def all_logged() -> bool:
            written = "".join(file.read_text() for file in files if file.exists())
            return all(f"/logged-{port}" in written for port in proxy.ports)

        wait_until(all_logged, f"{peer.name} did not log both requests", timeout_s=30)


@pytest.mark.debian
@needs_load
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_messages_on_grpc_streams_come_back_through_every_proxy(stage: Stage, peer: Peer) -> None:
    if why := peer.missing():
        pytest.skip(why)
    message = bytes(5) + b"hello"
    with stage.proxy(peer, "stream", Job("http2")) as proxy:
        connection = Connection(proxy.port, streams=3, message=message)
        for _ in range(2):
            connection.send_all()
            echoes = 0
            while echoes < 3:
                echoes += connection.receive(go_on=False)
        connection.socket.close()


@pytest.mark.debian
@needs_load
@pytest.mark.parametrize("peer", [DRAINPROXY, *(peer for peer in PEERS if peer.stop)], ids=lambda peer: peer.name)
def test_a_drain_under_load_counts_the_clients_that_find_a_closed_port(stage: Stage, peer: Peer) -> None:
    if why := peer.missing():
        pytest.skip(why)
    figures = drain_under_load(stage, peer)
    count = stage.pace.drain_connections
    if peer.name == "haproxy":  # it closes its port at once: no client has more than one answer
        assert figures["lost"] == count
        assert figures["answered"] <= count
    else:
        assert figures["lost"] == 0
        assert figures["answered"] > 2 * count
    assert ("answer_s" in figures) == (peer is DRAINPROXY)


@pytest.mark.debian
@pytest.mark.slow
@needs_load
def test_a_short_run_measures_prints_and_stores(tmp_path: Path) -> None:
    stored = tmp_path / "bench.json"
    names = ("http1-small", "http2-upload-4mib", "tls-resume", "drain-load")
    only = [part for name in names for part in ("--only", name)]
    argv = [sys.executable, "-m", "tests.bench", "--short", "--no-install", "--peers", "drainproxy,nginx", *only]
    argv += ["--json", str(stored)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["name"]: each["samples"] for each in json.loads(stored.read_text())["results"]}
    assert results["http1-small"]["drainproxy"]["cpu_us"][0] > 0
    assert results["http1-small"]["nginx"]["cpu_us"][0] > 0
    assert results["tls-resume"]["nginx"]["resumed"] == [100]
    assert results["drain-load"]["drainproxy"]["lost"] == [0]
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


def run_file(file: Path, commit: str, date: str, ours: list[float], **facts: str) -> Path:
    _, result = sampled(ours, [10] * len(ours))
    result.name = "http1-small"
    result.samples["<b>"] = {"cpu_us": [5] * len(ours)}
    store(file, [result], {"commit": commit, "date": date, **facts})
    return file


def test_the_history_has_ratios_only_oldest_run_first_and_escapes_what_it_shows(tmp_path: Path) -> None:
    run_file(tmp_path / "1.json", "later", "2026-11-22 10:00", [6, 6, 7], python="CPython 3.13")
    run_file(tmp_path / "2.json", "<script>", "2026-11-21 10:00", [4, 4, 5])
    assert history.main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    first, second = "<td>&lt;script&gt;, 2026-11-21 10:00</td><td>A</td>", "<td>later, 2026-11-22 10:00</td><td>B</td>"
    assert f"{first}<td>0.40 (0.40-0.50)</td><td>0.50</td>" in text
    assert f"{second}<td>0.60 (0.60-0.70)</td><td>0.50</td>" in text
    assert text.index(first) < text.index(second)
    assert "<th>&lt;b&gt;</th>" in text
    assert "<script" not in text.lower()
    assert "<b>" not in text
    assert ElementTree.fromstring(
        text.partition("<svg")[1] + text.partition("<svg")[2].partition("</svg>")[0] + "</svg>"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"facts": {}}', '{"facts": {}, "results": [{"what": 1}]}'])
def test_the_history_says_which_file_is_not_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    assert history.main([str(file)]) == 2
    assert f"history: {file} is not what" in capsys.readouterr().err


def test_the_history_of_nothing_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert history.main([str(tmp_path)]) == 2
    assert "`make bench` stores one" in capsys.readouterr().err


def test_goals_of_the_compiled_one_are_judged_by_its_own_figures() -> None:
    measurement, result = sampled([10, 10, 10], [20, 20, 20])
    result.samples["compiled"] = {"cpu_us": [8, 8, 8]}
    judged = replace(measurement, goals=(Goal("cpu_us", 0.3, None, of="compiled"),))
    assert [str(each) for each in verdicts(judged, result)] == [
        "compiled: CPU per request µs: 0.40 of envoy's, at most 0.3: MISSED"
    ]
    assert "0.80" in show(judged, result)  # compiled, as a share of pure
