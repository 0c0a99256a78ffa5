"""How did the figures change from commit to commit? One page with a table and a line chart a measurement.

Only ratios are shown: both figures of a ratio come from one run on one machine. Lines join the runs of one machine with
one Python; even there, a step of a few per cent says little.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.measurement import Result
from tests.bench.measures import MEASUREMENTS
from tests.bench.plots import COLOURS
from tests.bench.report import DIRECT, REFERENCES, with_spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.bench.measurement import Measurement, Spread

STORE = Path("build/bench")
"""Where runs are kept, a file each."""
REFERENCE = "envoy"
MACHINE = ("processor", "memory", "kernel", "python")
"""The facts that make runs comparable with each other."""
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 200, 40, 20

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What drainproxy cost, by commit</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} th, td {{ padding: .2rem .8rem; border-bottom: 1px solid #ddd; }}
th {{ text-align: left; }} td {{ font-variant-numeric: tabular-nums; }} svg {{ max-width: 100%; }}
</style></head><body>
<h1>What drainproxy cost, by commit</h1>
<p>Every figure is a ratio: what drainproxy took, divided by what Envoy took in the same run; less than 1 is better. In
brackets: the smallest and largest ratio of all rounds. Ratios of runs on the same machine (the same letter) can be
compared with each other. Microseconds and MiB of different runs cannot, so there are none here. <em>compiled</em> is
the same commit compiled; all others are pure Python.</p>
{runs}
{sections}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One stored run. `machine`: a letter for everything in MACHINE."""

    name: str
    facts: Mapping[str, str]
    results: Mapping[str, Result]
    machine: str


class NotARunError(Exception):
    """The text says which file, and what is wrong with it."""


def stored(places: Iterable[Path]) -> list[Run]:
    """The runs in these files and directories, oldest first. Raises NotARunError or OSError."""
    files = [file for place in places for file in (sorted(place.glob("*.json")) if place.is_dir() else [place])]
    read = sorted((_read(file) for file in files), key=lambda each: each[0].get("date", ""))
    machines = list(dict.fromkeys(_machine(facts) for facts, _ in read))
    return [
        Run(
            f"{facts.get('commit') or facts.get('drainproxy', 'unknown')}, {facts.get('date', 'no date')}",
            facts,
            results,
            _letter(machines.index(_machine(facts))),
        )
        for facts, results in read
    ]


def _read(file: Path) -> tuple[dict[str, str], dict[str, Result]]:
    try:
        run = json.loads(file.read_text())
        facts = {str(key): str(value) for key, value in run["facts"].items()}
        results = [Result(**each) for each in run["results"]]
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise NotARunError(f"{file} is not what `python -m tests.bench --json FILE` writes: {wrong!r}") from wrong
    return facts, {each.name: each for each in results}


def _machine(facts: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(facts.get(key, "") for key in MACHINE)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number)


def page(runs: Sequence[Run]) -> str:
    header = ["run", "machine", *MACHINE, "rounds", "beware"]
    lines = [
        [run.name, run.machine, *_machine(run.facts), run.facts.get("rounds", ""), run.facts.get("beware", "")]
        for run in runs
    ]
    sections = (section(each, runs) for each in MEASUREMENTS)
    return PAGE.format(runs=_table(header, lines), sections="\n".join(filter(None, sections)))


def section(measurement: Measurement, runs: Sequence[Run]) -> str:
    """Table and chart of one measurement; nothing if no run has a ratio for it."""
    compared = next((metric for metric in measurement.metrics if metric.ratio), None)
    if compared is None:
        return ""
    ratios = [dict(_ratios(run.results.get(measurement.name), compared.key)) for run in runs]
    kinds = list(dict.fromkeys(kind for each in ratios for kind in each))
    if not kinds:
        return ""
    lines = [
        [run.name, run.machine, *(with_spread(each[kind], 2) if kind in each else "" for kind in kinds)]
        for run, each in zip(runs, ratios, strict=True)
        if each
    ]
    share = f"{compared.title}, as a share of Envoy's ({measurement.name}: {measurement.how})"
    what = f"<h2>{escape(measurement.title)}</h2>\n<p>{escape(share)}</p>"
    return f"{what}\n{_chart(runs, ratios, kinds)}\n{_table(['run', 'machine', *kinds], lines)}"


def _ratios(result: Result | None, key: str) -> Iterator[tuple[str, Spread]]:
    """Each kind of drainproxy in the result, such as `compiled`, with its share of Envoy's."""
    for kind in result.samples if result else ():
        if kind not in (*REFERENCES, DIRECT) and result and (ratio := result.ratio(kind, REFERENCE, key)):
            yield kind, ratio


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", row(header, "th"), *(row(line, "td") for line in lines), "</table>"])


def _chart(runs: Sequence[Run], ratios: Sequence[Mapping[str, Spread]], kinds: Sequence[str]) -> str:
    """A line for each kind and machine, over the runs in their order; at 1 a line for Envoy."""
    most = 1.1 * max(1.0, *(ratio.median for each in ratios for ratio in each.values()))

    def x(place: int) -> float:
        return LEFT + (WIDTH - 2 * LEFT) * (place + 0.5) / len(runs)

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - value / most)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + BOTTOM * len(kinds)}" width="{WIDTH}" role="img">',
        f'<path d="M{LEFT} {y(0):.1f}H{WIDTH}" stroke="#868e96"/>',
        f'<path d="M{LEFT} {y(1):.1f}H{WIDTH}" stroke="{COLOURS[REFERENCE]}" stroke-dasharray="4"/>',
        f'<text x="0" y="{y(1):.1f}" font-size="12">Envoy</text>',
    ]
    for number, kind in enumerate(kinds):
        colour = COLOURS.get(kind, "#343a40")
        for machine in dict.fromkeys(run.machine for run in runs):
            at = [(n, each[kind]) for n, each in enumerate(ratios) if kind in each and runs[n].machine == machine]
            points = " ".join(f"{x(n):.1f},{y(ratio.median):.1f}" for n, ratio in at)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
            parts += [
                f'<circle cx="{x(n):.1f}" cy="{y(ratio.median):.1f}" r="3" fill="{colour}">'
                f"<title>{escape(f'{kind}, {runs[n].name}, {machine}: {ratio.median:.2f}')}</title></circle>"
                for n, ratio in at
            ]
        below = HEIGHT + BOTTOM * number
        parts.append(f'<text x="{LEFT}" y="{below}" font-size="12" fill="{colour}">{escape(kind)}</text>')
    return "\n".join([*parts, "</svg>"])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench history", description="A page of ratios by commit, from stored runs."
    )
    parser.add_argument(
        "places", nargs="*", type=Path, default=[STORE], metavar="DIR|FILE", help=f"what --json has written ({STORE})"
    )
    parser.add_argument("--out", type=Path, default=STORE / "history.html", metavar="FILE", help="where the page goes")
    given = parser.parse_args(argv)
    try:
        runs = stored(given.places)
    except (NotARunError, OSError) as wrong:
        print(f"history: {wrong}", file=sys.stderr)
        return 2
    if not runs:
        print(f"history: no run in {', '.join(map(str, given.places))}; `make bench` stores one", file=sys.stderr)
        return 2
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(page(runs))
    print(f"written: {given.out}, {len(runs)} run{'s' * (len(runs) > 1)}")
    return 0
