"""What does a run look like in a terminal? One plain table a measurement: medians, spread, ratios, goals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measurement import Measurement, Metric, Result, Spread

REFERENCES = ("envoy", "haproxy", "nginx")


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace(",", " ")


def with_spread(figure: Spread, digits: int) -> str:
    """`median (low-high)`, or the median alone when there was no more than one value."""
    if figure.low == figure.high:
        return number(figure.median, digits)
    return f"{number(figure.median, digits)} ({number(figure.low, digits)}-{number(figure.high, digits)})"


def heading(metric: Metric) -> str:
    return f"{metric.title} {metric.unit}".strip()


def rows(measurement: Measurement, result: Result) -> tuple[list[str], list[list[str]]]:
    """The table of one measurement: header and lines, a line a peer, a ratio column for each peer compared with."""
    compared = [metric for metric in measurement.metrics if metric.ratio]
    references = [name for name in REFERENCES if name in result.samples] if compared else []
    header = ["", *(heading(metric) for metric in measurement.metrics), *(f"x {name}" for name in references)]
    lines = []
    for peer in result.samples:
        figures = ((metric, result.figure(peer, metric.key)) for metric in measurement.metrics)
        cells = [with_spread(figure, metric.digits) if figure else "-" for metric, figure in figures]
        ratios = (None if peer == name else result.ratio(peer, name, compared[0].key) for name in references)
        lines.append([peer, *cells, *(with_spread(ratio, 2) if ratio else "" for ratio in ratios)])
    return header, lines


def goal_lines(measurement: Measurement, result: Result) -> Iterator[str]:
    """Whether each goal is met. Only against Envoy, as the goals are set."""
    for goal in measurement.goals:
        ratio = result.ratio("drainproxy", "envoy", goal.metric)
        if ratio is None:
            continue
        verdict = "met" if ratio.median <= goal.at_most else "MISSED"
        aim = ", aim reached" if ratio.median <= goal.aim else f", aim {goal.aim:g}"
        yield f"{goal.metric} {ratio.median:.2f} of Envoy's, at most {goal.at_most:g}: {verdict}{aim}"


def table(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *lines]) for column in range(len(header))]
    aligned = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in [header, *lines]
    ]
    return "\n".join(line.rstrip() for line in aligned)


def show(measurement: Measurement, result: Result) -> str:
    """Everything a terminal shows of one measurement."""
    parts = [f"{measurement.name}: {measurement.title}", table(*rows(measurement, result))]
    parts += [f"  {line}" for line in goal_lines(measurement, result)]
    parts += [f"  left out: {peer}: {why}" for peer, why in result.left_out.items()]
    return "\n".join(parts)
