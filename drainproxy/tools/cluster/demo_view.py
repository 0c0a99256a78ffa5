"""How is the demo shown? Progress while it runs, then one table, one picture, one sentence."""

from __future__ import annotations

import time
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from drainproxy.tools.cluster.cluster import describe
from drainproxy.tools.probe import html
from drainproxy.tools.probe.live import Drawing
from drainproxy.tools.probe.plot import Panel, draw
from drainproxy.tools.probe.report import ANSWERED, FAILED, bars, picture, show_seconds
from drainproxy.tools.probe.verdict import DURING, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType

    from drainproxy.tools.cluster.demo import Run, Stage, Told

_COLUMNS = 40
_POD_STYLE = {"ready": "green", "starting": "dim", "terminating": "yellow"}


class DemoView:
    """The stages so far, redrawn on a terminal; a line a step elsewhere."""

    def __init__(self, console: Console) -> None:
        self.stages: list[Stage] = []
        self._console = console
        self._drawn = Drawing(console, self.render)
        self._spoken = ""

    def __enter__(self) -> DemoView:
        self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop()

    def changed(self) -> None:
        """Something moved. Without a terminal: say it when the step is a new one."""
        if self._console.is_terminal or not self.stages:
            return
        stage = self.stages[-1]
        line = f"{stage.name}: {stage.step}"
        if line != self._spoken:
            self._spoken = line
            self._console.print(Text(line))

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        return Group(*(self._stage(stage) for stage in self.stages))

    def _stage(self, stage: Stage) -> RenderableType:
        samples = stage.load.samples if stage.load is not None else []
        failed = sum(sample.failed for sample in samples)
        elapsed = stage.load.elapsed_s() if stage.load is not None else 0.0
        head = Text.assemble(
            (f"{stage.name:<15}", "bold"),
            (f"{stage.step:<14}", "cyan"),
            f"{len(samples):>5} requests  ",
            (f"{failed} failed", FAILED if failed else "dim"),
        )
        if stage.step == "done":
            return head
        buckets = timeline(samples, max(elapsed, 1.0), _COLUMNS)
        most = max((bucket.sent for bucket in buckets), default=0)
        return Group(
            head,
            Text.assemble("  ", (bars([bucket.sent - bucket.failed for bucket in buckets], most), ANSWERED)),
            Text.assemble("  ", (bars([bucket.failed for bucket in buckets], most), FAILED)),
            Text("  ") + _pods(stage),
        )


def _pods(stage: Stage) -> Text:
    line = Text(no_wrap=True)
    if stage.cluster is not None:
        for pod in stage.cluster.pods.values():
            state = describe(pod)
            line.append(f"{pod.name} {state}   ", _POD_STYLE.get(state, ""))
    return line


def print_result(console: Console, runs: Sequence[Run], good: bool, sentence: str, told: Told) -> None:
    """Verdict first, then the table, then a timeline for each run, then what was set and what is simulated."""
    console.print()
    console.print(Text(f"{'✓' if good else '✗'} {sentence}", "bold green" if good else "bold red"))
    console.print()
    console.print(result_table(runs, told.row))
    longest = max(sample.due_s for run in runs for sample in run.samples)
    for run in runs:
        due = max(sample.due_s for sample in run.samples)
        columns = max(int(60 * due / longest), 10)
        console.print()
        console.print(Text(run.name, "bold"))
        for row in picture(timeline(run.samples, due, columns), run.verdict.spans):
            console.print(row)
    console.print()
    for name, value in told.settings.items():
        console.print(Text.assemble((f"{name:>15}  ", "dim"), value), soft_wrap=True)
    console.print(Text(told.note, "dim"))


def fault_names(runs: Sequence[Run]) -> list[str]:
    """Every failure class of any run, the most frequent first."""
    counts: Counter[str] = Counter()
    for run in runs:
        for each in run.verdict.failures:
            counts[each.name] += each.count
    return [name for name, _ in counts.most_common()]


def rows(runs: Sequence[Run], what: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the demo's table, as text."""
    faults = fault_names(runs)
    head = [what, "requests", "failed", *faults, "took", "longest served"]
    body = []
    for run in runs:
        counts = {each.name: each.count for each in run.verdict.failures}
        body.append(
            [
                run.name,
                str(run.verdict.sent),
                str(run.verdict.failed),
                *(str(counts.get(name, 0)) for name in faults),
                show_seconds(run.rollout_s),
                show_seconds(run.verdict.longest_s),
            ]
        )
    return head, body


def result_table(runs: Sequence[Run], what: str) -> Table:
    """Failed requests by class, how long the rollout took, the longest request that was served."""
    head, body = rows(runs, what)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(head[0], style="bold", no_wrap=True)
    for name in head[1:]:
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for cells in body:
        style = FAILED if cells[2] != "0" else "bold green"
        table.add_row(cells[0], cells[1], Text(cells[2], style), *cells[3:])
    return table


def svg(runs: Sequence[Run]) -> str:
    """The picture: one panel a run, the rollout shaded, each Pod's life below."""
    return draw([_panel(run) for run in runs])


def _panel(run: Run) -> Panel:
    during = next(span for span in run.verdict.spans if span.name == DURING)
    lost = f"{run.verdict.failed} of {run.verdict.sent} requests failed" if run.verdict.failed else "no request failed"
    return Panel(run.name, f"{lost}, {show_seconds(run.rollout_s)}", run.verdict.ok, run.samples, during, run.pods)


def page(runs: Sequence[Run], good: bool, sentence: str, told: Told) -> str:
    """The whole demo as one HTML file."""
    head, body = rows(runs, told.row)
    parts = [html.headline(sentence, good), html.table(head, body), svg(runs)]
    for run in runs:
        if run.verdict.failures:
            parts += [f"<h2>{escape(run.name)}</h2>", html.failure_table(run.verdict)]
    parts += ["<h2>Settings</h2>", html.table(("what", "value"), list(told.settings.items()))]
    parts.append(f"<p>{escape(told.note)}</p>")
    when = time.strftime("%Y-%m-%d %H:%M")
    parts.append(f'<p class="soft">Made by <code>drainproxy demo</code> on {when}: measured in this run.</p>')
    return html.page("drainproxy demo", parts)


def as_json(runs: Sequence[Run], good: bool, sentence: str, told: Told) -> dict[str, object]:
    """The demo's result for scripts. Seconds."""
    return {
        "ok": good,
        "verdict": sentence,
        "settings": told.settings,
        "runs": [
            {
                "name": run.name,
                "sent": run.verdict.sent,
                "failed": run.verdict.failed,
                "failures": {each.name: each.count for each in run.verdict.failures},
                "rollout_s": round(run.rollout_s, 3),
                "longest_served_s": round(run.verdict.longest_s, 3),
            }
            for run in runs
        ],
    }
