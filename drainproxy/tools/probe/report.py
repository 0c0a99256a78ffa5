"""How does a person, or a script, read the verdict? The report in the terminal, and the same as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drainproxy.tools.probe.verdict import AFTER, BEFORE, DURING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from drainproxy.tools.probe.measure import Measurement
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


def print_report(console: Console, target: str, measurement: Measurement) -> None:
    """The whole report, verdict first."""
    verdict = measurement.verdict
    console.print()
    style, mark = ("bold green", "✓") if verdict.ok else ("bold red", "✗")
    console.print(Text(f"{mark} {verdict.headline}", style))
    console.print(Text(target, "dim"))
    for line in notes(measurement):
        console.print(Text(f"  {line}", "yellow"))
    if measurement.command is not None and measurement.command.exit_code != 0:
        console.print(Text("  The command failed, so this says little about a rollout.", "bold red"))
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


def notes(measurement: Measurement) -> list[str]:
    """What a reader must know to trust the numbers."""
    verdict, command = measurement.verdict, measurement.command
    lines = []
    if command is not None:
        ran = show_seconds(command.end_s - command.start_s)
        lines.append(f"`{' '.join(command.argv)}` ran for {ran}, exit code {command.exit_code}")
    if measurement.interrupted:
        lines.append("ended early, on request")
    if verdict.unfinished:
        lines.append(f"{verdict.unfinished} requests had not ended when the measurement did; they count neither way")
    if verdict.retried:
        lines.append(f"{verdict.retried} requests were sent a second time, as --retry asks (their connection had died)")
    if verdict.unchecked:
        lines.append(
            f"{verdict.unchecked} responses had no length and no chunks: if one of them was cut, nobody can tell"
        )
    if verdict.late_s > _LATE_WORTH_SAYING_S:
        lines.append(
            f"requests left up to {show_seconds(verdict.late_s)} late: this machine was busy; the latency includes it"
        )
    return lines


def failure_table(verdict: Verdict) -> Table:
    """One row a failure class."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("failure", style="red", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("first", justify="right", no_wrap=True)
    table.add_column("last", justify="right", no_wrap=True)
    table.add_column("what it means / first example")
    for each in verdict.failures:
        example = Text.assemble(each.meaning, ("\n" + each.example, "dim"))
        if each.reused:
            example.append(f"\n{each.reused} on a connection that had carried a request before", "dim")
        first, last = f"{each.first_s:.1f} s", f"{each.last_s:.1f} s"
        table.add_row(escape(each.name), str(each.count), first, last, example)
    return table


def latency_table(phases: Sequence[Latency]) -> Table:
    """Percentiles by phase; `max` is the longest of all."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("latency", style=LATENCY)
    for name in ("sent", "failed", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in phases:
        times = (each.p50_s, each.p90_s, each.p99_s, each.max_s)
        measured = each.sent > each.failed
        shown = [show_seconds(value) if measured else "-" for value in times]
        table.add_row(each.phase, str(each.sent), Text(str(each.failed), "red" if each.failed else ""), *shown)
    return table


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


def as_json(target: str, measurement: Measurement) -> dict[str, object]:
    """The report for scripts. Times are seconds since `started_at`, latencies milliseconds."""
    verdict = measurement.verdict

    def clock(seconds: float) -> str:
        return datetime.fromtimestamp(measurement.started_at + seconds, UTC).isoformat(timespec="milliseconds")

    return {
        "ok": verdict.ok,
        "verdict": verdict.headline,
        "target": target,
        "started_at": clock(0),
        "length_s": _round(verdict.length_s),
        "sent": verdict.sent,
        "failed": verdict.failed,
        "retried": verdict.retried,
        "unchecked": verdict.unchecked,
        "unfinished": verdict.unfinished,
        "interrupted": measurement.interrupted,
        "command": asdict(measurement.command) if measurement.command else None,
        "failures": [
            {
                "class": each.name,
                "count": each.count,
                "on_reused_connection": each.reused,
                "first_s": _round(each.first_s),
                "first_at": clock(each.first_s),
                "last_s": _round(each.last_s),
                "last_at": clock(each.last_s),
                "example": each.example,
                "meaning": each.meaning,
            }
            for each in verdict.failures
        ],
        "latency": {
            each.phase: {
                "sent": each.sent,
                "failed": each.failed,
                **{
                    f"{name}_ms": _round(value * 1000)
                    for name, value in zip(
                        ("p50", "p90", "p99", "max"), (each.p50_s, each.p90_s, each.p99_s, each.max_s), strict=True
                    )
                },
            }
            for each in verdict.latency
        },
        "longest_s": _round(verdict.longest_s),
        "sender_late_ms": _round(verdict.late_s * 1000),
        "pods": dict(verdict.pods),
        "timeline": [
            {
                "at_s": _round(each.start_s),
                "sent": each.sent,
                "failed": each.failed,
                "worst_ms": _round(each.worst_s * 1000),
            }
            for each in verdict.buckets
        ],
    }


def _round(value: float) -> float:
    return round(value, 3)
