"""How do spans get to a collector? From a bounded queue, by a thread, over OTLP/HTTP, with OpenTelemetry's SDK.

The proxy never waits: a queue that is full, and a collector that does not answer, cost spans, which are counted.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from typing import TYPE_CHECKING

from drainproxy import __version__
from drainproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from drainproxy.observe.traces import Span, SpanCounts

MOST_WAITING = 2048
BATCH = 512
EVERY_S = 1.0
"""How long a span may wait for others to go with it."""
TIMEOUT_S = 5.0
"""For one batch, its repetitions included."""


class SpanExporter:
    """Takes spans; once started, sends them in batches. Raises ConfigError where the SDK is not installed."""

    def __init__(self, endpoint: str, counts: SpanCounts) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
        except ImportError as error:
            expected = (
                "nothing: OpenTelemetry is not installed; it is in the extra otel (pip install '.[otel]'), and in an "
                "image that is built with --build-arg EXTRA=otel"
            )
            raise ConfigError("--otlp-endpoint", endpoint, expected) from error
        self._counts = counts
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
        self._resource = Resource.create(
            {"service.name": "drainproxy", "service.version": __version__, "host.name": socket.gethostname()}
        )
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def put(self, span: Span) -> None:
        """Queue it, or drop it. Never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._counts.dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self._wake.set()

    def close(self, within_s: float) -> None:
        """Send what waits, within this time; what is left then is lost."""
        self._over = True
        self._wake.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while not self._over or self._waiting:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])

    def _send(self, spans: Sequence[Span]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - as in __init__

        if self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS:
            self._counts.exported += len(spans)
        else:
            self._counts.dropped += len(spans)

    def _readable(self, span: Span) -> ReadableSpan:
        """In the SDK's terms."""
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - as in __init__
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415 - as above

        def context(span_id: str, *, remote: bool) -> SpanContext:
            flags = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=flags)

        return ReadableSpan(
            name=span.name,
            context=context(span.span_id, remote=False),
            parent=None if span.parent_id is None else context(span.parent_id, remote=True),
            resource=self._resource,
            attributes=span.attributes,
            events=[Event(name, timestamp=at_ns) for name, at_ns in span.events],
            kind=SpanKind.INTERNAL if span.name == "drain" else SpanKind.SERVER,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )
