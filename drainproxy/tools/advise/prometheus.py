"""Which drains did Prometheus see? Questions in its language, and the drains that the answers add up to. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.drain.advice import Drain, Times
from drainproxy.drain.handover import Attempt, Why
from drainproxy.drain.phase import Outcome, Phase, State
from drainproxy.observe.metrics import METRICS
from drainproxy.tools.advise.observed import Observed, Workload, workload_of_pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[[str], list[dict[str, Any]]]
    """An instant query: its rows, each with `metric` (labels) and `value` (time, text)."""

_OWN = frozenset({"__name__", *(label for metric in METRICS for label in metric.labels), "by"})
"""Labels that our metrics have by themselves; all others tell where a series comes from."""
_STARTED = "process_start_time_seconds"
_NAMES = (
    *("config_seconds", "state", "drains_total", "drain_duration_seconds", "drain_last_arrival_seconds"),
    *("drain_arrivals_total", "drain_late_total", "drain_aborted_total", "handed_over_total"),
)
_WORST_FIRST = (Outcome.FORCED.value, Outcome.STILL_ARRIVING.value, Outcome.CLEAN.value)


@dataclass(slots=True)
class Seen:
    """Drains whose end was scraped, and how many Pods were last seen while they still drained."""

    drains: list[Observed] = field(default_factory=list)
    unfinished: int = 0
    times: dict[Workload, Times] = field(default_factory=dict)
    """What the youngest process of each workload has."""


Values = dict[str, list[tuple[dict[str, str], float]]]


def look(ask: Ask, since: str, selector: str) -> Seen:
    """The last values of every process that was scraped in the time `since` ("30d"). `selector`: `namespace="shop"`."""
    seen = Seen()
    processes: dict[frozenset[tuple[str, str]], Values] = defaultdict(lambda: defaultdict(list))
    for name in _NAMES:
        for labels, value in _last(ask, f"drainproxy_{name}", since, selector):
            processes[_source(labels)][name].append((labels, value))
    started = {_source(labels): value for labels, value in _last(ask, _STARTED, since, selector)}
    for source, values in sorted(processes.items(), key=lambda item: started.get(item[0], 0.0)):
        if "config_seconds" not in values:
            continue
        workload = _workload(dict(source))
        times = seen.times[workload] = Times.read({each["option"]: value for each, value in values["config_seconds"]})
        drain = _drain(values, times)
        if drain is not None:
            seen.drains.append(Observed(workload, started.get(source, 0.0), drain))
        elif any(value and each["state"] == State.DRAINING.value for each, value in values["state"]):
            seen.unfinished += 1
    return seen


def _last(ask: Ask, name: str, since: str, selector: str) -> Iterator[tuple[dict[str, str], float]]:
    for row in ask(f"last_over_time({name}{{{selector}}}[{since}])"):
        yield row["metric"], float(row["value"][1])


def _source(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in labels.items() if item[0] not in _OWN)


def _workload(source: dict[str, str]) -> Workload:
    name = source.get("workload") or workload_of_pod(source.get("pod", "")) or source.get("job", "")
    return Workload(source.get("namespace", ""), name)


def _drain(values: Values, times: Times) -> Drain | None:
    """The process's drains as one; None: none has ended, but by a resume."""
    ended = {each["outcome"] for each, count in values["drains_total"] if count}
    outcome = next((each for each in _WORST_FIRST if each in ended), None)
    if outcome is None:
        return None
    handed_over = [each for each in values["handed_over_total"] if each[0]["reason"] == Why.DRAIN.value]
    arrivals, last_arrival_s = _sum(values["drain_arrivals_total"]), _sum(values["drain_last_arrival_seconds"])
    return Drain(
        times=times,
        outcome=outcome,
        elapsed_s=_sum(values["drain_duration_seconds"]),
        late=int(_sum(values["drain_late_total"])),
        last_arrival_s=last_arrival_s if arrivals else None,
        arrivals=int(arrivals),
        cut=int(_sum(values["drain_aborted_total"], "by", "us")),
        broken=int(_sum(values["drain_aborted_total"], "by", "app")),
        handed_over=int(_sum(handed_over, "outcome", Attempt.SENT.value)),
        after_end=int(_sum(values["drain_late_total"], "phase", Phase.DRAINED.value)),
    )


def _sum(rows: list[tuple[dict[str, str], float]], *where: str | None) -> float:
    """Of all, or of those whose label has a value (None: of those without the label)."""
    if not where:
        return sum(value for _, value in rows)
    label, wanted = where
    return sum(value for labels, value in rows if labels.get(str(label)) == wanted)
