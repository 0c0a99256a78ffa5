"""What can be seen at a glance? Pictures for docs/benchmarks.md, as SVG files that differ only where the figures do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.bench.measurement import Measurement, Result

COLOURS = {
    "drainproxy": "#0b7285",
    "compiled": "#e8590c",
    "envoy": "#c2255c",
    "haproxy": "#868e96",
    "nginx": "#2f9e44",
    "direct": "#343a40",
}
OVERVIEW = (
    "http1-small", "http1-connect", "http1-access-log", "http2-small", "grpc", "grpc-stream", "websocket", "tls-small",
    "tls-resume", "download-1mib", "upload-1mib", "http2-download-4mib", "http2-upload-4mib", "memory-idle",
    "memory-connections",
)  # fmt: skip
"""Each by its compared metric, as a share of Envoy's."""
LATENCY = ("p50", "p99", "p99.9")


def draw(directory: Path, measurements: Sequence[Measurement], results: Mapping[str, Result]) -> list[str]:
    """Write what the results suffice for; returns the files' names. ImportError without matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, needed for the pictures only

    mpl.use("Agg")
    mpl.rcParams.update(
        {"svg.hashsalt": "drainproxy", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    drawn = []
    by_name = {each.name: each for each in measurements}
    shares = [name for name in OVERVIEW if name in results and _share(by_name[name], results[name], "drainproxy")]
    if shares:
        drawn.append(_save(directory, "benchmarks-overview.svg", _overview(shares, by_name, results)))
    if "latency" in results and "drainproxy" in results["latency"].samples:
        drawn.append(_save(directory, "benchmarks-latency.svg", _latency(results["latency"])))
    drawn += [
        _save(directory, f"benchmarks-{name}.svg", _curve(each, results[name]))
        for name, each in by_name.items()
        if each.curve and name in results and results[name].samples
    ]
    return drawn


def _share(measurement: Measurement, result: Result, peer: str) -> float | None:
    """The compared metric as a share of Envoy's."""
    key = next(metric.key for metric in measurement.metrics if metric.ratio)
    ratio = result.ratio(peer, "envoy", key)
    return ratio.median if ratio else None


def _figure(width: float, height: float, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    return figure, axes


def _overview(names: Sequence[str], by_name: Mapping[str, Measurement], results: Mapping[str, Result]) -> Any:
    figure, axes = _figure(8, 0.55 * len(names) + 1.2, "CPU and memory as a share of Envoy's (less is better)")
    here = {peer for name in names for peer in results[name].samples}
    peers = [peer for peer in ("drainproxy", "compiled", "haproxy", "nginx") if peer in here]
    apart = 0.78 / len(peers)
    for place, peer in enumerate(peers):
        values = [_share(by_name[name], results[name], peer) or 0.0 for name in names]
        rows = [row + apart * (place - (len(peers) - 1) / 2) for row in range(len(names))]
        bars = axes.barh(rows, values, 0.9 * apart, color=COLOURS[peer], label=peer)
        if peer in ("drainproxy", "compiled"):
            axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1.0, color=COLOURS["envoy"], linewidth=1, label="envoy")
    axes.set_yticks(range(len(names)), [by_name[name].title for name in names])
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="lower right")
    return figure


def _latency(result: Result) -> Any:
    figure, axes = _figure(8, 2.8, "Latency at a fixed rate, from when a request was due")
    peers = list(result.samples)
    for place, peer in enumerate(peers):
        values = [(result.figure(peer, key)) for key in LATENCY]
        offset = 0.8 / len(peers)
        axes.bar(
            [group + offset * (place - (len(peers) - 1) / 2) for group in range(len(LATENCY))],
            [value.median if value else 0.0 for value in values], 0.9 * offset, color=COLOURS.get(peer), label=peer,
        )  # fmt: skip
    axes.set_xticks(range(len(LATENCY)), LATENCY)
    axes.set_ylabel("µs")
    axes.legend(frameon=False)
    return figure


def _curve(measurement: Measurement, result: Result) -> Any:
    figure, axes = _figure(8, 3.2, f"{measurement.title}: {measurement.metrics[0].title}")
    key, steps = measurement.metrics[0].key, result.steps()
    for peer in result.samples:
        spreads = [result.figure(peer, f"{key}@{step}") for step in steps]
        points = [(step, each) for step, each in zip(steps, spreads, strict=True) if each]
        colour = COLOURS.get(peer)
        axes.plot(
            [step for step, _ in points],
            [each.median for _, each in points],
            marker="o",
            markersize=3,
            color=colour,
            label=peer,
        )
        axes.fill_between(
            [step for step, _ in points],
            [each.low for _, each in points],
            [each.high for _, each in points],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log")
    axes.set_xticks(steps, [f"{step:,}".replace(",", " ") for step in steps])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(measurement.curve)
    axes.set_ylabel(measurement.metrics[0].unit)
    axes.legend(frameon=False)
    return figure


def _save(directory: Path, name: str, figure: Any) -> str:
    """White behind it, so that it can be read on a dark page, too."""
    figure.savefig(directory / name, metadata={"Date": None, "Creator": None}, facecolor="white")
    return name
