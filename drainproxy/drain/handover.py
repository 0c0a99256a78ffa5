"""May a request be handed to a sibling, and what became of those that were? A budget, and counts.

A request that finds the app gone can be answered by another replica. When all replicas are down, each would ask the
others again and again: so what is handed over is a share of what comes, as with the retry budgets of other proxies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 3
"""So many siblings are asked for one request, each on a connection of its own."""
OURSELVES = 8
"""So often may such a connection lead back to this very Pod, which the Service has not given up yet."""
SHARE = 1.2
"""Attempts that each request of this Pod earns: enough for all to be handed over, too few for all to be sent around."""
PER_S = 10.0
"""Attempts that each second earns: a Pod with little traffic can hand it over, too."""
MOST = 1000.0
"""Attempts that are saved up at most."""
EARN_S = 0.01
"""While some are left, what was earned is added up this often: the requests are counted for it, which takes time."""


BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of how long what was handed over took, seconds."""


AGAIN_S = 1.0
"""While a request is held for the app, siblings are asked again this often."""
OUTAGE_S = 1.0
"""When the siblings that were asked had no app, nobody is asked for so long."""


class Why(StrEnum):
    """Why a request is handed over. Label values: API."""

    APP_GONE = "app-gone"
    """The app refuses connections: it has crashed, or restarts."""
    DRAIN = "drain"
    """It came in a drain: siblings take what comes, or the app has been stopped, or the deadline has passed."""


class Attempt(StrEnum):
    """What became of an attempt to hand a request over. Label values: API."""

    SENT = "sent"
    """A sibling got it."""
    TURNED_DOWN = "turned-down"
    """The sibling that got it has no app either: it was asked of another one, if attempts were left."""
    UNREACHABLE = "unreachable"
    """There was no connection to the successor, or no answer on it."""
    OURSELVES = "ourselves"
    """The connection led back to this very Pod."""
    NOT_READY = "not-ready"
    """It led to a sibling that drains, or whose app is gone."""
    STRANGER = "stranger"
    """Somebody else answered: not a drainproxy, or that of another workload, or without a certificate that we trust."""
    OVER_BUDGET = "over-budget"
    """It was not made: the budget was spent, or no sibling had an app a moment ago."""


class Budget:
    """Attempts that may be made. `requests`: how many requests have ended so far, of any outcome."""

    __slots__ = ("_requests", "_seen", "_since", "_tokens")

    def __init__(self, requests: Callable[[], int]) -> None:
        self._requests = requests
        self._seen = 0
        self._since: float | None = None
        self._tokens = MOST

    def take(self, now: float) -> bool:
        """Spend one attempt. False: there is none left. `now`: seconds, never earlier than in the last call."""
        if self._tokens < 1.0 or self._since is None or now - self._since >= EARN_S:
            self._earn(now)
            if self._tokens < 1.0:
                return False
        self._tokens -= 1.0
        return True

    def _earn(self, now: float) -> None:
        seen, since = self._requests(), now if self._since is None else self._since
        earned = SHARE * (seen - self._seen) + PER_S * (now - since)
        self._tokens = min(MOST, self._tokens + earned)
        self._seen, self._since = seen, now


class HandedOver:
    """What a process has handed over. One budget for all its routes: the siblings are the same."""

    __slots__ = ("_outage_until", "budget", "counts", "duration_s", "durations")

    def __init__(self, requests: Callable[[], int]) -> None:
        self.budget = Budget(requests)
        self.counts: Counter[tuple[Why, Attempt]] = Counter()
        self._outage_until = -inf
        self.durations = [0] * (len(BUCKETS) + 1)
        self.duration_s = 0.0

    def no_app_anywhere(self, now: float) -> None:
        """No sibling that was asked for one request has an app."""
        self._outage_until = now + OUTAGE_S

    def is_outage(self, now: float) -> bool:
        """So it was a moment ago: nobody is kept waiting for its end."""
        return now < self._outage_until

    def took(self, duration_s: float) -> None:
        """Something that a sibling got has ended, this long after it came."""
        self.durations[bisect_left(BUCKETS, duration_s)] += 1
        self.duration_s += duration_s

    def affords(self, now: float) -> bool:
        """Spend one attempt of the budget. False: there is none, or it would be in vain."""
        return now >= self._outage_until and self.budget.take(now)

    def may(self, why: Why, now: float) -> bool:
        """As `affords`, and counted if not: nobody is asked for this request any more."""
        allowed = self.affords(now)
        if not allowed:
            self.counts[why, Attempt.OVER_BUDGET] += 1
        return allowed
