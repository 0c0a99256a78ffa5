"""How is a metric named in a query? From the table of metrics, so that no query names one that does not exist."""

from __future__ import annotations

from drainproxy.observe.metrics import METRICS

PREFIX = "drainproxy_"
OF_PROCESS = frozenset({"process_cpu_seconds_total", "process_resident_memory_bytes"})
"""Metrics of every Prometheus client that are used here."""
_TYPES = {metric.name: metric.type for metric in METRICS}


def series(name: str, *selectors: str) -> str:
    """`drainproxy_<name>{selectors}`; `name` without the prefix. Raises KeyError for a name that does not exist."""
    full = name if name in OF_PROCESS else f"{PREFIX}{name}"
    if full not in OF_PROCESS and full not in _TYPES and _TYPES.get(full.removesuffix("_bucket")) != "histogram":
        raise KeyError(f"no metric {full}")
    chosen = ",".join(each for each in selectors if each)
    return f"{full}{{{chosen}}}" if chosen else full
