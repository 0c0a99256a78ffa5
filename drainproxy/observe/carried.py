"""What do counters read after an upgrade? What they would without one: each generation passes its counts on.

They pass as they are exposed, by the names and labels of METRICS, which are API: another version knows them, and every
metric that only grows is carried, one that is added later too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.observe.metrics import GROWING, Snapshot, grown

if TYPE_CHECKING:
    from drainproxy.observe.documents import Process
    from drainproxy.observe.meter import Meter

Counts = dict[str, list[tuple[list[str], float]]]
"""By metric: label values, and the count. It can be written as JSON."""


def counts(process: Process, meter: Meter) -> Counts:
    """Everything that was counted so far, by this generation and those before."""
    now = Snapshot.of(process, meter)
    return {name: _shown(grown(metric, now)) for name, metric in GROWING.items()}


def since(now: Counts, before: Counts) -> Counts:
    """What has been counted between the two."""
    grown_since: Counts = {}
    for name, samples in now.items():
        known = {tuple(labels): count for labels, count in before.get(name, [])}
        grown_since[name] = [(labels, count - known.get(tuple(labels), 0.0)) for labels, count in samples]
    return grown_since


def add(told: Counts, meter: Meter) -> None:
    """Go on from what another generation has counted. What this version does not know is left out."""
    for name, samples in told.items():
        metric = GROWING.get(name)
        if metric is None:
            continue
        labelled = 1 if metric.type == "histogram" else len(metric.labels)
        carried = meter.before.setdefault(name, {})
        for labels, count in samples:
            if len(labels) == labelled:
                carried[tuple(labels)] = carried.get(tuple(labels), 0.0) + count


def _shown(samples: dict[tuple[str, ...], float]) -> list[tuple[list[str], float]]:
    return [(list(labels), count) for labels, count in samples.items()]
