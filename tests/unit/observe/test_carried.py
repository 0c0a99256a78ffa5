"""Do counters go on after an upgrade, every one of them?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from drainproxy.drain.ledger import Kind, Work
from drainproxy.drain.phase import Outcome, Trigger
from drainproxy.observe.carried import add, counts, since
from drainproxy.observe.metrics import GROWING, METRICS, Exposition, Snapshot, grown
from drainproxy.observe.observer import Side
from drainproxy.protocol.reasons import Reason
from tests.support.control import ScriptedControl

if TYPE_CHECKING:
    from drainproxy.observe.carried import Counts


def serve_one(control: ScriptedControl, status: int = 200) -> None:
    work = Work(Kind.HTTP, "192.0.2.7")
    work.method = "GET"
    control.meter.exchange(work, status, 0.02, completed=True)
    control.meter.opened(Side.CLIENT)
    control.meter.transferred(100, 2000)
    control.meter.rejected(Reason.NO_HOST)
    control.meter.drain_finished(Trigger.UPGRADE, Outcome.CLEAN, 1.0)


def read(control: ScriptedControl) -> dict[str, dict[tuple[str, ...], float]]:
    now = Snapshot.of(control, control.meter)
    return {name: grown(metric, now) for name, metric in GROWING.items()}


def passed(told: Counts) -> Counts:
    """As the next generation reads it."""
    heard: Counts = json.loads(json.dumps(told))
    return heard


def test_every_metric_that_only_grows_is_carried_and_no_other() -> None:
    growing = {metric.name for metric in METRICS if metric.type in ("counter", "histogram")}
    assert counts(ScriptedControl(), ScriptedControl().meter).keys() == growing


@pytest.mark.parametrize("name", GROWING)
def test_each_goes_on_where_the_generation_before_stopped(name: str) -> None:
    old, new = ScriptedControl(), ScriptedControl()
    serve_one(old)
    told = {
        each: [(labels, count + 7) for labels, count in samples] for each, samples in counts(old, old.meter).items()
    }
    add(passed(told), new.meter)
    assert read(new)[name] == {labels: count + 7 for labels, count in read(old)[name].items()}


def test_what_two_generations_count_at_the_same_time_adds_up() -> None:
    old, new = ScriptedControl(), ScriptedControl()
    serve_one(old)
    before = counts(old, old.meter)
    add(passed(before), new.meter)
    serve_one(old, 503)
    serve_one(new)
    add(passed(since(counts(old, old.meter), before)), new.meter)
    assert read(new)["drainproxy_requests_total"] == {("GET", "200"): 2, ("GET", "503"): 1}
    assert read(new)["drainproxy_bytes_total"] == {("in",): 300, ("out",): 6000}
    assert Exposition(new, new.meter).totals() == {"requests": 3, "bytes_in": 300, "bytes_out": 6000}


def test_a_third_generation_goes_on_from_both_before_it() -> None:
    first, second, third = ScriptedControl(), ScriptedControl(), ScriptedControl()
    serve_one(first)
    add(passed(counts(first, first.meter)), second.meter)
    serve_one(second)
    add(passed(counts(second, second.meter)), third.meter)
    assert read(third) == read(second)
    body, _ = Exposition(third, third.meter).render("")
    assert b'drainproxy_requests_total{code="200",method="GET"} 2.0' in body
    assert b"drainproxy_request_duration_seconds_sum 0.04" in body


def test_what_another_version_counts_in_another_way_is_left_out() -> None:
    new = ScriptedControl()
    before = read(new)
    add(
        {
            "drainproxy_unheard_of_total": [([], 3.0)],
            "drainproxy_requests_total": [(["GET"], 3.0)],
            "drainproxy_request_duration_seconds": [(["0.3"], 3.0), (["+Inf"], 3.0), (["sum"], 1.0)],
        },
        new.meter,
    )
    assert read(new) == before
    Exposition(new, new.meter).render("")
