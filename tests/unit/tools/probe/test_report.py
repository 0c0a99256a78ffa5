"""How is the verdict read? Terminal, JSON, SVG and HTML of one measurement, hostile text included."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

from rich.console import Console

from drainproxy.tools.probe import html, plot, report
from drainproxy.tools.probe.measure import Command, Measurement
from drainproxy.tools.probe.verdict import Reply, Sample, judge

HOSTILE = "<script>alert('1')</script>&\"[bold]x[/bold]"


def measurement(fault: str = "reset", detail: str = "why", exit_code: int = 0) -> Measurement:
    samples = [Sample(n / 10, n / 10, n / 10 + 0.02, Reply(status=200, pod=f"pod-{n % 3}")) for n in range(100)]
    if fault:
        samples.append(Sample(4.0, 4.0, 4.5, Reply(fault, detail, reused=True)))
    command = Command(("kubectl", "rollout"), 3.0, 6.0, exit_code)
    return Measurement(1_700_000_000.0, tuple(samples), judge(samples, during=(3.0, 6.0)), command, False)


def printed(measured: Measurement) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.print_report(console, "http://shop/", measured)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_verdict_is_the_first_thing_said() -> None:
    first = printed(measurement()).strip().splitlines()[0]
    assert first == "✗ 1 of 101 requests failed (0.99%): 1 reset."
    assert printed(measurement("")).strip().startswith("✓ No request was lost: 100 sent")


def test_each_failure_class_has_count_first_last_meaning_and_example() -> None:
    text = printed(measurement("empty reply", "curl would say (52)"))
    for part in ("empty reply", "4.5 s", "stopped while it worked", "curl would say (52)", "carried a request before"):
        assert part in text, part


def test_the_phases_are_under_the_timeline_and_in_the_latency_table() -> None:
    text = printed(measurement())
    for phase in ("before", "during", "after"):
        assert text.count(phase) >= 2


def test_a_failed_command_is_said_loudly() -> None:
    assert "The command failed" in printed(measurement("", exit_code=3))
    assert "The command failed" not in printed(measurement("", exit_code=0))


def test_markup_from_a_server_is_text() -> None:
    assert "[bold]x[/bold]" in printed(measurement("other", HOSTILE))


def test_json_has_what_the_terminal_shows() -> None:
    data = json.loads(json.dumps(report.as_json("http://shop/", measurement())))
    assert (data["ok"], data["sent"], data["failed"]) == (False, 101, 1)
    assert data["failures"][0]["class"] == "reset"
    assert data["failures"][0]["first_at"] == "2023-11-14T22:13:24.500+00:00"
    assert list(data["latency"]) == ["before", "during", "after"]
    assert data["latency"]["during"]["failed"] == 1
    assert data["pods"] == {"pod-0": 34, "pod-1": 33, "pod-2": 33}
    assert sum(column["sent"] for column in data["timeline"]) == 101
    assert data["command"]["exit_code"] == 0


def test_bars_never_hide_a_failure() -> None:
    assert report.bars([0, 1, 10_000], 10_000) == "·▁█"
    assert report.bars([0, 0], 0) == "··"


def test_html_is_self_contained_and_escapes_everything() -> None:
    text = html.probe_page(f"http://shop/{HOSTILE}", measurement("other", HOSTILE))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for outside in ("http-equiv=refresh", " src=", " href=", "@import", "url("):
        assert outside not in text, outside
    assert "Content-Security-Policy" in text


def test_the_picture_is_well_formed_and_shows_every_failure() -> None:
    measured = measurement("other", HOSTILE)
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
