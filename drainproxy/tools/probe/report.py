"""How does a person read a measurement? The report in the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drainproxy.tools.probe.causes import likely_cause, meaning, seen_before
from drainproxy.tools.probe.verdict import AFTER, BEFORE, DURING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from drainproxy.tools.probe.measure import Measurement, Result
    from drainproxy.tools.probe.outcome import Outcome
    from drainproxy.tools.probe.verdict import Bucket, Latency, Span, Verdict

BARS = "▁▂▃▄▅▆▇█"
ANSWERED, FAILED, LATENCY = "green", "bold red", "cyan"
SHADE = {BEFORE: "dim", DURING: "bold", AFTER: "dim"}
_LATE_WORTH_SAYING_S = 0.1


def show_seconds(seconds: float) -> str:
    """`8 ms`, `1.25 s`, `42 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - below 10 ms
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - three digits are enough


def print_report(console: Console, measurement: Measurement, outcome: Outcome) -> None:
    """The whole report: the outcome first, then what was run, then each target."""
    console.print()
    style, mark = ("bold green", "✓") if outcome.ok else ("bold red", "✗")
    console.print(Text(f"{mark} {outcome.headline}", style), soft_wrap=True)
    for problem in outcome.problems[1:]:
        console.print(Text(f"  {problem}", "red"), soft_wrap=True)
    for line in run_notes(measurement):
        console.print(Text(f"  {line}", "yellow"), soft_wrap=True)
    for result in measurement.results:
        _print_result(console, result)


def _print_result(console: Console, result: Result) -> None:
    verdict = result.verdict
    console.print()
    console.print(Text(result.target, "bold"))
    for line in target_notes(verdict):
        console.print(Text(f"  {line}", "dim"), soft_wrap=True)
    if verdict.failures:
        console.print()
        console.print(failure_table(verdict))
    if verdict.sent:
        console.print()
        for row in picture(verdict.buckets, verdict.spans):
            console.print(row)
        console.print()
        console.print(latency_table(verdict.latency))
    if verdict.pods:
        answered = ", ".join(f"{name} {count}" for name, count in verdict.pods)
        console.print(Text.assemble(("\nanswered by  ", "dim"), answered))


def run_notes(measurement: Measurement) -> list[str]:
    """What became of the run as a whole."""
    lines, command = [], measurement.command
    if command is not None:
        ran = show_seconds(command.end_s - command.start_s)
        lines.append(f"`{' '.join(command.argv)}` ran for {ran}, exit code {command.exit_code}")
    if measurement.interrupted:
        lines.append("ended early, on request")
    return lines


def target_notes(verdict: Verdict) -> list[str]:
    """What a reader must know to trust a target's numbers; the rate first."""
    pace = verdict.pace
    lines = [f"{verdict.sent} requests in {show_seconds(verdict.length_s)}: {pace.achieved_per_s:.3g}/s sent"]
    if not pace.reached:
        lines[0] += f" of {pace.asked_per_s:.3g}/s asked for"
    if verdict.unfinished:
        lines.append(f"{verdict.unfinished} requests had not ended at the end of the measurement; they are not counted")
    if verdict.retried:
        lines.append(
            f"{verdict.retried} requests were sent a second time because of --retry (their connection had been closed)"
        )
    if verdict.unchecked:
        lines.append(
            f"{verdict.unchecked} responses had no length and no chunks: if one of them was cut, this cannot be seen"
        )
    if verdict.late_s > _LATE_WORTH_SAYING_S:
        lines.append(
            f"requests left up to {show_seconds(verdict.late_s)} late: this machine was busy; the latency includes that"
        )
    return lines


def failure_table(verdict: Verdict) -> Table:
    """One row a failure class."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("failure", style="red", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("first", justify="right", no_wrap=True)
    table.add_column("last", justify="right", no_wrap=True)
    table.add_column("what the client saw")
    for each in verdict.failures:
        told = Text.assemble(meaning(each.name), ("\nfirst: " + each.example, "dim"))
        if each.reused:
            told.append(f"\n{each.reused} on a connection that had carried a request before", "dim")
        if before := seen_before(each):
            told.append(f"\n{before}", "yellow")
        if cause := likely_cause(each, verdict):
            told.append(f"\nlikely cause: {cause}", "yellow")
        first, last = f"{each.first_s:.1f} s", f"{each.last_s:.1f} s"
        table.add_row(escape(each.name), str(each.count), first, last, told)
    return table


def latency_table(phases: Sequence[Latency]) -> Table:
    """Percentiles by phase; `max` is the longest of all."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("latency", style=LATENCY)
    for name in ("sent", "failed", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in phases:
        table.add_row(each.phase, str(each.sent), Text(str(each.failed), "red" if each.failed else ""), *times(each))
    return table


def times(each: Latency) -> list[str]:
    """The percentiles of a phase as text; dashes where nothing was answered well."""
    values = (each.p50_s, each.p90_s, each.p99_s, each.max_s)
    return [show_seconds(value) if each.sent > each.failed else "-" for value in values]


def picture(buckets: Sequence[Bucket], spans: Sequence[Span]) -> list[Text]:
    """The timeline: answered, failed and slowest answer, a column each bucket, with the phases below."""
    if not buckets:
        return []
    answered = [bucket.sent - bucket.failed for bucket in buckets]
    failed = [bucket.failed for bucket in buckets]
    slowest = [bucket.worst_s for bucket in buckets]
    most = max(bucket.sent for bucket in buckets)
    return [
        _row("answered", bars(answered, most), ANSWERED, f"{sum(answered)}"),
        _row("failed", bars(failed, most), FAILED, f"{sum(failed)}"),
        _row("slowest", bars(slowest, max(slowest)), LATENCY, show_seconds(max(slowest))),
        _axis(buckets, spans),
    ]


def bars(values: Sequence[float], most: float) -> str:
    """One block a value, scaled so that `most` is a full one; a value above 0 is never invisible, 0 is a dot."""
    if most <= 0:
        return "·" * len(values)
    top = len(BARS) - 1
    return "".join(BARS[min(round(value / most * top), top)] if value > 0 else "·" for value in values)


def _row(name: str, line: str, style: str, total: str) -> Text:
    return Text.assemble((f"{name:>9} ", "dim"), (line, style), (f" {total}", "dim"), no_wrap=True)


def _axis(buckets: Sequence[Bucket], spans: Sequence[Span]) -> Text:
    """The phases' names under their columns, then the length of the run."""
    width = buckets[1].start_s if len(buckets) > 1 else 1.0
    names = [next((span.name for span in spans if bucket.start_s < span.end_s), spans[-1].name) for bucket in buckets]
    line = Text(f"{'':>10}", no_wrap=True)
    for name, columns in groupby(names):
        count = len(list(columns))
        line.append(
            ("└" + name[: count - 2]).ljust(count - 1, "─")[: count - 1] + "┘" if count > 1 else "┴",
            SHADE.get(name, "dim"),
        )
    line.append(f" {show_seconds(width * len(buckets))}", "dim")
    return line
