"""Does somebody scrape `/metrics`, and how often? So that the last values wait for the next scrape, and no longer."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

REMEMBERED = 5
"""Scrapes. Several scrapers, and people, read in between: the longest of the last gaps is long enough for each."""
MOST_S = 300.0
"""Whoever leaves more time between two scrapes does not watch (Prometheus forgets a series after five minutes)."""
MISSED = 2
"""A scraper that was not seen for so many intervals has gone."""


class Scrapes:
    """When `/metrics` was read. Times are the caller's clock, seconds."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, now: float) -> None:
        """It was read."""
        self._at.append(now)

    def interval_s(self, now: float) -> float | None:
        """How long the next scrape may be away; None: nobody scrapes."""
        gap_s = max((later - earlier for earlier, later in pairwise(self._at)), default=0.0)
        if not 0 < gap_s <= MOST_S or now - self._at[-1] > MISSED * gap_s:
            return None
        return gap_s
