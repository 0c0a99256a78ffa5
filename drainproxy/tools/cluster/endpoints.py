"""Who gets traffic, as a node sees it? Endpoints as the control plane states them, and as they arrive: late.

Facts of the EndpointSlice controller and kube-proxy: from its deletion on an endpoint is `terminating` and not `ready`,
whatever its probe says; `serving` keeps the probe's answer; a node sends new connections to the ready endpoints and,
only if there are none, to those that serve while they terminate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One Pod behind the Service. `serving`: its readiness probe says yes."""

    pod: str
    ip: str
    port: int
    serving: bool
    terminating: bool

    @property
    def ready(self) -> bool:
        return self.serving and not self.terminating


def usable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Where kube-proxy sends new connections."""
    ready = tuple(each for each in endpoints if each.ready)
    return ready or tuple(each for each in endpoints if each.serving and each.terminating)


@dataclass(frozen=True, slots=True)
class Lag:
    """How late a node learns of a change: evenly spread between the two. Seconds."""

    least_s: float = 0.0
    most_s: float = 0.0


class NodeView:
    """One node's knowledge of the Service. `apply` gets the usable endpoints when a change has arrived.

    Changes never overtake each other. Make it inside a running loop.
    """

    def __init__(self, lag: Lag, dice: random.Random, apply: Callable[[tuple[Endpoint, ...]], None]) -> None:
        self._lag, self._dice, self._apply = lag, dice, apply
        self._loop = asyncio.get_running_loop()
        self._last_at = 0.0
        self._due: deque[tuple[Endpoint, ...]] = deque()
        self._timers: deque[asyncio.TimerHandle] = deque()

    def publish(self, endpoints: Sequence[Endpoint]) -> None:
        """The control plane has new endpoints; this node will know of them after its lag."""
        at = max(self._loop.time() + self._dice.uniform(self._lag.least_s, self._lag.most_s), self._last_at)
        self._last_at = at
        # Timers for the same moment fire in any order: each takes the oldest change, not its own.
        self._due.append(usable(endpoints))
        self._timers.append(self._loop.call_at(at, self._arrive))

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _arrive(self) -> None:
        self._timers.popleft()
        self._apply(self._due.popleft())
