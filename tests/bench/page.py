"""What does docs/benchmarks.md say? Written whole from the results of one run, nothing by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.report import rows, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.bench.measurement import Measurement, Result

TOP = """# What drainproxy costs

Every Pod has its own sidecar, so the cost counts for each Pod. These are the figures of one run on one machine. Compare
the columns with each other, but not with numbers from another machine.

From a checkout, with GNU make and as root (it installs the other proxies):

```sh
make bench ARGS=--compiled                                            # measure everything, and write this page
make bench ARGS="--only latency --only start --rounds 3 --markdown"   # print some of its sections
.venv/bin/python -m tests.bench history                               # a page of all runs, by commit
```

The first command takes more than an hour and needs a machine without other work. Each run is also stored in
`build/bench`, with its commit, date, Python and machine. The page of all runs shows ratios only, since nothing else can
be compared between runs.

Each proxy is a reverse proxy with one worker in front of the same app, without an access log unless the section
says so, with keep-alive connections to the app, forwarded headers, request ids and timeouts. It has its own core; the
load and the app share another one. For each figure, a new process is started and warmed up. The proxies take turns
within each round, and each round begins with a different proxy.

**drainproxy** is pure Python here, and **compiled** the same source [compiled](compiled.md).

- **CPU** is the user and system time of all threads of the proxy's process, divided by the number of its answers. It is
  what a sidecar takes away from the app. Time that the kernel spends on network interrupts counts for the process that
  runs at that moment.
- **x envoy**, **x haproxy**, **x nginx**, **x drainproxy**: the first figure of the row divided by that of the other
  proxy, round by round, so that disturbances of a whole round cancel out. Less than 1 is better.
- Figures are medians; the smallest and largest value of all rounds are in brackets.
- *core busy* below 90 % means that the load or the app was the limit; then requests/s says nothing about the proxy.
- nginx, HAProxy and Envoy use their default buffers. nginx passes HTTP/2 to the app with `grpc_pass`.
"""

BEWARE = """
**Beware:** {why}. Take the ratios as a rough guide; a run of five rounds on a machine without other work is needed for
more.
"""

GOALS = """
## Goals

| measured | of | goal | result | |
|---|---|---|---|---|
"""


def page(
    measurements: Sequence[Measurement], results: Mapping[str, Result], facts: Mapping[str, str], plots: Iterable[str]
) -> str:
    """The page. `plots`: names of the picture files next to it."""
    shown = [each for each in measurements if each.name in results]
    parts = [TOP]
    if facts.get("beware"):
        parts.append(BEWARE.lstrip("\n").format(why=facts["beware"]))
    parts += [f"![{_what(name)}]({name})\n" for name in plots]
    goals = [f"| {each.title} | {line} |" for each in shown for line in _goals(each, results[each.name])]
    if goals:
        parts.append(GOALS.strip("\n") + "\n" + "\n".join(goals) + "\n")
    parts += [section(each, results[each.name]) for each in shown]
    parts.append("## The run\n\n| | |\n|---|---|\n" + "".join(_line(pair) for pair in facts.items() if all(pair)))
    return "\n".join(parts)


def _what(picture: str) -> str:
    """For those who do not see it: `benchmarks-in-flight.svg` is a chart of in flight."""
    return "chart: " + picture.removeprefix("benchmarks-").removesuffix(".svg").replace("-", " ")


def _goals(measurement: Measurement, result: Result) -> Iterable[str]:
    for verdict in verdicts(measurement, result):
        goal = verdict.goal
        unit = f" of {goal.to.capitalize()}'s" if goal.to else ""
        aim = "" if goal.aim is None else f", aim {goal.aim:g}"
        what = f"{goal.of} | {verdict.title}: at most {goal.at_most:g}{unit}{aim}"
        mark = "met" if verdict.met else "**missed**"
        yield f"{what} | {verdict.figure.median:.2f} | {mark}"


def section(measurement: Measurement, result: Result) -> str:
    """A measurement's own part of the page."""
    header, lines = rows(measurement, result)
    text = f"## {measurement.title}\n\n`{measurement.name}`: {measurement.how}.\n"
    if lines:
        text += "\n" + _line(header) + "|---|" + "---:|" * (len(header) - 1) + "\n" + "".join(map(_line, lines))
    return text + "".join(f"\n{peer} is left out: {_cell(why)}.\n" for peer, why in result.left_out.items())


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
