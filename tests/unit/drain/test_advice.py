"""Does the advice follow from the numbers, and is it silent where they prove nothing?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.config.options import Config
from drainproxy.drain.advice import (
    ENOUGH,
    LEAST_FLOOR_S,
    Advice,
    Because,
    Drain,
    Setting,
    Times,
    advise,
    hint,
    notes,
    quantile,
    round_up,
)
from drainproxy.drain.phase import Outcome

TIMES = Times.of(Config())
CALM = Drain(times=TIMES, outcome="clean", elapsed_s=6.5, late=0, last_arrival_s=4.0, arrivals=100)


def of(setting: Setting, *drains: Drain) -> Advice:
    return next(each for each in advise(drains) if each.setting is setting)


def test_the_settings_are_those_of_the_process() -> None:
    assert Times(grace_s=30, app_stop_s=5, budget_s=24, floor_s=5, quiet_s=1, quiet_limit_s=10) == TIMES
    assert Times.read(TIMES.by_option()) == TIMES


# A single drain.


def test_a_drain_within_its_settings_calls_for_nothing() -> None:
    assert hint(CALM) is None
    assert hint(replace(CALM, last_arrival_s=None, arrivals=0)) is None


def test_arrivals_past_the_floor_call_for_a_longer_one() -> None:
    late = replace(CALM, late=3, last_arrival_s=8.1, elapsed_s=9.1)
    assert hint(late) == "requests kept arriving for 8.1s, past the floor of 5s: set propagation-delay to 10s"


def test_arrivals_that_other_pods_answered_say_nothing_of_the_floor() -> None:
    late = replace(CALM, late=3, last_arrival_s=8.1, elapsed_s=9.1, released=True)
    assert hint(late) is None
    assert of(Setting.FLOOR, late).because is Because.FITS
    assert of(Setting.FLOOR, late, CALM).why == of(Setting.FLOOR, CALM).why


def test_work_that_was_cut_calls_for_a_longer_grace_period() -> None:
    forced = replace(CALM, outcome="forced", elapsed_s=24.0, cut=2)
    assert hint(forced) == "the deadline cut 2 requests in the drain, at 24s: set grace-period to 45s"


def test_a_drain_that_ended_near_its_deadline_calls_for_a_longer_grace_period() -> None:
    assert hint(replace(CALM, elapsed_s=21.0)) == "drains took up to 21s of 24s: set grace-period to 40s"


def test_a_floor_that_does_not_fit_into_the_budget_brings_its_grace_period() -> None:
    late = replace(CALM, outcome=Outcome.STILL_ARRIVING.value, late=70, last_arrival_s=15.0, elapsed_s=15.0)
    said = hint(late)
    assert said is not None
    assert "set propagation-delay to 20s" in said
    assert "set grace-period to 50s" in said
    assert "access log" in said


def test_what_the_app_broke_off_is_told_and_no_setting_is_recommended() -> None:
    broken = replace(CALM, broken=1)
    assert hint(broken) == "the app broke 1 request off before it was told to stop: look at its log"
    assert not [each for each in advise([broken]) if each.changes]


def test_one_drain_never_shortens_anything() -> None:
    quick = replace(CALM, last_arrival_s=0.1, times=replace(TIMES, floor_s=60, budget_s=100, grace_s=106))
    assert hint(quick) is None
    assert of(Setting.FLOOR, quick).because is Because.UNKNOWN


# Many drains.


def test_many_drains_shorten_a_floor_that_is_much_too_long() -> None:
    slow = replace(TIMES, floor_s=20)
    advice = of(Setting.FLOOR, *[replace(CALM, times=slow, last_arrival_s=1 + n / 100) for n in range(200)])
    assert (advice.now_s, advice.best_s, advice.because) == (20, 4, Because.WASTE)
    assert advice.why == "last arrival: p99.9 of 200 drains is 3s; each Pod stays 16s longer than necessary"


def test_small_gains_are_left_alone() -> None:
    drains = [replace(CALM, times=replace(TIMES, floor_s=6), last_arrival_s=3.0)] * 50
    assert of(Setting.FLOOR, *drains).because is Because.FITS


@pytest.mark.parametrize("arrivals", [0, 1, 9])
def test_too_little_traffic_shortens_nothing_and_says_so(arrivals: int) -> None:
    last = 0.2 if arrivals else None
    drains = [replace(CALM, arrivals=arrivals, last_arrival_s=last, times=replace(TIMES, floor_s=60))] * 1000
    advice = of(Setting.FLOOR, *drains)
    assert advice.because is Because.UNKNOWN
    assert advice.best_s is None
    assert of(Setting.MIN_READY, *drains).because is Because.UNKNOWN


def test_the_share_of_late_arrivals_is_the_evidence() -> None:
    drains = [replace(CALM, last_arrival_s=7.3, late=1, arrivals=250)] * 412
    advice = of(Setting.FLOOR, *drains)
    assert advice.why == "last arrival: p99.9 of 412 drains is 7.3s; 0.4 % of arrivals were later than the floor of 5s"
    assert (advice.best_s, advice.because) == (10, Because.TIGHT)


def test_a_request_after_a_clean_end_calls_for_a_longer_quiet_period() -> None:
    advice = of(Setting.QUIET, CALM, replace(CALM, after_end=1), CALM)
    assert (advice.best_s, advice.because) == (2, Because.LOST)
    assert "1 of 3 drains" in advice.why


def test_new_pods_need_as_long_to_be_known_as_old_ones_to_be_forgotten() -> None:
    assert of(Setting.MIN_READY, *[CALM] * ENOUGH).best_s == 4
    assert of(Setting.MIN_READY, *[CALM] * (ENOUGH - 1)).best_s is None


def test_the_latest_drain_says_what_is_set_now() -> None:
    changed = replace(CALM, times=replace(TIMES, floor_s=15, budget_s=34, grace_s=40))
    assert not of(Setting.FLOOR, replace(CALM, last_arrival_s=12.0, late=1), changed).changes


# All of them.

drains = st.builds(
    Drain,
    times=st.builds(
        lambda floor, quiet, more, stop: Times(
            floor + quiet + more + stop, stop, floor + quiet + more, floor, quiet, 10 * quiet
        ),
        st.floats(0, 120),
        st.floats(0.1, 10),
        st.floats(0, 300),
        st.floats(1, 60),
    ),
    outcome=st.sampled_from(["clean", "still-arriving", "forced"]),
    elapsed_s=st.floats(0, 500),
    late=st.integers(0, 50),
    last_arrival_s=st.none() | st.floats(0, 500),
    arrivals=st.none() | st.integers(1, 10_000),
    cut=st.integers(0, 50),
    broken=st.integers(0, 3),
    after_end=st.integers(0, 3),
)


@given(st.lists(drains, min_size=1, max_size=60))
def test_advice_is_never_below_what_was_measured(several: list[Drain]) -> None:
    lines = advise(several)
    assert [each.setting for each in lines] == list(Setting)
    last_s = quantile([each.last_arrival_s for each in several if each.last_arrival_s is not None] or [0.0], 0.999)
    floor, _, grace, _ = lines
    assert floor.best_s is None or floor.best_s >= min(last_s, floor.now_s or 0)
    if floor.because in (Because.LOST, Because.TIGHT, Because.WASTE):
        assert floor.best_s is not None
        assert floor.best_s >= max(last_s, LEAST_FLOOR_S)
    assert grace.best_s is not None
    assert grace.best_s >= several[-1].times.grace_s
    assert all(each.why and "\n" not in each.why for each in lines)
    assert all("\n" not in each for each in notes(several))


@given(st.lists(drains, min_size=1, max_size=60))
def test_what_is_recommended_is_not_recommended_again(several: list[Drain]) -> None:
    """The same arrivals under the recommended floor: no further change of it."""
    floor = of(Setting.FLOOR, *several)
    if floor.best_s is not None:
        now = replace(several[-1].times, floor_s=floor.best_s)
        again = of(Setting.FLOOR, *[replace(each, times=now) for each in several])
        assert not again.changes


@given(st.floats(0, 10_000))
def test_durations_are_rounded_up_to_what_a_person_would_choose(seconds: float) -> None:
    rounded = round_up(seconds)
    assert rounded >= seconds
    assert rounded <= max(1.0, seconds * 2, seconds + 60 if seconds > 300 else 0)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_was_measured(values: list[float], part: float) -> None:
    found = quantile(values, part)
    assert found in values
    assert sum(each <= found for each in values) >= part * len(values) - 1e-6
