"""What do the boards look like? Plots of the same queries in the same places, for docs, without a Grafana."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from drainproxy.tools.monitoring.boards import Board, Look, Panel, document
from tests.oncall.panels import Query

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from tests.oncall.prometheus import Prometheus, Row

COLUMNS, UNIT_IN = 24, 0.48
"""Grafana's grid, and how large a cell is here."""
GAP = 0.35
UNITS = {"s": " s", "percentunit": " %", "reqps": "/s", "cps": "/s", "Bps": " B/s", "bytes": " MiB"}
SCALES = {"percentunit": 100.0, "bytes": 1 / (1 << 20)}
COLORS = {"green": "#1a7f37", "orange": "#bf8700", "red": "#cf222e"}
INK = "#24292f"
MOST_LEGENDS = 7


def draw(watch: Prometheus, board: Board, path: Path) -> None:
    """The board with what Prometheus has seen, as a PNG."""
    places = [each for each in document(board)["panels"] if each["type"] != "row"]
    panels = [panel for _, row in board.rows for panel in row]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in places)
    with mpl.rc_context({"font.size": 8, "text.color": INK}):
        figure = Figure((COLUMNS * UNIT_IN, height * UNIT_IN), facecolor="white")
        for place, panel in zip(places, panels, strict=True):
            axes = figure.add_axes(_box(place["gridPos"], height))
            axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
            rows = [Query(board, panel, number).rows(watch) for number in range(len(panel.queries))]
            DRAW[panel.look](axes, panel, rows)
        figure.savefig(path, dpi=90)


def _box(at: dict[str, int], height: int) -> tuple[float, float, float, float]:
    """The panel's axes in parts of the figure, with room for title and labels."""
    left, bottom = at["x"] + 1.2, height - at["y"] - at["h"] + 1.4
    return left / COLUMNS, bottom / height, (at["w"] - 1.2 - GAP) / COLUMNS, (at["h"] - 2.3 - GAP) / height


def _legend(panel: Panel, number: int, metric: dict[str, str]) -> str:
    text = panel.queries[number][1]
    for name, value in metric.items():
        text = text.replace("{{" + name + "}}", value)
    return re.sub(r"[, ]*(by )?\{\{\w+\}\}", "", text)


def _scaled(panel: Panel, value: str) -> float:
    return float(value) * SCALES.get(panel.unit, 1.0)


def _graph(axes: Axes, panel: Panel, rows: list[list[Row]]) -> None:
    """Lines over time, bars and areas stacked."""
    start = min((float(row["values"][0][0]) for each in rows for row in each), default=0.0)
    below: dict[int, float] = {}
    for number, each in enumerate(rows):
        for row in sorted(each, key=lambda row: str(row["metric"])):
            xs = [round(float(at) - start) for at, _ in row["values"]]
            ys = [_scaled(panel, value) for _, value in row["values"]]
            if panel.look is not Look.LINES and not any(ys):
                continue
            label = _legend(panel, number, row["metric"])
            if panel.look is Look.LINES:
                axes.plot(xs, ys, label=label, linewidth=1.2, linestyle="--" if number else "-")
                continue
            base = [below.get(x, 0.0) for x in xs]
            top = [low + y for low, y in zip(base, ys, strict=True)]
            axes.fill_between(xs, base, top, label=label, step="post", alpha=0.75, linewidth=0)
            below.update(zip(xs, top, strict=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"seconds; values{UNITS.get(panel.unit, '')}" if panel.unit in UNITS else "seconds", fontsize=7)
    axes.grid(visible=True, color="#d0d7de", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[:MOST_LEGENDS], labels[:MOST_LEGENDS], fontsize=6, frameon=False, loc="upper left")


def _number(axes: Axes, panel: Panel, rows: list[list[Row]]) -> None:
    """One value, on the colour of its step."""
    value = _scaled(panel, rows[0][0]["value"][1]) if rows[0] else None
    axes.set_axis_off()
    shown = "no data" if value is None else f"{value:g}{UNITS.get(panel.unit, '')}"
    axes.text(0.5, 0.45, shown, ha="center", va="center", fontsize=18, color=_color(panel, value))


def _gauges(axes: Axes, panel: Panel, rows: list[list[Row]]) -> None:
    """A bar for each series."""
    found = [(_legend(panel, 0, row["metric"]), float(row["value"][1])) for row in reversed(rows[0])]
    names = [name for name, _ in found]
    scale = SCALES.get(panel.unit, 1.0)
    axes.barh(names, [value * scale for _, value in found], color=[_color(panel, value) for _, value in found])
    axes.tick_params(axis="y", labelsize=6, direction="in", pad=-4)
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")
    axes.set_xlabel(UNITS.get(panel.unit, "").strip(), fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _table(axes: Axes, panel: Panel, rows: list[list[Row]]) -> None:
    """A row for each set of labels, a column for each query."""
    cells: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for (_, title), each in zip(panel.queries, rows, strict=True):
        for row in each:
            key = tuple(sorted(row["metric"].items()))
            cells.setdefault(key, {})[title] = f"{float(row['value'][1]):.3g}"
    names = sorted({name for key in cells for name, _ in key})
    titles = [title for _, title in panel.queries]
    text = [[*(dict(key).get(name, "") for name in names), *(c.get(t, "") for t in titles)] for key, c in cells.items()]
    axes.set_axis_off()
    if text:
        made: Any = axes.table(text, colLabels=[*names, *titles], loc="upper left", cellLoc="left", edges="horizontal")
        made.auto_set_font_size(False)
        made.set_fontsize(7)


def _color(panel: Panel, value: float | None) -> str:
    reached = [color for least, color in panel.steps if value is not None and value >= least]
    return COLORS[reached[-1]] if reached else "#0969da"


DRAW = {
    Look.LINES: _graph,
    Look.AREAS: _graph,
    Look.BARS: _graph,
    Look.NUMBER: _number,
    Look.GAUGES: _gauges,
    Look.TABLE: _table,
}
