"""How is the verdict read? Terminal, JSON, SVG and HTML of one measurement, hostile text included."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

from rich.console import Console

from drainproxy.tools.probe import html, machine_readable, plot, report
from drainproxy.tools.probe.measure import Command, Measurement, Result
from drainproxy.tools.probe.outcome import Limits, outcome_of
from drainproxy.tools.probe.verdict import Reply, Sample, judge

HOSTILE = "<script>alert('1')</script>&\"[bold]x[/bold]"


def measurement(
    fault: str = "reset", detail: str = "why", exit_code: int = 0, target: str = "http://shop/"
) -> Measurement:
    samples = [Sample(n / 10, n / 10, n / 10 + 0.02, Reply(status=200, pod=f"pod-{n % 3}")) for n in range(100)]
    if fault:
        samples.append(Sample(4.0, 4.0, 4.5, Reply(fault, detail, reused=True)))
    command = Command(("kubectl", "rollout"), 3.0, 6.0, exit_code)
    result = Result(target, tuple(samples), judge(samples, during=(3.0, 6.0)))
    return Measurement(1_700_000_000.0, (result,), command, False, command_due=True)


def printed(measured: Measurement) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.print_report(console, measured, outcome_of(measured, Limits()))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_verdict_is_the_first_thing_said() -> None:
    first = printed(measurement()).strip().splitlines()[0]
    assert first == "✗ 1 of 101 requests failed (0.99%): 1 reset."
    assert printed(measurement("")).strip().startswith("✓ No request was lost: 100 sent")


def test_each_failure_class_has_count_first_last_meaning_and_example() -> None:
    text = printed(measurement("empty reply", "curl would say (52)"))
    for part in (
        "empty reply",
        "4.5 s",
        "before the first byte",
        "first: curl would say (52)",
        "carried a request before",
    ):
        assert part in text, part


def test_the_phases_are_under_the_timeline_and_in_the_latency_table() -> None:
    text = printed(measurement())
    for phase in ("before", "during", "after"):
        assert text.count(phase) >= 2


def test_a_failed_command_is_the_headline() -> None:
    assert printed(measurement("", exit_code=3)).strip().startswith("✗ The command failed (exit code 3)")
    assert "The command failed" not in printed(measurement("", exit_code=0))


def test_markup_from_a_server_is_text() -> None:
    assert "[bold]x[/bold]" in printed(measurement("other", HOSTILE))


def test_json_has_what_the_terminal_shows() -> None:
    measured = measurement()
    data = json.loads(json.dumps(machine_readable.as_json(measured, outcome_of(measured, Limits()))))
    (target,) = data["targets"]
    assert (data["ok"], data["exit_code"], target["sent"], target["failed"]) == (False, 1, 101, 1)
    assert target["failures"][0]["class"] == "reset"
    assert target["failures"][0]["by_phase"] == {"before": 0, "during": 1, "after": 0}
    assert target["failures"][0]["first_at"] == "2023-11-14T22:13:24.500+00:00"
    assert target["failures"][0]["likely_cause"].startswith("the server closed idle keep-alive connections")
    assert list(target["latency"]) == ["before", "during", "after"]
    assert target["latency"]["during"]["failed"] == 1
    assert target["rate"]["achieved"] > 9
    assert target["pods"] == {"pod-0": 34, "pod-1": 33, "pod-2": 33}
    assert sum(column["sent"] for column in target["timeline"]) == 101
    assert data["command"]["exit_code"] == 0


def test_junit_has_a_case_for_each_check_and_tells_failures_from_doubt() -> None:
    measured = measurement("other", HOSTILE)
    suite = ET.fromstring(machine_readable.as_junit(measured, outcome_of(measured, Limits(max_p99_s=1.0))))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("7", "1", "0")
    assert [case.get("name") for case in suite if len(case)] == ["failed requests, at most 0"]
    empty = Measurement(0.0, (Result("http://shop/", (), judge([])),), None, False)
    suite = ET.fromstring(machine_readable.as_junit(empty, outcome_of(empty, Limits())))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")


def test_a_line_of_json_for_each_request() -> None:
    (result,) = measurement().results
    lines = [json.loads(machine_readable.sample_line("http://shop/", sample)) for sample in result.samples]
    assert lines[0] == {
        "target": "http://shop/", "due_s": 0.0, "sent_s": 0.0, "end_s": 0.02, "class": None, "detail": None,
        "status": 200, "pod": "pod-0", "bytes": 0, "reused": False, "retried": False,
    }  # fmt: skip
    assert [line["class"] for line in lines if line["class"]] == ["reset"]


def test_bars_never_hide_a_failure() -> None:
    assert report.bars([0, 1, 10_000], 10_000) == "·▁█"
    assert report.bars([0, 0], 0) == "··"


def test_html_is_self_contained_and_escapes_everything() -> None:
    measured = measurement("other", HOSTILE, target=f"http://shop/{HOSTILE}")
    text = html.probe_page(measured, outcome_of(measured, Limits()))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for outside in ("http-equiv=refresh", " src=", " href=", "@import", "url("):
        assert outside not in text, outside
    assert "Content-Security-Policy" in text


def test_the_picture_is_well_formed_and_shows_every_failure() -> None:
    (measured,) = measurement("other", HOSTILE).results
    bar = plot.PodBar(HOSTILE, 0.0, 1.0, 5.0, None)
    panel = plot.Panel(HOSTILE, HOSTILE, False, measured.samples, measured.verdict.spans[1], [bar])
    root = ET.fromstring(plot.draw([panel, panel]))
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{svg}path")) == 2
    assert len(root.findall(f".//{svg}circle")) == 200


def test_of_very_many_dots_the_slowest_are_kept() -> None:
    samples = [Sample(n / 1000, n / 1000, n / 1000 + 0.01, Reply(status=200)) for n in range(20_000)]
    samples[777] = Sample(0.777, 0.777, 9.0, Reply(status=200))
    kept = list(plot._thinned(samples))
    assert len(kept) <= plot.MAX_DOTS
    assert samples[777] in kept


def test_an_empty_run_can_be_drawn() -> None:
    ET.fromstring(plot.draw([plot.Panel("nothing", "", False, [])]))
    ET.fromstring(plot.draw_percentiles((), 0.0, None))


def test_percentiles_over_time_have_a_point_for_each_column_with_an_answer() -> None:
    (result,) = measurement().results
    root = ET.fromstring(plot.draw_percentiles(result.verdict.buckets, 10.0, result.verdict.spans[1]))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [line.get("class") for line in lines] == ["max", "p99", "p50"]
    assert {len((line.get("points") or "").split()) for line in lines} == {len(result.verdict.buckets)}
