"""What does each workload need, and on what evidence? One report a workload; as text and as JSON. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.drain.advice import Advice, Because, Drain, Times, advise, many, notes, quantile, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from drainproxy.tools.advise.observed import Observed, Workload

PARTS = (0.5, 0.99, 0.999)
MARKS = {
    Because.LOST: "!!",
    Because.TIGHT: "!",
    Because.WASTE: "-",
    Because.ADVISED: "+",
    Because.FITS: " ",
    Because.UNKNOWN: "?",
}
LEGEND = (
    "!! work was lost   ! passed, or nearly   - longer than it must be   + what is set is not known\n"
    "?  too little data   (nothing: right as it is)"
)


@dataclass(frozen=True, slots=True)
class Report:
    """One workload's drains, and what to set."""

    workload: Workload
    drains: Sequence[Drain]
    advice: Sequence[Advice]

    @property
    def changes(self) -> list[Advice]:
        """What to set in another way."""
        return [each for each in self.advice if each.changes]

    @property
    def lasts(self) -> list[float]:
        """Last arrivals of the drains that had any."""
        return [each.last_arrival_s for each in self.drains if each.last_arrival_s is not None]

    @property
    def urgency(self) -> int:
        """0: the most urgent."""
        order = list(Because)
        return min((order.index(each.because) for each in self.changes), default=len(order))


def reports(observed: Sequence[Observed], now: Mapping[Workload, Times] | None = None) -> list[Report]:
    """One for each workload, the most urgent first. `now`: present settings, where the source knows them."""
    found: dict[Workload, list[Observed]] = defaultdict(list)
    for each in observed:
        found[each.workload].append(each)
    made = []
    for workload, all_of_it in found.items():
        drains = [each.drain for each in sorted(all_of_it, key=lambda each: each.at)]
        made.append(Report(workload, drains, advise(drains, (now or {}).get(workload))))
    return sorted(made, key=lambda report: (report.urgency, report.workload))


def as_data(report: Report) -> dict[str, Any]:
    """For scripts: API."""
    drains = report.drains
    return {
        "namespace": report.workload.namespace,
        "workload": report.workload.name,
        "kind": report.workload.kind,
        "drains": len(drains),
        "outcomes": dict(Counter(each.outcome for each in drains)),
        "arrivals": sum(each.arrivals or 0 for each in drains),
        "late": sum(each.late for each in drains),
        "cut": sum(each.cut for each in drains),
        "broken": sum(each.broken for each in drains),
        "handed_over": sum(each.handed_over for each in drains),
        "last_arrival_s": _quantiles(report.lasts),
        "elapsed_s": _quantiles([each.elapsed_s for each in drains]),
        "settings": [
            {
                "setting": each.setting.value,
                "now_s": each.now_s,
                "set_s": each.best_s,
                "because": each.because.value,
                "why": each.why,
            }
            for each in report.advice
        ],
        "notes": list(notes(drains)),
    }


def as_text(report: Report) -> Iterator[str]:
    """For people: what was measured, then a line for each setting."""
    drains = report.drains
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in Counter(each.outcome for each in drains).items())
    yield f"{report.workload}: {many(len(drains), 'drain')} ({outcomes})"
    arrivals, late = (sum(getattr(each, name) or 0 for each in drains) for name in ("arrivals", "late"))
    cut, broken = (sum(getattr(each, name) for each in drains) for name in ("cut", "broken"))
    yield f"  last arrival  {_spread(report.lasts)}"
    yield f"  drain         {_spread([each.elapsed_s for each in drains])}"
    handed = sum(each.handed_over for each in drains)
    to_others = f"; {handed} handed to other Pods" if handed else ""
    yield f"  arrivals      {arrivals}, {late} late; {cut} cut, {broken} broken off by the app{to_others}"
    rows = [(MARKS[each.because], each.setting.value, show(each.now_s), _set(each), each.why) for each in report.advice]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for mark, name, now, best, why in rows:
        fields = (mark.ljust(2), name.ljust(widths[1]), now.rjust(widths[2]), best.ljust(widths[3]))
        yield f"  {'  '.join(fields)}  {why}"
    for note in notes(drains):
        yield f"  note: {note}"


def _set(advice: Advice) -> str:
    return f"-> {show(advice.best_s)}" if advice.changes else ""


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    told = [f"p{100 * part:g} {show(quantile(values, part))}" for part in PARTS]
    return ", ".join([*told, f"longest {show(max(values))}"])


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{100 * part:g}": quantile(values, part) for part in PARTS} | {"max": max(values)}
