"""Where is the process on its way out? The phases, which may follow which, and what each means.

    SERVING ──trigger──▶ PROPAGATING ──floor──▶ FINISHING ──idle and quiet──▶ DRAINED
       ▲                      │                     └──deadline──▶ FORCING ──cut──┘ │
       └──────resume──────────┴─────────────────────┴───────────────────────────────┘

`Phase` is the one language between the drain machine, which moves it, and the sessions, which each know what it means
for their protocol:

SERVING      no drain runs.
PROPAGATING  the cluster is learning that this Pod ends. Everything is served; idle connections stay open.
FINISHING    late requests are served and counted; connections are asked to leave; work in flight finishes.
FORCING      the deadline has passed: work in flight is cut, in a way that clients notice. This takes only a moment.
DRAINED      the app may be stopped. Requests that still arrive are served while the app runs.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """A step of the drain. Values are label values of metrics and words of `/status`: API."""

    SERVING = "serving"
    PROPAGATING = "propagating"
    FINISHING = "finishing"
    FORCING = "forcing"
    DRAINED = "drained"


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.SERVING: frozenset({Phase.PROPAGATING}),
    Phase.PROPAGATING: frozenset({Phase.FINISHING, Phase.SERVING}),
    Phase.FINISHING: frozenset({Phase.FORCING, Phase.DRAINED, Phase.SERVING}),
    Phase.FORCING: frozenset({Phase.DRAINED}),
    Phase.DRAINED: frozenset({Phase.SERVING}),
}
"""Which phase may follow which."""

DRAINING = frozenset({Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING})
LATE = frozenset({Phase.FINISHING, Phase.FORCING, Phase.DRAINED})
"""Phases in which an arrival is late: the floor has passed and someone has still not learned."""


class State(Enum):
    """What `/status` and the `drainproxy_state` metric call the whole."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    DRAINING = "draining"
    DRAINED = "drained"


class Trigger(Enum):
    """Who began the drain. Label values: API."""

    HTTP = "http"
    CLI = "cli"
    SIGTERM = "sigterm"
    SIGINT = "sigint"
    UPGRADE = "upgrade"
    """A new generation is in service: this process ends when its own connections have."""


class Outcome(Enum):
    """How a drain ended. Label values: API."""

    CLEAN = "clean"
    """Traffic had stopped, and nothing was cut."""
    STILL_ARRIVING = "still-arriving"
    """Nothing was cut, but requests still came: quiet is not insisted on for ever."""
    FORCED = "forced"
    """The deadline came first: what was in flight was cut."""
    RESUMED = "resumed"
    """It was called off."""
