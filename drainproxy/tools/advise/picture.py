"""What do the distributions look like? A picture for each workload: last arrivals, and lengths of drains. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from drainproxy.drain.advice import Setting, show
from drainproxy.tools.advise.report import LEGEND, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drainproxy.tools.advise.report import Report

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 900, 150, 110, 26, 30
ROW = (HEIGHT - TOP - BOTTOM) / 2
BINS = 90
TICKS = 9
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; font-size: 13px }
svg { font: 12px system-ui, sans-serif; width: 100%; height: auto }
.ink { fill: #24292f } .soft { fill: #656d76 }
.line { stroke: #d0d7de } .arrival { fill: #0969da } .drain { fill: #8250df }
.now { stroke: #9a6700; stroke-width: 2; stroke-dasharray: 4 3 } .best { stroke: #1a7f37; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.ink { fill: #e6edf3 } .soft { fill: #8d96a0 }
.line { stroke: #30363d } .arrival { fill: #58a6ff } .drain { fill: #bc8cff }
.now { stroke: #d29922 } .best { stroke: #3fb950 }
}
"""


def page(found: Sequence[Report]) -> str:
    """One HTML file for all workloads, with nothing from outside."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    parts = [
        f"<h2>{escape(str(report.workload))}</h2>{picture(report)}<pre>{escape(chr(10).join(as_text(report)))}</pre>"
        for report in found
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>drainproxy advise</title><style>{STYLE}</style></head><body>\n<h1>drainproxy advise</h1>\n"
        f"<pre>{escape(LEGEND)}</pre><p>Dashed: the floor as it is; solid: as it should be.</p>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def picture(report: Report) -> str:
    """An SVG: a row of bars for the last arrivals, one for the drains' lengths, on the same axis."""
    elapsed = [each.elapsed_s for each in report.drains]
    floor = next(each for each in report.advice if each.setting is Setting.FLOOR)
    end_s = max(*elapsed, *report.lasts, floor.now_s or 0.0, floor.best_s or 0.0, 1.0) * 1.02
    body = [
        *_bars(report.lasts, end_s, TOP, "arrival"),
        *_bars(elapsed, end_s, TOP + ROW, "drain"),
        *_axis(end_s),
        *_mark(floor.now_s, end_s, "now", "floor"),
        *(_mark(floor.best_s, end_s, "best", "set to") if floor.changes else ()),
    ]
    label = f"{report.workload}: {len(elapsed)} drains, last arrivals and lengths"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label, quote=True)}"><style>{STYLE}</style>{"".join(body)}</svg>'
    )


def _x(at_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - 10) * at_s / end_s


def _bars(values: Sequence[float], end_s: float, top: float, style: str) -> Iterator[str]:
    title = {"arrival": "last arrival", "drain": "drain's length"}[style]
    yield f'<text class="ink" x="{LEFT - 8}" y="{top + ROW - 6:.0f}" text-anchor="end">{title}</text>'
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(BINS * value / end_s))] += 1
    most = max(counts)
    width = (WIDTH - LEFT - 10) / BINS
    for number, count in enumerate(counts):
        if count:
            height = max(1.5, (ROW - 8) * count / most)  # a single drain among thousands is what one looks for
            yield (
                f'<rect class="{style}" x="{LEFT + number * width:.1f}" y="{top + ROW - height:.1f}" '
                f'width="{width - 1:.1f}" height="{height:.1f}"><title>{count}</title></rect>'
            )


def _axis(end_s: float) -> Iterator[str]:
    y = HEIGHT - BOTTOM
    yield f'<line class="line" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" y2="{y}"/>'
    for number in range(TICKS + 1):
        at_s = end_s * number / TICKS
        yield f'<text class="soft" x="{_x(at_s, end_s):.1f}" y="{y + 16}" text-anchor="middle">{show(at_s)}</text>'


def _mark(at_s: float | None, end_s: float, style: str, text: str) -> Iterator[str]:
    if at_s is not None:
        x = _x(at_s, end_s)
        yield f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="soft" x="{x:.1f}" y="11" text-anchor="middle">{text} {show(at_s)}</text>'
