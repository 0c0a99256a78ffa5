"""What does every connection of a route need? Made once a route, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.net.dial import Dialler
from drainproxy.net.pool import ConnectionPool
from drainproxy.net.splice import Splices
from drainproxy.observe.observer import Side
from drainproxy.session.detect import DetectSession
from drainproxy.session.http1 import Http1Session
from drainproxy.session.tunnel import TunnelSession
from drainproxy.session.undecided import UndecidedSession

if TYPE_CHECKING:
    import asyncio

    from drainproxy.config.options import Config
    from drainproxy.config.values import Route
    from drainproxy.drain.handover import HandedOver
    from drainproxy.drain.ledger import Ledger
    from drainproxy.drain.phase import Phase
    from drainproxy.net.siblings import Replica
    from drainproxy.net.successor import Handover
    from drainproxy.net.timers import Timers
    from drainproxy.observe.observer import Observer
    from drainproxy.observe.traces import Tracing
    from drainproxy.protocol.http1 import Forwarding
    from drainproxy.session.ports import Client, Session


HELLO_S = 0.05
"""A client that need not speak first has this long to say that a sibling has handed it over, before it is itself."""


@dataclass(frozen=True, slots=True)
class RouteContext:
    """A route's settings, and what its connections share.

    `limits`: seconds by Wait, 0 for none. `scheme`: what X-Forwarded-Proto says.
    """

    loop: asyncio.AbstractEventLoop
    route: Route
    config: Config
    tls: bool
    scheme: bytes
    limits: tuple[float, float, float, float, float]
    pool: ConnectionPool
    dialler: Dialler
    handover: Handover | None
    splices: Splices
    ledger: Ledger
    timers: Timers
    observer: Observer
    tracing: Tracing | None

    def session_for(self, client: Client, forwarding: Forwarding, phase: Phase) -> Session:
        """The conversation that this route's protocol asks for."""
        match self.route.protocol:
            case "http1":
                return Http1Session(client, self.config, forwarding, phase)
            case "tcp" if forwarding.hops and not forwarding.hopped:
                return UndecidedSession(client, self.config, forwarding, phase, http=False)
            case "tcp":
                return TunnelSession(client, None, hop=forwarding.hopped)
            case "any":
                return UndecidedSession(client, self.config, forwarding, phase)
            case "http2":
                return DetectSession(client, self.config, forwarding, phase, only_http2=True)
            case _:
                return DetectSession(client, self.config, forwarding, phase)


def context_for(  # noqa: PLR0913 - what a route shares with the others, each part by its name
    loop: asyncio.AbstractEventLoop,
    route: Route,
    config: Config,
    *,
    ledger: Ledger,
    timers: Timers,
    observer: Observer,
    handed: HandedOver,
    replica: Replica | None = None,
    tls: bool = False,
    tracing: Tracing | None = None,
) -> RouteContext:
    """The route's own parts, joined to those that the process has once."""
    pool = ConnectionPool(loop.time, config.upstream_idle_s, timers, observer)
    address = None if route.successor is None else route.successor.address
    handover: Handover | None = None
    if address is None or replica is None:
        dialler = Dialler(loop, route.upstream, config, pool)
    else:
        # Memory that only those pay who have a successor.
        from drainproxy.drain.absence import Absence  # noqa: PLC0415 - as said
        from drainproxy.net.siblings import Siblings  # noqa: PLC0415 - as said
        from drainproxy.net.successor import Handover as Handing  # noqa: PLC0415 - as said

        wait_s = min(config.successor_after_s, config.connect_wait_s)
        dialler = Dialler(loop, route.upstream, config, pool, absence=Absence(wait_s))
        idle = ConnectionPool(loop.time, config.upstream_idle_s, timers, observer, Side.SUCCESSOR)
        siblings = Siblings(loop, address, replica, limit_s=config.connect_timeout_s, pool=idle, tls=tls)
        pause_s = HELLO_S if route.protocol in ("tcp", "any") else 0.0
        handover = Handing(
            loop, siblings, handed, dialler=dialler, pool=pool, wait_s=config.connect_wait_s, pause_s=pause_s
        )
    return RouteContext(
        loop=loop,
        route=route,
        config=config,
        tls=tls,
        scheme=b"https" if tls else b"http",
        limits=time_limits(config),
        pool=pool,
        dialler=dialler,
        handover=handover,
        splices=Splices(loop),
        ledger=ledger,
        timers=timers,
        observer=observer,
        tracing=tracing,
    )


def time_limits(config: Config) -> tuple[float, float, float, float, float]:
    """Seconds, in the order of Wait.

    While a response is awaited no byte comes either: the shorter of both limits that are set. A client that has left
    is not waited for longer than an idle one, while nothing moves: the app may never learn that it need not answer.
    """
    silence_s = config.stream_idle_timeout_s
    response_s = min(filter(None, (config.response_timeout_s, silence_s)), default=0.0)
    return (config.idle_timeout_s, config.header_timeout_s, response_s, silence_s, silence_s or config.idle_timeout_s)
