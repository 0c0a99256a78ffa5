"""When does each step of a drain come? The arithmetic of floor, quiet and deadline, in one place.

All times are absolute seconds on the caller's clock; all durations come from the options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.config.options import Config

HURRY_CAP_S = 5.0
"""A second SIGTERM, or Ctrl-C, leaves what is in flight at most this long."""

FORCED_EXIT_S = 0.5
"""After a forced drain the budget is spent: the process ends this soon, not an app-stop-time later."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One drain's absolute times. Made at the trigger.

    `told` and `hurry` make another, never a later one; `patient` moves the quiet limit, and never the deadline.
    """

    started_at: float
    floor_at: float
    quiet_limit_at: float
    deadline_at: float
    quiet_period_s: float

    @staticmethod
    def of(config: Config, now: float) -> Schedule:
        """The drain that is triggered now."""
        floor_at = now + config.telling_s + config.propagation_delay_s
        return Schedule(
            started_at=now,
            floor_at=floor_at,
            quiet_limit_at=floor_at + config.quiet_limit_s,
            deadline_at=now + config.budget_s,
            quiet_period_s=config.quiet_period_s,
        )

    def told(self, config: Config, now: float) -> Schedule:
        """The same drain with its floor counted from now: others know of it, or cannot be told."""
        floor_at = min(self.floor_at, now + config.propagation_delay_s)
        return replace(
            self, floor_at=floor_at, quiet_limit_at=min(self.quiet_limit_at, floor_at + config.quiet_limit_s)
        )

    def patient(self) -> Schedule:
        """The same drain, insisting on quiet to the deadline: nobody waits for its end."""
        return replace(self, quiet_limit_at=self.deadline_at)

    def hurry(self, now: float) -> Schedule:
        """The same drain without floor and quiet, and with at most HURRY_CAP_S left."""
        return replace(
            self,
            floor_at=min(self.floor_at, now),
            quiet_limit_at=min(self.quiet_limit_at, now),
            deadline_at=min(self.deadline_at, now + HURRY_CAP_S),
        )

    def quiet_at(self, last_arrival_at: float | None) -> float:
        """When the traffic counts as having stopped, if nothing more arrives."""
        since = self.floor_at if last_arrival_at is None else max(self.floor_at, last_arrival_at)
        return min(since + self.quiet_period_s, self.quiet_limit_at)
