"""Is an app that refuses connections left out soon, asked now and then, and asked again once it is back?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.drain.absence import TRY_S, Absence

PATIENCE_S = 0.2


def away(since: float = 10.0) -> Absence:
    """An app that was seen to refuse at this time, and ever since."""
    absence = Absence(PATIENCE_S)
    absence.refuses(since)
    absence.refuses(since + 1)
    return absence


def test_an_app_that_does_not_refuse_is_asked_and_what_comes_is_held_as_long_as_the_option_says() -> None:
    absence = Absence(PATIENCE_S)
    assert not absence.is_to_skip(10.0, expected=True)
    assert not absence.is_to_skip(10.0, expected=False)
    assert absence.held_until(10.0) == 10.0 + PATIENCE_S


def test_the_longer_it_has_refused_the_less_is_waited_for_it() -> None:
    absence = away(since=10.0)
    assert absence.held_until(10.0) == absence.held_until(10.1) == 10.0 + PATIENCE_S
    assert absence.held_until(11.0) == 11.0, "not at all, and not in the past"


def test_it_is_left_out_once_it_has_refused_for_as_long_as_what_comes_is_held() -> None:
    absence = away(since=10.0)
    assert not absence.is_to_skip(10.0 + PATIENCE_S - 0.001, expected=True)
    assert not absence.is_to_skip(10.0 + PATIENCE_S, expected=True), "one asks it"
    assert absence.is_to_skip(10.0 + PATIENCE_S, expected=True)


def test_nobody_asks_it_while_somebody_does() -> None:
    absence = away(since=10.0)
    assert absence.is_to_skip(20.0, expected=True, asked=True)
    assert not absence.is_to_skip(20.0, expected=True)
    assert not absence.is_to_skip(10.1, expected=True, asked=True), "it is waited for"


def test_one_that_is_not_expected_back_is_left_out_at_once() -> None:
    assert away(since=10.0).is_to_skip(10.0, expected=False)


def test_once_it_accepts_all_begins_anew() -> None:
    absence = away(since=10.0)
    absence.accepts()
    assert absence.since is None
    assert not absence.is_to_skip(20.0, expected=False)
    absence.refuses(20.0)
    assert absence.held_until(20.0) == 20.0 + PATIENCE_S


@given(st.lists(st.floats(0, 2 * TRY_S), min_size=1, max_size=100))
def test_it_is_asked_by_one_request_in_so_many_seconds_and_never_forgotten(pauses: list[float]) -> None:
    absence, now, asked_at = away(since=0.0), 100.0, 0.0
    for pause in pauses:
        now += pause
        skipped = absence.is_to_skip(now, expected=True)
        assert skipped == (now < asked_at + TRY_S)
        if not skipped:
            asked_at = now
