"""Which trace does a request belong to, and which spans are made of requests and drains? Nothing here runs without
`--trace`: connections then have no `trace` to ask."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.protocol.trace import TraceContext, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.drain.ledger import Work
    from drainproxy.drain.phase import Phase
    from drainproxy.observe.documents import Summary

SERVER_ERROR = 500
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """One request or one drain, as it is told. Times are unix nanoseconds; ids hexadecimal digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int | float | bool]
    events: tuple[tuple[str, int], ...] = ()
    failed: bool = False


@dataclass(slots=True)
class SpanCounts:
    """What became of spans."""

    exported: int = 0
    dropped: int = 0


class Tracing:
    """Gives each request its trace. `share` of those that came without one are sampled.

    `put` takes the spans of sampled requests; None: nobody records them.
    """

    def __init__(self, share: float, put: Callable[[Span], None] | None) -> None:
        self._share = share
        self._put = put
        self._recorded: dict[Work, tuple[TraceContext, str | None]] = {}

    def for_work(self, work: Work) -> Callable[[list[bytes]], bytes | None]:
        """What a connection asks for each request it carries; see `continued`."""
        return lambda given: self.continued(work, given)

    def continued(self, work: Work, given: list[bytes]) -> bytes | None:
        """The `traceparent` to send on for what the request had (several: none of them counts); None: as it came."""
        before = read(given[0]) if len(given) == 1 else None
        sampled = before.sampled if before else random.random() < self._share  # noqa: S311 - no secret
        trace_id = before.trace_id if before else b"%032x" % _number(128)
        work.trace = trace_id.decode()
        self._recorded.pop(work, None)
        if before is not None and (self._put is None or not sampled):
            return None  # who adds no span leaves the field alone
        context = TraceContext(trace_id, b"%016x" % _number(64), sampled)
        if self._put is not None and sampled:
            self._recorded[work] = (context, before.span_id.decode() if before else None)
        return context.value()

    def ended(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        """A request has ended: its span is told, and its trace forgotten."""
        trace_id, work.trace = work.trace, ""
        recorded = self._recorded.pop(work, None)
        if recorded is None or self._put is None:
            return
        context, parent = recorded
        end_ns = time.time_ns()
        self._put(
            Span(
                name=work.method,
                trace_id=trace_id,
                span_id=context.span_id.decode(),
                parent_id=parent,
                start_ns=end_ns - int(duration_s * NANOSECONDS),
                end_ns=end_ns,
                attributes={
                    "http.request.method": work.method,
                    "url.path": work.target.partition("?")[0],
                    "http.response.status_code": status,
                    "client.address": work.client,
                    "drainproxy.kind": work.kind.value,
                    "drainproxy.completed": completed,
                },
                failed=not completed or status >= SERVER_ERROR or not status,
            )
        )


class DrainTrace:
    """One span for each drain, its phases as events."""

    def __init__(self, put: Callable[[Span], None]) -> None:
        self._put = put
        self._events: list[tuple[str, int]] = []

    def entered(self, phase: Phase) -> None:
        """See DrainObserver."""
        self._events.append((phase.value, time.time_ns()))

    def finished(self, summary: Summary) -> None:
        """See DrainObserver."""
        end_ns = time.time_ns()
        told = ("trigger", "outcome", "arrivals", "late", "completed", "aborted", "departed", "broken", "cut_total")
        self._put(
            Span(
                name="drain",
                trace_id=f"{_number(128):032x}",
                span_id=f"{_number(64):016x}",
                parent_id=None,
                start_ns=int(summary["started_at"] * NANOSECONDS),
                end_ns=end_ns,
                attributes={f"drainproxy.drain.{name}": summary[name] or 0 for name in told},  # type: ignore[literal-required]
                events=tuple(self._events),
                failed=summary["outcome"] == "forced",
            )
        )
        self._events.clear()


def _number(bits: int) -> int:
    """Random, and not zero, which would be no id."""
    return random.getrandbits(bits) or 1
