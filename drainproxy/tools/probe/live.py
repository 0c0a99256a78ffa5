"""What is seen while the traffic runs? A view that redraws itself on a terminal; plain lines everywhere else."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from drainproxy.tools.probe.measure import Watcher
from drainproxy.tools.probe.report import ANSWERED, FAILED, LATENCY, bars, show_seconds
from drainproxy.tools.probe.verdict import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.console import Console, RenderableType

    from drainproxy.tools.probe.load import Load
    from drainproxy.tools.probe.verdict import Sample

RECENT_S = 5.0
_SHOWN_FAILURES = 5
_PLAIN_EVERY_S = 5.0
_MAX_COLUMNS = 60
_REDRAW_EVERY_S = 0.25


class Drawing:
    """Redraws what `render` returns, from the loop itself: rich's own thread would meet half-made states.

    On a console that is no terminal it does nothing.
    """

    def __init__(self, console: Console, render: Callable[[], RenderableType]) -> None:
        self._live = Live(get_renderable=render, console=console, auto_refresh=False, transient=True)
        self._terminal = console.is_terminal
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Needs a running loop."""
        if self._terminal:
            self._live.start()
            self._task = asyncio.create_task(self._redraw(), name="live view")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._live.stop()

    async def _redraw(self) -> None:
        while True:
            self._live.refresh()
            await asyncio.sleep(_REDRAW_EVERY_S)


class View(Watcher):
    """Progress of all loads, by their targets, on `console`, until it is left as a context.

    `heard` is told of every sample, with its target.
    """

    def __init__(
        self, console: Console, loads: Mapping[str, Load], heard: Callable[[str, Sample], None] = lambda *_: None
    ) -> None:
        self._console, self._loads, self._heard = console, loads, heard
        self._title = ", ".join(loads)
        for target, load in loads.items():
            load.on_sample = partial(self._sample, target)
        self._start = time.monotonic()
        self._phase = ""
        self._sent = self._failed = 0
        self._recent: deque[tuple[float, float]] = deque()
        self._columns: list[tuple[int, int]] = []
        self._failures: deque[str] = deque(maxlen=_SHOWN_FAILURES)
        self._classes: Counter[str] = Counter()
        self._spoken_at = self._start
        self._drawing = console.is_terminal
        self._drawn = Drawing(console, self.render)

    def __enter__(self) -> View:
        self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop()

    def _sample(self, target: str, sample: Sample) -> None:
        """One request has ended."""
        self._heard(target, sample)
        now = self._now()
        self._sent += 1
        second = int(sample.due_s)
        while len(self._columns) <= second:
            self._columns.append((0, 0))
        good, bad = self._columns[second]
        self._columns[second] = (good + (not sample.failed), bad + sample.failed)
        self._recent.append((now, -1.0 if sample.failed else sample.latency_s))
        if sample.failed:
            self._failed += 1
            fault = sample.reply.fault
            self._classes[fault] += 1
            where = f"  {target}" if len(self._loads) > 1 else ""
            line = f"{sample.end_s:7.1f} s{where}  {fault}: {sample.reply.detail}"
            self._failures.append(line)
            if not self._drawing and self._classes[fault] == 1:
                self._say(f"first {line.strip()}")
        if not self._drawing and time.monotonic() - self._spoken_at >= _PLAIN_EVERY_S:
            self._say(self._summary(now))

    def phase(self, name: str) -> None:
        self._phase = name
        if name and not self._drawing:
            self._say(f"{self._now():5.1f} s  {name}")

    def waits(self, reason: str) -> None:
        self._console.print(Text(f"waiting {reason}; Ctrl-C: do not wait", "yellow"))

    def output(self, line: str) -> None:
        self._console.print(Text.assemble(("│ ", "dim"), line))

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        now = self._now()
        columns = self._columns[-_MAX_COLUMNS:]
        most = max((good + bad for good, bad in columns), default=0)
        rows = [
            Text.assemble(
                (f"{now:5.0f} s  ", "bold"), (f"{self._phase:<9}", LATENCY), (self._title, "dim"), no_wrap=True
            ),
            Text(self._summary(now), FAILED if self._failed else "", no_wrap=True),
            Text.assemble(("answered ", "dim"), (bars([good for good, _ in columns], most), ANSWERED), no_wrap=True),
            Text.assemble(("failed   ", "dim"), (bars([bad for _, bad in columns], most), FAILED), no_wrap=True),
        ]
        rows += [Text(line, "red", no_wrap=True, overflow="ellipsis") for line in self._failures]
        return Group(*rows)

    def _summary(self, now: float) -> str:
        while self._recent and self._recent[0][0] < now - RECENT_S:
            self._recent.popleft()
        good = sorted(latency for _, latency in self._recent if latency >= 0)
        flying = sum(load.in_flight for load in self._loads.values())
        rate = len(self._recent) / max(min(now, RECENT_S), 0.1)
        return (
            f"{self._sent} ended, {self._failed} failed, {flying} in flight, {rate:.0f}/s, "
            f"p50 {show_seconds(percentile(good, 50))}, p99 {show_seconds(percentile(good, 99))}"
        )

    def _say(self, line: str) -> None:
        self._spoken_at = time.monotonic()
        self._console.print(Text(line))

    def _now(self) -> float:
        return time.monotonic() - self._start
