"""What does a run look like? An SVG: each request a dot at (due, latency), each failure a cross, each Pod a bar.

Pure: data in, text out. Everything that comes from elsewhere is escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drainproxy.tools.probe.verdict import Bucket, Sample, Span

WIDTH, LEFT, RIGHT = 960, 84, 16
PLOT_HEIGHT, FAILURE_ROW, BAR = 170, 22, 12
MAX_DOTS = 3000
LEGEND = "dot: a request, by when it was due and how long it took; cross: a failed one; shaded: the change"
POD_LEGEND = "bar: a Pod or process, grey while it starts, green while it is ready, amber while it terminates"
_FASTEST_S = 0.001
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_MAX_TICKS = 12

STYLE = """
svg { font: 12px system-ui, sans-serif; }
.bg { fill: #ffffff } .ink { fill: #24292f } .soft { fill: #656d76 } .grid { stroke: #d0d7de; stroke-width: 1 }
.ok { fill: #1a7f37; fill-opacity: .55 } .bad { stroke: #cf222e; stroke-width: 1.6; fill: none }
.badtext { fill: #cf222e; font-weight: 600 } .oktext { fill: #1a7f37; font-weight: 600 }
.shade { fill: #ddf4ff; fill-opacity: .6 } .starting { fill: #afb8c1 }
.band { fill: #afb8c1; fill-opacity: .15 } .badband { fill: #cf222e; fill-opacity: .15 }
.ready { fill: #4ac26b } .ending { fill: #e3a008 }
.title { font-size: 14px; font-weight: 600 }
.p50, .p99, .max { fill: none; stroke-width: 1.6 }
.p50 { stroke: #1a7f37 } .p99 { stroke: #9a6700 } .max { stroke: #8250df }
@media (prefers-color-scheme: dark) {
.bg { fill: #0d1117 } .ink { fill: #e6edf3 } .soft { fill: #8d96a0 } .grid { stroke: #30363d }
.ok { fill: #3fb950 } .bad { stroke: #f85149 } .badtext { fill: #f85149 } .oktext { fill: #3fb950 }
.shade { fill: #121d2f; fill-opacity: .9 } .starting { fill: #6e7681 }
.ready { fill: #238636 } .ending { fill: #bb8009 }
}
"""
"""The one style sheet of pictures and pages; follows the reader's light or dark setting."""


@dataclass(frozen=True, slots=True)
class PodBar:
    """One Pod's life in seconds on the run's time axis; `end_s` None: it outlived the run."""

    name: str
    start_s: float
    ready_s: float | None
    ending_s: float | None
    end_s: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One run: its title, the sentence beside it, the traffic, the shaded span, and the Pods below.

    Panels that are drawn together are moved so that their shaded spans begin at the same place.
    """

    title: str
    note: str
    good: bool
    samples: Sequence[Sample]
    during: Span | None = None
    pods: Sequence[PodBar] = field(default=())


def draw(panels: Sequence[Panel]) -> str:
    """A standalone SVG with the panels one under the other, all on the same time and latency axes."""
    begins = [panel.during.start_s if panel.during is not None else 0.0 for panel in panels]
    shifts = [max(begins, default=0.0) - begin for begin in begins]
    ends = [s.end_s + shift for panel, shift in zip(panels, shifts, strict=True) for s in panel.samples]
    length = max(ends, default=1.0) or 1.0
    slowest = max((s.latency_s for panel in panels for s in panel.samples if not s.failed), default=1.0)
    body, top = [], 8.0
    for panel, shift in zip(panels, shifts, strict=True):
        drawn, height = _panel(panel, _Axes(length, max(slowest, 0.1), shift), top)
        body += drawn
        top += height + 18
    for line in (LEGEND, POD_LEGEND)[: 2 if any(panel.pods for panel in panels) else 1]:
        body.append(f'<text class="soft" x="{LEFT}" y="{top:.0f}">{line}</text>')
        top += 16
    label = escape("; ".join(f"{panel.title}: {panel.note}" for panel in panels), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{label}">'
        f"<style>{STYLE}</style>"
        f'<rect class="bg" width="{WIDTH}" height="{top:.0f}"/>' + "".join(body) + "</svg>\n"
    )


@dataclass(frozen=True, slots=True)
class _Axes:
    """Seconds to pixels. Latency is on a log scale: 2 ms and 10 s are both of interest."""

    length_s: float
    slowest_s: float
    shift_s: float = 0.0

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max((at_s + self.shift_s) / self.length_s, 0.0), 1.0)

    def y(self, latency_s: float) -> float:
        low, high = log10(_FASTEST_S), self._top
        return PLOT_HEIGHT * (1 - (log10(max(latency_s, _FASTEST_S)) - low) / (high - low))

    @property
    def decades(self) -> list[float]:
        return [10.0**n for n in range(-3, self._top + 1)]

    @property
    def _top(self) -> int:
        """The scale ends at a full decade above the slowest: slow answers stay clear of the failures' row."""
        return floor(log10(self.slowest_s)) + 1

    @property
    def ticks(self) -> list[float]:
        step = next((step for step in _TICKS if self.length_s / step <= _MAX_TICKS), _TICKS[-1])
        return [float(n * step) for n in range(int(self.length_s / step) + 1)]


def _panel(panel: Panel, axes: _Axes, top: float) -> tuple[list[str], float]:
    """The panel's elements and its height."""
    head = 24.0
    plot = top + head + FAILURE_ROW
    bottom = plot + PLOT_HEIGHT
    bars_top = bottom + 24
    height = head + FAILURE_ROW + PLOT_HEIGHT + 24 + len(panel.pods) * (BAR + 3)
    verdict = "oktext" if panel.good else "badtext"
    parts = [
        f'<text class="ink title" x="{LEFT}" y="{top + 14:.0f}">{escape(panel.title)}'
        f'<tspan class="{verdict}" dx="12" font-size="12">{escape(panel.note)}</tspan></text>'
    ]
    if panel.during is not None:
        left, right = axes.x(panel.during.start_s), axes.x(panel.during.end_s)
        parts.append(
            f'<rect class="shade" x="{left:.1f}" y="{top + head:.1f}" width="{max(right - left, 1):.1f}" '
            f'height="{height - head:.1f}"/>'
        )
    parts += _grid(axes, plot, bottom)
    parts += _failure_row(sum(sample.failed for sample in panel.samples), plot)
    parts += _dots(panel.samples, axes, plot)
    parts += _crosses(panel.samples, axes, plot - FAILURE_ROW / 2 - 3)
    over_s = max((sample.end_s for sample in panel.samples), default=0.0)
    for number, pod in enumerate(panel.pods):
        parts += _bar(pod, over_s, axes, bars_top + number * (BAR + 3))
    return parts, height


def _grid(axes: _Axes, plot: float, bottom: float) -> list[str]:
    parts = []
    for decade in axes.decades:
        y = plot + axes.y(decade)
        label = f"{decade:g} s" if decade >= 1 else f"{decade * 1000:g} ms"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in axes.ticks:
        x = axes.x(tick - axes.shift_s)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{tick:g} s</text>')
    return parts


def _failure_row(failed: int, plot: float) -> list[str]:
    """A band of its own above the answers, in red with the count where there is something to count."""
    top, style = plot - FAILURE_ROW, "badtext" if failed else "soft"
    band = f'<rect class="{"badband" if failed else "band"}" x="{LEFT}" y="{top:.0f}" width="{WIDTH - LEFT - RIGHT}" '
    label = "failed" if not failed else f"{failed} failed"
    return [
        f'{band}height="{FAILURE_ROW - 6}"/>',
        f'<text class="{style}" x="{LEFT - 6}" y="{top + 12:.0f}" text-anchor="end">{label}</text>',
    ]


def _dots(samples: Sequence[Sample], axes: _Axes, plot: float) -> list[str]:
    """Good answers. Of very many, the slowest of each neighbourhood: an outlier is never thinned out."""
    good = [sample for sample in samples if not sample.failed]
    return [
        f'<circle class="ok" cx="{axes.x(s.due_s):.1f}" cy="{plot + axes.y(s.latency_s):.1f}" r="1.8"/>'
        for s in _thinned(good)
    ]


def draw_percentiles(buckets: Sequence[Bucket], length_s: float, during: Span | None) -> str:
    """A standalone SVG: the latency of good answers over time, its median and its slow end."""
    slowest = max((bucket.worst_s for bucket in buckets), default=0.0)
    axes = _Axes(length_s or 1.0, max(slowest, 0.1))
    top, bottom = 24.0, 24.0 + PLOT_HEIGHT
    parts = [f'<text class="ink title" x="{LEFT}" y="14">latency of good answers over time</text>']
    if during is not None:
        left, right = axes.x(during.start_s), axes.x(during.end_s)
        width = max(right - left, 1)
        parts.append(f'<rect class="shade" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{PLOT_HEIGHT}"/>')
    parts += _grid(axes, top, bottom)
    step = buckets[1].start_s if len(buckets) > 1 else length_s
    names = (("max", "worst_s"), ("p99", "p99_s"), ("p50", "p50_s"))
    for place, (name, attribute) in enumerate(names):
        points = [
            (axes.x(bucket.start_s + step / 2), top + axes.y(getattr(bucket, attribute)))
            for bucket in buckets
            if bucket.sent > bucket.failed
        ]
        parts.append(f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        x = WIDTH - RIGHT - 150 + place * 50
        parts.append(f'<path class="{name}" d="M{x} 10h16"/><text class="soft" x="{x + 20}" y="14">{name}</text>')
    height = bottom + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="latency over time"><style>{STYLE}</style>'
        f'<rect class="bg" width="{WIDTH}" height="{height:.0f}"/>' + "".join(parts) + "</svg>\n"
    )


def _thinned(good: list[Sample]) -> Iterable[Sample]:
    every = max(ceil(len(good) / MAX_DOTS), 1)
    ordered = sorted(good, key=lambda sample: sample.due_s)
    for start in range(0, len(ordered), every):
        yield max(ordered[start : start + every], key=lambda sample: sample.latency_s)


def _crosses(samples: Sequence[Sample], axes: _Axes, y: float) -> list[str]:
    """Failures, where they were noticed; hovering tells the class."""
    return [
        f'<path class="bad" d="M{axes.x(s.end_s) - 3:.1f} {y - 3:.1f}l6 6m-6 0l6 -6">'
        f"<title>{escape(f'{s.end_s:.2f} s  {s.reply.fault}: {s.reply.detail}')}</title></path>"
        for s in [sample for sample in samples if sample.failed][:MAX_DOTS]
    ]


def _bar(pod: PodBar, over_s: float, axes: _Axes, y: float) -> list[str]:
    """Grey while starting, green while ready, amber while terminating."""
    end = min(pod.end_s, over_s) if pod.end_s is not None else over_s
    ending = pod.ending_s if pod.ending_s is not None else end
    ready = pod.ready_s if pod.ready_s is not None else ending
    stretches = (("starting", pod.start_s, ready), ("ready", ready, ending), ("ending", ending, end))
    parts = [f'<text class="soft" x="{LEFT - 6}" y="{y + BAR - 2:.1f}" text-anchor="end">{escape(pod.name)}</text>']
    for style, start_s, end_s in stretches:
        left, width = axes.x(start_s), axes.x(end_s) - axes.x(start_s)
        if width > 0:
            parts.append(
                f'<rect class="{style}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2">'
                f"<title>{escape(f'{pod.name} {style}: {end_s - start_s:.1f} s')}</title></rect>"
            )
    return parts
