"""What does a supervisor supervise, in tests? The real machine, ledger and turns, a clock, and scripted routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from drainproxy.config.options import Config
from drainproxy.config.values import Address, Route, parse_address
from drainproxy.drain.ledger import Ended, Kind, Ledger, Work
from drainproxy.drain.machine import DrainMachine
from drainproxy.drain.phase import Phase
from drainproxy.drain.turns import Turns
from drainproxy.net.health import Health
from drainproxy.observe.log import Log
from drainproxy.observe.meter import Meter
from drainproxy.observe.observer import Unobserved
from drainproxy.supervisor import Outside, Supervisor
from drainproxy.view import ProcessView, RouteAtWork
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.drain.announcement import Occasion
    from drainproxy.drain.release import Answer
    from drainproxy.net.client import ClientConnection

WELL = Health(reachable=True, healthy=True, reason="accepts connections")
ILL = Health(reachable=True, healthy=False, reason="GET / answered 500")
GONE = Health(reachable=False, healthy=False, reason="connection refused")


class ScriptedConnection:
    """A client's connection, and its session. It goes when it is asked to while it is idle; `answers`: not at once."""

    def __init__(self, name: str, listener: ScriptedListener, *, idle: bool = True, answers: bool = False) -> None:
        self.name = name
        self.idle = idle
        self.answers = answers
        self.asked: list[float] = []
        """When it was asked to go."""
        self._listener = listener

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def session(self) -> ScriptedConnection:
        """Its session, which knows whether it is idle."""
        return self

    @property
    def bound(self) -> bool:
        """It holds a connection to the app."""
        return self.answers or not self.idle

    def wind_down(self) -> None:
        """See ClientConnection."""
        self.asked.append(self._listener.clock.time())
        if self.answers:
            if len(self.asked) == 1:
                self._listener.ledger.farewell_begun()
        elif self.idle:
            self._listener.connections.discard(self)

    def answer(self) -> None:
        """The client knows."""
        self._listener.connections.discard(self)
        self._listener.ledger.farewell_ended()


class ScriptedListener:
    """See Listener. Work that is begun on it is cut when FORCING begins."""

    def __init__(self, clock: Clock, ledger: Ledger, route: Route) -> None:
        self.clock = clock
        self.route = route
        self.connections: set[ScriptedConnection] = set()
        self.phases: list[Phase] = []
        self.reported = 0
        self.handshakes = 0
        self.expected = True
        self.diverting = False
        self.reachable: bool | None = None
        self.asked: list[Callable[[Answer], None]] = []
        """Who waits for an answer of the successor."""
        self.open: list[Work] = []
        self.ledger = ledger

    def enter(self, phase: Phase) -> None:
        self.phases.append(phase)
        if phase is Phase.FORCING:
            for work in self.open:
                self.ledger.leave(work, self.clock.time(), Ended.CUT)
            self.open.clear()

    def app_seen(self, *, reachable: bool) -> None:
        self.reachable = reachable

    def divert(self, *, on: bool) -> None:
        self.diverting = on

    def ask_successor(self, tell: Callable[[Answer], None]) -> None:
        self.asked.append(tell)

    def report_all(self) -> None:
        self.reported += 1

    def expect_app(self, *, expected: bool) -> None:
        self.expected = expected


class ScriptedPool:
    """The counts of a connection pool."""

    def __init__(self) -> None:
        self.idle = 0
        self.busy = 0


class ScriptedMonitor:
    """See HealthMonitor."""

    def __init__(self, address: Address) -> None:
        self.health = GONE
        self.address = address
        self.pace = "usual"

    def hurry(self) -> None:
        self.pace = "often"

    def calm(self) -> None:
        self.pace = "usual"


class ScriptedRoute:
    """A route whose parts do what a test says."""

    def __init__(self, clock: Clock, ledger: Ledger, route: Route) -> None:
        self.listener = ScriptedListener(clock, ledger, route)
        self.pool = ScriptedPool()
        self.monitor = ScriptedMonitor(route.upstream)
        self.at_work = RouteAtWork(route, cast("Any", self.listener), cast("Any", self.pool), cast("Any", self.monitor))

    def connect(self, name: str, *, idle: bool = True, answers: bool = False) -> ScriptedConnection:
        """A client connects."""
        connection = ScriptedConnection(name, self.listener, idle=idle, answers=answers)
        self.listener.connections.add(connection)
        return connection


def at_work(routes: list[ScriptedRoute]) -> list[RouteAtWork]:
    """As the supervisor takes them."""
    return [route.at_work for route in routes]


class ScriptedProcess:
    """A process without sockets: its supervisor is the real one, over `machine`, and time is `clock`'s."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        routes: int = 1,
        machine: Callable[[Config, Ledger], DrainMachine] = DrainMachine,
        view: Callable[..., ProcessView] = ProcessView,
    ) -> None:
        self.config = config or Config()
        self.clock = Clock()
        self.ledger = Ledger()
        self.machine = machine(self.config, self.ledger)
        self.turns: Turns[ClientConnection] = Turns()
        self.meter = Meter()
        self.app_stops = 0
        self.occasions: list[Occasion] = []
        named = [
            Route(parse_address(f":{n}"), parse_address(f"127.0.0.1:{n + 100}")) for n in range(9080, 9080 + routes)
        ]
        self.routes = [ScriptedRoute(self.clock, self.ledger, route) for route in named]
        self.view = view(self.clock.loop, self.config, self.machine, self.ledger, at_work(self.routes))
        self.supervisor = Supervisor(
            self.clock.loop,
            self.view,
            at_work(self.routes),
            turns=self.turns,
            meter=self.meter,
            log=Log(self.config),
            outside=Outside(self._stop_app, self.occasions.append, Unobserved(), _nothing),
        )

    def _stop_app(self) -> None:
        self.app_stops += 1

    def look(self, *seen: Health) -> None:
        """Each route's app is looked at."""
        for route, health in zip(self.routes, seen, strict=True):
            route.monitor.health = health
            self.supervisor.saw(route.at_work, health)

    def begin(
        self, kind: Kind = Kind.HTTP, *, client: str = "192.0.2.7", method: str = "GET", target: str = "/"
    ) -> Work:
        """Work arrives."""
        work = Work(kind, client)
        work.method, work.target = method, target
        self.routes[0].listener.open.append(work)
        self.ledger.enter(work, self.clock.time())
        return work

    def end(self, work: Work, ended: Ended = Ended.WELL) -> None:
        """It ends."""
        for route in self.routes:
            if work in route.listener.open:
                route.listener.open.remove(work)
        self.ledger.leave(work, self.clock.time(), ended)
        self.clock.run()

    def exited(self) -> int | None:
        """The exit code, once the process is to end."""
        return self.supervisor.exit_code.result() if self.supervisor.exit_code.done() else None


def _nothing() -> None:
    pass
