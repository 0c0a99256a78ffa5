"""When does each step of a drain come?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.config.options import Config
from drainproxy.drain.schedule import HURRY_CAP_S, Schedule


def schedule(now: float = 1000.0) -> Schedule:
    return Schedule.of(Config(), now)


def test_every_time_is_counted_from_the_trigger() -> None:
    times = schedule()
    assert (times.started_at, times.floor_at, times.quiet_limit_at, times.deadline_at) == (1000, 1005, 1015, 1024)


def test_quiet_begins_at_the_floor_or_with_the_last_arrival_after_it_and_has_its_limit() -> None:
    times = schedule()
    assert times.quiet_at(None) == 1006
    assert times.quiet_at(1003.0) == 1006
    assert times.quiet_at(1005.5) == 1006.5
    assert times.quiet_at(1014.9) == 1015
    assert times.quiet_at(1030.0) == 1015


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 60), min_size=1, max_size=5), st.none() | st.floats(0, 60))
def test_a_hurry_only_ever_makes_everything_earlier(hurries: list[float], last: float | None) -> None:
    times = schedule(0)
    now = 0.0
    for more in hurries:
        now += more
        hurried = times.hurry(now)
        assert hurried.started_at == times.started_at
        assert hurried.floor_at <= min(times.floor_at, now)
        assert hurried.quiet_at(last) <= now or hurried.quiet_at(last) <= times.quiet_at(last)
        assert hurried.deadline_at <= min(times.deadline_at, now + HURRY_CAP_S)
        times = hurried
