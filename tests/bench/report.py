"""What does a run look like in a terminal? One plain table a measurement: medians, spread, ratios, goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measurement import Goal, Measurement, Metric, Result, Spread

REFERENCES = ("envoy", "haproxy", "nginx")
DIRECT = "direct"


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace(",", " ")


def with_spread(figure: Spread, digits: int) -> str:
    """`median (low-high)`, or the median alone when there was no more than one value."""
    if figure.low == figure.high:
        return number(figure.median, digits)
    return f"{number(figure.median, digits)} ({number(figure.low, digits)}-{number(figure.high, digits)})"


def heading(metric: Metric) -> str:
    return f"{metric.title} {metric.unit}".strip()


def references_in(result: Result) -> list[str]:
    """Whom the others are compared with: the peers, and drainproxy where there is another build or kind of it."""
    others = [name for name in REFERENCES if name in result.samples]
    kinds = result.samples.keys() - {*REFERENCES, DIRECT}
    return [*others, "drainproxy"] if "drainproxy" in kinds and len(kinds) > 1 else others


def rows(measurement: Measurement, result: Result) -> tuple[list[str], list[list[str]]]:
    """The table of one measurement: header and lines, a line a peer, a ratio column for each peer compared with."""
    if measurement.curve:
        return curve_rows(measurement, result)
    compared = next((metric.key for metric in measurement.metrics if metric.ratio), "")
    references = references_in(result) if compared else []
    header = ["", *(heading(metric) for metric in measurement.metrics), *(f"x {name}" for name in references)]
    lines = []
    for peer in result.samples:
        figures = ((metric, result.figure(peer, metric.key)) for metric in measurement.metrics)
        cells = [with_spread(figure, metric.digits) if figure else "-" for metric, figure in figures]
        ratios = (None if peer == name else result.ratio(peer, name, compared) for name in references)
        lines.append([peer, *cells, *(with_spread(ratio, 2) if ratio else "" for ratio in ratios)])
    return header, lines


def curve_rows(measurement: Measurement, result: Result) -> tuple[list[str], list[list[str]]]:
    """A column a step: the first metric, and how far it strays."""
    first, last = measurement.metrics[0], measurement.metrics[-1]
    steps = result.steps()
    header = [f"{heading(first)} by {measurement.curve}", *(number(step, 0) for step in steps), heading(last)]
    lines = []
    for peer in result.samples:
        points = (result.figure(peer, f"{first.key}@{step}") for step in steps)
        swing = result.figure(peer, last.key)
        cells = [number(point.median, first.digits) if point else "-" for point in points]
        lines.append([peer, *cells, with_spread(swing, last.digits) if swing else "-"])
    return header, lines


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what came out."""

    goal: Goal
    figure: Spread
    title: str

    @property
    def met(self) -> bool:
        return self.figure.median <= self.goal.at_most

    def __str__(self) -> str:
        goal, reached = self.goal, self.figure.median
        what = f"{goal.of}: {self.title}: {reached:.2f}" + (f" of {goal.to}'s" if goal.to else "")
        said = f"{what}, at most {goal.at_most:g}: {'met' if self.met else 'MISSED'}"
        if goal.aim is None:
            return said
        return said + (", aim reached" if reached <= goal.aim else f", aim {goal.aim:g}")


def verdicts(measurement: Measurement, result: Result) -> Iterator[Verdict]:
    """Whether each goal is met, where there are figures to tell."""
    titles = {metric.key: heading(metric) for metric in measurement.metrics}
    for goal in measurement.goals:
        metric = goal.metric
        figure = result.ratio(goal.of, goal.to, metric) if goal.to else result.figure(goal.of, metric)
        if figure is not None:
            yield Verdict(goal, figure, titles[metric])


def table(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *lines]) for column in range(len(header))]
    aligned = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *lines]
    ]
    return "\n".join(line.rstrip() for line in aligned)


def show(measurement: Measurement, result: Result) -> str:
    """Everything a terminal shows of one measurement."""
    parts = [f"{measurement.name}: {measurement.title}", table(*rows(measurement, result))]
    parts += [f"  {line}" for line in verdicts(measurement, result)]
    parts += [f"  left out: {peer}: {why}" for peer, why in result.left_out.items()]
    return "\n".join(parts)
