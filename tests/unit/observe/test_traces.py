"""Which requests are traced and sampled, and what do their spans say?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from drainproxy.config.values import AccessLogFilter
from drainproxy.drain.ledger import Kind, Work
from drainproxy.drain.phase import Phase, Trigger
from drainproxy.observe.documents import status
from drainproxy.observe.log import AccessLog
from drainproxy.observe.meter import Meter
from drainproxy.observe.observer import Tee, Unobserved
from drainproxy.observe.traces import DrainTrace, Span, Tracing
from drainproxy.protocol.trace import read
from tests.support.control import ScriptedControl

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{SPAN}-{flags}".encode() for flags in ("01", "00"))


def work() -> Work:
    made = Work(Kind.HTTP, "10.0.0.7")
    made.method, made.target = "GET", "/shop?secret=1"
    return made


def test_a_trace_that_came_is_kept_and_left_alone_where_nobody_records() -> None:
    one = work()
    assert Tracing(1.0, None).continued(one, [SAMPLED]) is None
    assert one.trace == TRACE


def test_an_unsampled_trace_is_left_alone() -> None:
    spans: list[Span] = []
    one, tracing = work(), Tracing(1.0, spans.append)
    assert tracing.continued(one, [UNSAMPLED]) is None
    tracing.ended(one, 200, 0.1, completed=True)
    assert spans == []


@pytest.mark.parametrize("given", [[], [b"nonsense"], [SAMPLED, SAMPLED]], ids=["none", "invalid", "two"])
def test_a_request_without_a_valid_trace_gets_a_new_one(given: list[bytes]) -> None:
    one = work()
    value = Tracing(0.0, None).continued(one, given)
    assert value is not None
    context = read(value)
    assert context is not None
    assert (context.trace_id.decode(), context.sampled) == (one.trace, False)
    assert one.trace != TRACE


def test_the_share_that_was_asked_for_is_sampled() -> None:
    tracing = Tracing(0.25, lambda _: None)
    values = [tracing.continued(work(), []) for _ in range(4000)]
    flags = Counter(value[-2:] for value in values if value is not None)
    assert 800 < flags[b"01"] < 1200
    assert flags[b"00"] + flags[b"01"] == 4000


def test_a_sampled_request_is_a_span_under_the_one_it_came_from() -> None:
    spans: list[Span] = []
    one, tracing = work(), Tracing(0.0, spans.append)
    value = tracing.continued(one, [SAMPLED])
    assert value is not None
    tracing.ended(one, 502, 0.25, completed=True)
    (span,) = spans
    assert (span.trace_id, span.parent_id, span.name, span.failed) == (TRACE, SPAN, "GET", True)
    assert value.decode() == f"00-{TRACE}-{span.span_id}-01"
    assert span.end_ns - span.start_ns == 250_000_000
    assert span.attributes["url.path"] == "/shop"
    assert one.trace == ""


def test_a_repeated_request_is_one_span() -> None:
    spans: list[Span] = []
    one, tracing = work(), Tracing(1.0, spans.append)
    tracing.continued(one, [])
    tracing.continued(one, [])
    tracing.ended(one, 200, 0.1, completed=True)
    tracing.ended(one, 200, 0.1, completed=True)
    assert len(spans) == 1


def test_the_access_log_and_lists_name_the_trace_and_nothing_where_there_is_none() -> None:
    lines: list[dict[str, object]] = []
    access = AccessLog(AccessLogFilter("all"), lines.append)
    one = work()
    access.exchange(one, 200, 0.1, completed=True)
    Tracing(0.0, None).continued(one, [SAMPLED])
    access.exchange(one, 200, 0.1, completed=True)
    assert ["trace_id" in line for line in lines] == [False, True]
    assert lines[1]["trace_id"] == TRACE


def test_what_holds_a_drain_and_what_was_cut_is_named_with_its_trace() -> None:
    control = ScriptedControl()
    control.open("/held").trace = TRACE
    control.drain(Trigger.HTTP)
    oldest: Any = status(control)["oldest"]
    assert [each["trace_id"] for each in oldest] == [TRACE]
    control.wait(25)
    assert control.last_drain is not None
    (cut,) = control.last_drain["cut"]
    assert cut["trace_id"] == TRACE


def test_the_observer_behind_it_is_told_first() -> None:
    meter, spans = Meter(), list[Span]()
    tracing = Tracing(1.0, spans.append)
    one = work()
    tracing.continued(one, [])
    Tee(meter, tracing.ended).exchange(one, 200, 0.1, completed=True)
    assert (meter.requests, len(spans)) == (1, 1)


def test_a_drain_is_one_span_with_its_phases_as_events() -> None:
    spans: list[Span] = []
    trace, control = DrainTrace(spans.append), ScriptedControl()
    control.drain(Trigger.HTTP)
    control.wait(7)
    assert control.last_drain is not None
    for phase in (Phase.PROPAGATING, Phase.FINISHING, Phase.DRAINED):
        trace.entered(phase)
    trace.finished(control.last_drain)
    (span,) = spans
    assert [name for name, _ in span.events] == ["propagating", "finishing", "drained"]
    assert span.attributes["drainproxy.drain.outcome"] == "clean"
    assert span.parent_id is None
    trace.finished(control.last_drain)
    assert spans[1].events == ()
    Unobserved().entered(Phase.DRAINED)
