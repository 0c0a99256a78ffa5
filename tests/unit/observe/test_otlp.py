"""Is the queue of spans bounded, and is what it does not take counted?"""

from __future__ import annotations

import sys

import pytest

from drainproxy.errors import ConfigError
from drainproxy.observe.otlp import MOST_WAITING, SpanExporter
from drainproxy.observe.traces import Span, SpanCounts

SPAN = Span("GET", "1" * 32, "2" * 16, None, 0, 1, {})


def test_a_full_queue_drops_and_counts() -> None:
    counts = SpanCounts()
    exporter = SpanExporter("http://127.0.0.1:1", counts)
    for _ in range(MOST_WAITING + 7):
        exporter.put(SPAN)
    assert (counts.dropped, counts.exported) == (7, 0)


def test_without_the_sdk_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"extra otel \(pip install"):
        SpanExporter("http://collector:4318", SpanCounts())
