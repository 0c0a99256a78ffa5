"""Is handing over bounded, by what comes and by time, and enough for all that comes?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.drain.handover import MOST, OUTAGE_S, PER_S, SHARE, Attempt, Budget, HandedOver, Why


class Traffic:
    """How many requests have ended."""

    def __init__(self) -> None:
        self.ended = 0

    def __call__(self) -> int:
        return self.ended


def spend(budget: Budget, now: float, most: int) -> int:
    """How many of so many attempts may be made."""
    return sum(budget.take(now) for _ in range(most))


def test_what_was_saved_up_is_bounded() -> None:
    traffic = Traffic()
    budget = Budget(traffic)
    traffic.ended = 1_000_000
    assert spend(budget, 0.0, 10_000) == int(MOST)
    traffic.ended += 1_000_000
    assert spend(budget, 1e6, 10_000) == int(MOST)


def test_once_it_is_spent_each_request_earns_a_share_and_each_second_a_few() -> None:
    traffic = Traffic()
    budget = Budget(traffic)
    spend(budget, 0.0, int(MOST))
    assert not budget.take(0.0)
    traffic.ended += 100
    assert spend(budget, 0.0, 1000) == int(100 * SHARE)
    assert spend(budget, 2.0, 1000) == int(2 * PER_S)


@given(st.lists(st.integers(min_value=1, max_value=2000), max_size=50))
def test_all_that_comes_may_be_handed_over_once(each_second: list[int]) -> None:
    traffic = Traffic()
    budget = Budget(traffic)
    spend(budget, 0.0, int(MOST))
    for second, requests in enumerate(each_second):
        traffic.ended += requests
        wanted = min(requests, int(MOST))
        assert spend(budget, float(second), wanted) == wanted


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 5), st.integers(0, 5000)), max_size=30))
def test_never_more_is_spent_than_was_earned(steps: list[tuple[int, float, int]]) -> None:
    traffic = Traffic()
    budget = Budget(traffic)
    now, spent = 0.0, 0
    for ended, pause_s, wanted in steps:
        traffic.ended += ended
        now += pause_s
        spent += spend(budget, now, wanted)
        assert spent <= MOST + SHARE * traffic.ended + PER_S * now + 1e-6


def test_what_was_not_made_is_counted_as_such() -> None:
    handed = HandedOver(lambda: 0)
    spend(handed.budget, 0.0, int(MOST))
    assert not handed.may(Why.DRAIN, 0.0)
    assert handed.counts == {(Why.DRAIN, Attempt.OVER_BUDGET): 1}
    assert handed.may(Why.APP_GONE, 1.0)
    assert handed.counts == {(Why.DRAIN, Attempt.OVER_BUDGET): 1}


def test_after_an_outage_nobody_is_asked_for_a_second_and_then_again() -> None:
    handed = HandedOver(lambda: 0)
    assert handed.may(Why.APP_GONE, 0.0)
    handed.no_app_anywhere(0.0)
    assert not handed.may(Why.APP_GONE, OUTAGE_S - 0.001)
    assert handed.may(Why.APP_GONE, OUTAGE_S)
    assert handed.counts == {(Why.APP_GONE, Attempt.OVER_BUDGET): 1}
