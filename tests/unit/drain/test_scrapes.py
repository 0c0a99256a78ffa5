"""Does somebody scrape, and how often?"""

from __future__ import annotations

import pytest

from drainproxy.drain.scrapes import MISSED, MOST_S, REMEMBERED, Scrapes


def scraped(*at: float) -> Scrapes:
    scrapes = Scrapes()
    for each in at:
        scrapes.note(each)
    return scrapes


@pytest.mark.parametrize("at", [(), (5.0,), (5.0, 5.0)])
def test_one_scrape_is_no_interval(at: tuple[float, ...]) -> None:
    assert scraped(*at).interval_s(6.0) is None


def test_the_time_between_two_is_the_interval() -> None:
    assert scraped(0, 15).interval_s(29) == 15


def test_of_several_scrapers_the_longest_gap_counts() -> None:
    assert scraped(0, 2, 30, 32, 60).interval_s(61) == 28


def test_a_gap_of_long_ago_is_forgotten() -> None:
    assert scraped(0, *(100 + 5 * n for n in range(REMEMBERED))).interval_s(130) == 5


def test_a_scraper_that_has_gone_or_comes_too_rarely_is_none() -> None:
    assert scraped(0, 15).interval_s(15 + MISSED * 15) == 15
    assert scraped(0, 15).interval_s(15.1 + MISSED * 15) is None
    assert scraped(0, MOST_S).interval_s(MOST_S) == MOST_S
    assert scraped(0, MOST_S + 1).interval_s(MOST_S + 1) is None
