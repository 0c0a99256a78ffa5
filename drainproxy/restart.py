"""Which process is the app under `run`, and how does a new one take its place, so that no client notices?

overlap: where CMD can be told its port, the new process starts beside the old one. Once it is healthy, new exchanges go
to it; the old one is kept for the trial time in case the new one ends, and then finishes what it has.
hold: where it cannot, requests wait while the old process finishes and the new one starts. There is no way back then.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from drainproxy.admin.control import Restarted
from drainproxy.config.values import Address, parse_address, show_duration
from drainproxy.errors import ChildError, RestartError, RestartRefusedError
from drainproxy.net.health import HealthMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from drainproxy.config.options import Config
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.health import Health
    from drainproxy.net.tasks import Tasks
    from drainproxy.observe.log import Log
    from drainproxy.observe.meter import Meter
    from drainproxy.process.children import Child, Children
    from drainproxy.process.command import AppCommand
    from drainproxy.supervisor import Supervisor
    from drainproxy.view import ProcessView, RouteAtWork


class Step(Enum):
    """How far a restart is. Values are told to people."""

    NONE = "no restart runs"
    STARTING = "the new process starts, the old one serves"
    TRIAL = "the new process serves, the old one is kept in case it ends"
    DRAINING = "the new process serves, the old one finishes what it has"
    HOLDING = "requests wait, the old process finishes what it has"
    REPLACING = "requests wait, the new process starts"


NEXT: dict[Step, frozenset[Step]] = {
    Step.NONE: frozenset({Step.STARTING, Step.HOLDING}),
    Step.STARTING: frozenset({Step.TRIAL, Step.NONE}),
    Step.TRIAL: frozenset({Step.DRAINING, Step.NONE}),
    Step.DRAINING: frozenset({Step.NONE}),
    Step.HOLDING: frozenset({Step.REPLACING, Step.NONE}),
    Step.REPLACING: frozenset({Step.NONE}),
}
"""Which step may follow which. Back to NONE from anywhere but DRAINING and REPLACING means that it has failed."""


class Life(Enum):
    """What a process of the app is doing. Values are words of `/status`: API."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    STOPPING = "stopping"


LIVES: dict[Life, frozenset[Life]] = {
    Life.STARTING: frozenset({Life.SERVING, Life.STOPPING}),
    Life.SERVING: frozenset({Life.LEAVING, Life.STOPPING}),
    Life.LEAVING: frozenset({Life.SERVING, Life.STOPPING}),
    Life.STOPPING: frozenset(),
}


@dataclass(slots=True, eq=False)
class AppProcess:
    """One process of the app; `number`: 1, and one more with each restart."""

    child: Child
    number: int
    address: Address
    life: Life = Life.STARTING

    def enter(self, life: Life) -> None:
        """It goes on to this."""
        assert life in LIVES[self.life], f"{self.life} cannot be followed by {life}"
        self.life = life


