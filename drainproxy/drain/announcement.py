"""Who else is told that we come, go or come back? The occasions, what became of each call, and when to try again.

For service discovery beside Kubernetes' own: Consul, Nacos, Eureka, target groups of load balancers, DNS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = OK, FAILED = ("ok", "failed")
"""What can become of a call. Label values: API."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


class Occasion(Enum):
    """When somebody is told. Label values and words of `/status`: API."""

    READY = "ready"
    """The app is ready for the first time."""
    DRAIN = "drain"
    """A drain has begun."""
    RESUME = "resume"
    """It was called off."""


@dataclass(frozen=True, slots=True)
class Told:
    """One call, with all its attempts. `error`: why the last of them failed; None: it succeeded."""

    occasion: Occasion
    attempts: int
    took_s: float
    error: str | None

    @property
    def result(self) -> str:
        """Label value: API."""
        return OK if self.error is None else FAILED


def pause_s(attempts: int) -> float:
    """How long to wait after so many attempts: twice as long each time, up to LONGEST_PAUSE_S."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 10))


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$NAME` replaced; names that are not known stay, as does `$$` as `$`."""
    return Template(text).safe_substitute(variables)
