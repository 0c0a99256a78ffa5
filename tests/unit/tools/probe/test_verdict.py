"""What do the samples say? Each promise of the verdict's arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.tools.probe.verdict import (
    Reply,
    Sample,
    columns_for,
    failure_classes,
    judge,
    longest_gap_s,
    percentile,
    timeline,
)


def good(due: float, latency: float = 0.01, pod: str = "") -> Sample:
    return Sample(due, due, due + latency, Reply(status=200, pod=pod))


def bad(due: float, fault: str, detail: str = "why", reused: bool = False) -> Sample:
    return Sample(due, due, due + 0.5, Reply(fault, detail, reused=reused))


def test_latency_counts_from_when_the_request_was_due_not_from_when_it_was_sent() -> None:
    late = Sample(due_s=1.0, sent_s=3.0, end_s=3.1, reply=Reply(status=200))
    verdict = judge([late])
    assert verdict.latency[0].max_s == 3.1 - 1.0
    assert verdict.late_s == 2.0
    assert abs(verdict.longest_s - 0.1) < 1e-9  # how long the server worked is another question


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) == 0.0


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.1, 100))
def test_at_least_the_stated_share_is_no_slower_than_the_percentile(values: list[float], percent: float) -> None:
    values.sort()
    limit = percentile(values, percent)
    assert limit in values
    assert sum(value <= limit for value in values) / len(values) >= percent / 100 - 1e-9


def test_failures_are_grouped_most_frequent_first_with_first_last_and_first_example() -> None:
    samples = [bad(5, "reset", "late"), bad(1, "reset", "early", reused=True), bad(2, "502"), good(3)]
    reset, gateway = failure_classes(samples)
    assert (reset.name, reset.count, reset.first_s, reset.last_s, reset.example) == ("reset", 2, 1.5, 5.5, "early")
    assert reset.reused == 1
    assert (gateway.name, gateway.count) == ("502", 1)


def test_every_request_belongs_to_exactly_one_phase() -> None:
    samples = [good(n / 10) for n in range(100)] + [bad(4.0, "reset"), bad(9.9, "reset")]
    verdict = judge(samples, during=(3.0, 6.0))
    assert [each.phase for each in verdict.latency] == ["before", "during", "after"]
    assert [each.sent for each in verdict.latency] == [30, 31, 41]
    assert [each.failed for each in verdict.latency] == [0, 1, 1]


def test_failed_requests_do_not_flatter_the_latency() -> None:
    verdict = judge([good(0, 1.0), Sample(1, 1, 1.001, Reply("refused"))])
    assert verdict.latency[0].p50_s == 1.0


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1), st.integers(1, 80))
def test_the_timeline_counts_every_request_once(facts: list[tuple[float, bool]], columns: int) -> None:
    samples = [bad(due, "reset") if failed else good(due) for due, failed in facts]
    buckets = timeline(samples, max(due for due, _ in facts) or 1.0, columns)
    assert sum(bucket.sent for bucket in buckets) == len(samples)
    assert sum(bucket.failed for bucket in buckets) == sum(failed for _, failed in facts)


def test_the_columns_fit_a_terminal_and_hold_a_few_samples_each() -> None:
    assert [columns_for(samples) for samples in (2, 120, 36_000)] == [10, 30, 60]


def test_nothing_measured_is_not_a_success() -> None:
    assert not judge([]).ok
    assert judge([good(0)]).ok


def test_pods_are_counted_by_their_header() -> None:
    assert judge([good(0, pod="a"), good(1, pod="b"), good(2, pod="b")]).pods == (("b", 2), ("a", 1))


def test_the_longest_gap_is_between_good_answers() -> None:
    assert abs(longest_gap_s([good(0), bad(1, "reset"), good(5), good(6)]) - 5.0) < 1e-9
    assert longest_gap_s([]) == 0.0