class Apps:
    """The app's processes: one, or two during a restart."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        command: AppCommand,
        *,
        children: Children,
        routes: list[RouteAtWork],
        tasks: Tasks,
        meter: Meter,
        log: Log,
    ) -> None:
        self.step = Step.NONE
        self.current: AppProcess | None = None
        """The one that new exchanges go to, once the first has started."""
        self._loop = loop
        self._config = config
        self.command = command
        self._children = children
        self._routes = routes
        self._tasks = tasks
        self._meter = meter
        self._log = log
        self._all: list[AppProcess] = []
        self._number = 0
        self._ending = False
        """The app is stopped, and drainproxy ends."""
        self._left = asyncio.Event()
        self._decided: asyncio.Future[str | None] = loop.create_future()
        for at_work in routes:
            at_work.pool.on_left = self._look_who_is_left

    def begin(self, supervisor: Supervisor, view: ProcessView, obstacle: Callable[[], str | None]) -> None:
        """What it works with. `obstacle`: why no restart may begin now, None if it may."""
        self._supervisor = supervisor
        self._view = view
        self._obstacle = obstacle
        view.children = self.told

    def start(self, inherited: int | None, at: str) -> AppProcess:
        """The first process, or the one that another generation has started. Raises ChildError."""
        configured = self._config.routes[0].upstream
        address = parse_address(at) if at and self.command.movable else configured
        app = self._spawn(address) if inherited is None else self._watch(self._children.adopt(inherited), address)
        if address != configured:
            self._send_to(app)
        self.current = app
        app.enter(Life.SERVING)
        return app

    @property
    def busy(self) -> str | None:
        """How far the restart is that runs; None: none does."""
        return None if self.step is Step.NONE else f"a restart of the app runs: {self.step.value}"

    def signal(self, number: int) -> None:
        """Pass a signal on to the app."""
        if self.current is not None:
            self.current.child.signal(number)

    def stop(self) -> None:
        """Nothing is in flight any more: SIGTERM, and SIGKILL after the app's time. After a handover it goes on."""
        if self._view.machine.handed_over:
            return
        self._ending = True
        for app in list(self._all):
            self._stop(app)

    async def end(self) -> None:
        """Stop what still runs, and wait for its end. Nothing is started any more."""
        self._ending = True
        for app in list(self._all):
            self._stop(app)
            await app.child.end(self._config.app_stop_time_s)

    def told(self) -> list[dict[str, object]]:
        """For `/status`."""
        return [
            {"pid": app.child.pid, "number": app.number, "state": app.life.value, "address": str(app.address)}
            for app in self._all
        ]

    async def restart(self) -> Restarted:
        """See admin.control.Restarts."""
        self.begin_restart()
        failure = await asyncio.shield(self._decided)
        if failure is not None:
            raise RestartError(failure)
        assert self.current is not None, "a restart that did not fail has a process"
        return Restarted(self.current.child.pid, self.current.number)

    def asked_to_restart(self) -> None:
        """SIGHUP. What becomes of it is in the log."""
        with suppress(RestartRefusedError):
            self.begin_restart()

    def begin_restart(self) -> None:
        """Begin one. Raises RestartRefusedError."""
        assert self.current is not None, "the app starts before the admin port answers"
        refusal = self._obstacle()
        if refusal is not None:
            self._log.error("restart refused", reason=refusal)
            raise RestartRefusedError(refusal)
        self._decided = self._loop.create_future()
        if self.command.movable:
            self._enter(Step.STARTING)
            self._tasks.spawn(self._decide(self._overlap(self.current)), "restart the app")
        else:
            self._enter(Step.HOLDING)
            self._tasks.spawn(self._decide(self._replace(self.current)), "restart the app")

    async def _decide(self, restart: Coroutine[None, None, None]) -> None:
        """Carry it out, and say how it ended to all who wait."""
        try:
            await restart
        except (RestartError, ChildError, OSError) as failure:
            self._enter(Step.NONE)
            self._meter.restarted("failed")
            self._log.error("restart failed", reason=str(failure))
            self._tell(str(failure))
        else:
            self._enter(Step.NONE)

    def _tell(self, failure: str | None) -> None:
        if not self._decided.done():
            self._decided.set_result(failure)

    # Side by side.

    async def _overlap(self, old: AppProcess) -> None:
        new = self._spawn(self._free_address(old.address))
        self._log.info("restart begins", pid=new.child.pid, address=str(new.address))
        failure = await self._until_well(new)
        if failure is not None:
            self._stop(new)
            raise RestartError(f"{failure}; the old process serves")
        self._switch(old, new)
        self._log.info("new requests go to the new process", pid=new.child.pid)
        self._enter(Step.TRIAL)
        if await self._ends_within(new, self._config.restart_trial_s):
            if not self._ending and not old.child.exited.done():
                self._switch(new, old)
            raise RestartError(f"the new process ended {self._code(new)} after the switch; the old one serves again")
        self._enter(Step.DRAINING)
        self._done(new)
        await self._until_left(self._config.budget_s, spread_s=self._config.close_spread_s)
        self._stop(old)
        await asyncio.shield(old.child.exited)

    def _switch(self, old: AppProcess, new: AppProcess) -> None:
        """New exchanges go to the new one; what the old one has stays there."""
        if old.life is Life.SERVING:
            old.enter(Life.LEAVING)
        new.enter(Life.SERVING)
        self.current = new
        self._send_to(new)

    def _send_to(self, app: AppProcess) -> None:
        for at_work in self._routes:
            at_work.listener.retarget(app.address)
            at_work.monitor.retarget(app.address)

    def _free_address(self, before: Address) -> Address:
        """Where the old one does not listen."""
        if before.path:
            path = self._config.routes[0].upstream.path
            return Address("", 0, f"{path}.{self._number + 1}")
        family = socket.AF_INET6 if ":" in before.host else socket.AF_INET
        with socket.socket(family) as sock:
            sock.bind((before.host, 0))
            return replace(before, port=sock.getsockname()[1])

    # One after the other.

    async def _replace(self, old: AppProcess) -> None:
        for at_work in self._routes:
            at_work.listener.hold(self._config.hold_limit_s)
        begun_at = self._loop.time()
        self._log.info("restart begins: requests wait", at_most_s=self._config.hold_limit_s)
        try:
            await self._until_left(min(self._config.budget_s, self._config.hold_limit_s))
            self._stop(old)
            await asyncio.shield(old.child.exited)
            self._enter(Step.REPLACING)
            new = self.current = self._spawn(old.address)
            failure = await self._until_well(new)
        finally:
            for at_work in self._routes:
                at_work.listener.release()
        if failure is None or not new.child.exited.done():
            new.enter(Life.SERVING)
        if failure is not None:
            raise RestartError(f"{failure}; there is no other")
        self._log.info("requests go on", waited_s=round(self._loop.time() - begun_at, 3))
        self._done(new)

    # Both.

    def _done(self, new: AppProcess) -> None:
        self._meter.restarted("done")
        self._log.info("restarted", pid=new.child.pid, number=new.number, address=str(new.address))
        self._tell(None)

    async def _until_well(self, app: AppProcess) -> str | None:
        """None: it is healthy; else why it is not."""
        monitor = HealthMonitor(replace(self._config.routes[0], upstream=app.address), self._config)
        well = self._loop.create_future()

        def saw(health: Health) -> None:
            if health.healthy and not well.done():
                well.set_result(None)

        looking = self._tasks.spawn(monitor.run(saw), "look at the new process of the app")
        within_s = self._config.restart_timeout_s
        try:
            await asyncio.wait({well, app.child.exited}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
        if app.child.exited.done():
            return f"the new process ended {self._code(app)} before it was healthy"
        return None if well.done() else f"the new process was not healthy within {show_duration(within_s)}"

    async def _ends_within(self, app: AppProcess, within_s: float) -> bool:
        await asyncio.wait({app.child.exited}, timeout=within_s)
        return app.child.exited.done()

    async def _until_left(self, within_s: float, *, spread_s: float = 0.0) -> None:
        """Until the connections to the process before have ended; whoever stays long is asked to go, one by one."""
        self._left.clear()
        staying = [connection for at_work in self._routes for connection in at_work.listener.staying()]
        for place, connection in enumerate(staying):
            self._loop.call_later(spread_s * place / len(staying), _ask_to_go, connection)
        self._look_who_is_left()
        try:
            async with asyncio.timeout(within_s):
                await self._left.wait()
        except TimeoutError:
            left = sum(at_work.pool.leaving for at_work in self._routes)
            self._log.warning("the old process of the app is stopped with work in flight", connections=left)

    def _look_who_is_left(self) -> None:
        if not any(at_work.pool.leaving for at_work in self._routes):
            self._left.set()

    def _spawn(self, address: Address) -> AppProcess:
        if self._ending:
            raise RestartError("drainproxy ends")
        words, environ = self.command.at(address)
        return self._watch(self._children.start(words, environ), address)

    def _watch(self, child: Child, address: Address) -> AppProcess:
        self._number += 1
        app = AppProcess(child, self._number, address)
        self._all.append(app)
        child.exited.add_done_callback(lambda _: self._ended(app))
        return app

    def _ended(self, app: AppProcess) -> None:
        """The service ends with the process that serves, unless the one before can take its place again."""
        self._all.remove(app)
        replaced = self.step is Step.HOLDING or (self.step is Step.TRIAL and bool(self._all))
        if app is self.current and not replaced:
            self._supervisor.app_ended(app.child.exited.result())
        else:
            self._log.info("a process of the app ended", pid=app.child.pid, exit_code=app.child.exited.result())

    def _stop(self, app: AppProcess) -> None:
        if app.life is not Life.STOPPING:
            app.enter(Life.STOPPING)
        app.child.stop(self._config.app_stop_time_s)

    def _code(self, app: AppProcess) -> str:
        return f"with exit code {app.child.exited.result()}"

    def _enter(self, step: Step) -> None:
        assert step in NEXT[self.step], f"{self.step} cannot be followed by {step}"
        self.step = step


def _ask_to_go(connection: ClientConnection) -> None:
    if not connection.transport.is_closing():
        connection.wind_down()
