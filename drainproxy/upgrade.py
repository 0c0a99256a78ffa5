"""How does a new drainproxy take the place of the running one, so that no client notices?

The new one gets the listening sockets themselves, so there is one queue of clients, and nobody in it is lost. The old
one goes on serving until the new one says that it serves; if it never does, nothing has happened. Then the old one
accepts nobody any more and drains what it has. Should the new one end while the old one drains, the old one takes its
place again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from drainproxy.admin.control import Upgraded
from drainproxy.config.values import show_duration
from drainproxy.drain.phase import Trigger
from drainproxy.errors import ChildError, HandoverError, UpgradeRefusedError
from drainproxy.net.adopted import admin_of, names
from drainproxy.observe import carried
from drainproxy.process.handover import Channel, bequeath
from drainproxy.process.keeper import InService, announce, become_keeper, code_of_all
from drainproxy.process.orphan import orphaned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drainproxy.admin.server import AdminServer
    from drainproxy.net.tasks import Tasks
    from drainproxy.observe.log import Log
    from drainproxy.observe.meter import Meter
    from drainproxy.process.children import Child, Children
    from drainproxy.process.handover import Inheritance
    from drainproxy.process.notify import ServiceManager
    from drainproxy.restart import AppProcess, Apps
    from drainproxy.supervisor import Supervisor
    from drainproxy.view import ProcessView, RouteAtWork


class Stage(Enum):
    """Where this process stands among the generations."""

    TAKING_OVER = "the generation before this one still drains"
    IN_SERVICE = "in service"
    HANDING_OVER = "a new generation is starting already"
    HANDED_OVER = "a new generation is in service"


NEXT: dict[Stage, frozenset[Stage]] = {
    Stage.TAKING_OVER: frozenset({Stage.IN_SERVICE}),
    Stage.IN_SERVICE: frozenset({Stage.HANDING_OVER}),
    Stage.HANDING_OVER: frozenset({Stage.IN_SERVICE, Stage.HANDED_OVER}),
    Stage.HANDED_OVER: frozenset({Stage.IN_SERVICE}),
}
"""Which stage may follow which."""


@dataclass(frozen=True, slots=True)
class Service:
    """What passes from one process to the next: ports, and what is told and counted of them."""

    view: ProcessView
    routes: list[RouteAtWork]
    admin: AdminServer
    supervisor: Supervisor
    meter: Meter


class Generations:
    """This process as one of a line: what it takes over from the one before, and hands over to the one after."""

    def __init__(
        self,
        inheritance: Inheritance,
        manager: ServiceManager,
        service: Service,
        *,
        tasks: Tasks,
        children: Children,
        log: Log,
        apps: Apps | None,
    ) -> None:
        self.stage = Stage.IN_SERVICE if inheritance.channel is None else Stage.TAKING_OVER
        self._inheritance = inheritance
        self._manager = manager
        self._view = service.view
        self._routes = service.routes
        self._admin = service.admin
        self._supervisor = service.supervisor
        self._meter = service.meter
        self._tasks = tasks
        self._children = children
        self._log = log
        self._apps = apps
        self._next: Child | None = None
        self._channel: Channel | None = None
        self._keeper_pipe: tuple[int, int] | None = None
        self._counted: carried.Counts = {}
        self._decided: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """Of the last upgrade that was begun: why it has failed, None if it has not."""
        self._supervisor.pass_on = self._pass_on
        service.view.generation = inheritance.generation

    # As the new generation.

    @property
    def inherits(self) -> bool:
        """A generation before this one waits for us to be ready."""
        return self._inheritance.channel is not None

    async def may_serve(self) -> None:
        """Wait until this process can take over: its app is well, or there is nobody left to take over from."""
        channel = self._inheritance.channel
        if channel is None:
            return
        await channel.open()
        answer: asyncio.Future[Any] = asyncio.ensure_future(channel.receive())
        ends: asyncio.Future[Any] = self._supervisor.exit_code
        await asyncio.wait({answer, self._supervisor.ready, ends}, return_when=asyncio.FIRST_COMPLETED)
        channel.send(ready=True)
        await asyncio.wait({answer, ends}, return_when=asyncio.FIRST_COMPLETED)

    async def serves(self, taken: Sequence[str]) -> None:
        """This process accepts clients on these sockets: tell the old one, and count on from its counts.

        Returns when the old one has stepped back, or is gone: then the admin port is ours.
        """
        channel = self._inheritance.channel
        if channel is None:
            return
        self._view.upgraded_at = time.time()
        self._view.ledger.also_elsewhere(there=True)
        channel.send(serving=taken)
        said = await self._hear_until(channel, "counts")
        self._tasks.spawn(self._take_over(channel, gone=said is None), "take over")

    async def _hear_until(self, channel: Channel, word: str) -> dict[str, Any] | None:
        """Do what the old one says, this word included; None if it is gone before."""
        while (said := await channel.receive()) is not None:
            carried.add(said.get("counts", {}), self._meter)
            if "drain" in said:
                self._supervisor.drain(Trigger(said["drain"]))
            if word in said:
                break
        return said

    async def _take_over(self, channel: Channel, *, gone: bool) -> None:
        """Until the old one has ended its connections."""
        said = None if gone else await self._hear_until(channel, "done")
        await channel.close()
        self._enter(Stage.IN_SERVICE)
        self._view.ledger.also_elsewhere(there=False)
        self._log.info("the generation before has ended its connections" if said else "the generation before is gone")

    # As the old generation.

    def asked_to_upgrade(self) -> None:
        """SIGUSR2: hand over to a new process of the same command line. What becomes of it is in the log."""
        with suppress(UpgradeRefusedError):
            self._begin([sys.executable, *sys.orig_argv[1:]])

    async def upgrade(self, program: str | None) -> Upgraded:
        """See admin.control.Upgrades."""
        self._begin([sys.executable, *sys.orig_argv[1:]] if program is None else [program, *sys.argv[1:]])
        failure = await asyncio.shield(self._decided)
        if failure is not None:
            raise HandoverError(failure)
        assert self._next is not None, "an upgrade that did not fail has a new process"
        return Upgraded(self._next.pid, self._inheritance.generation + 1)

    def _begin(self, command: Sequence[str]) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._log.error("upgrade refused", reason=refusal)
            raise UpgradeRefusedError(refusal)
        self._enter(Stage.HANDING_OVER)
        self._next = None
        self._decided = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._hand_over(command), "hand over")

    def _refusal(self) -> str | None:
        if self.stage is not Stage.IN_SERVICE:
            why: str = self.stage.value
            return why
        if self._view.machine.schedule is not None:
            return "a drain runs"
        if self._view.hold() is not None:
            return "requests are held: release them first"
        return None if self._apps is None else self._apps.busy

    def obstacle(self) -> str | None:
        """Why the app may not be restarted now."""
        if self.stage is not Stage.IN_SERVICE:
            return f"an upgrade runs: {self.stage.value}"
        return "a drain runs" if self._view.machine.schedule is not None else None

    async def _hand_over(self, command: Sequence[str]) -> None:
        """Start the new generation and wait for it. Until it serves, nothing changes here."""
        ours, theirs = socket.socketpair()
        channel = self._channel = Channel(ours)
        within_s = self._view.config.upgrade_timeout_s
        try:
            async with asyncio.timeout(within_s):
                with theirs:
                    self._next = self._start(command, theirs)
                await channel.open()
                if not self._has_keeper:
                    self._next = await self._orphan(channel)
                child = self._next
                self._log.info("upgrade begins", pid=child.pid, generation=self._inheritance.generation + 1)
                serving = await self._await_service(channel)
        except TimeoutError:
            why = "is its app well, and its gate open? See --upgrade-timeout"
            await self._failed(channel, f"not ready within {show_duration(within_s)}: {why}")
        except (ChildError, HandoverError, OSError) as error:
            await self._failed(channel, str(error))
        else:
            await self._step_back(channel, child, serving)

    @property
    def _has_keeper(self) -> bool:
        """The process that was started first stays, whatever is upgraded.

        systemd needs nobody to stay, but for an app: that is our child, and would be nobody's.
        """
        return self._inheritance.keeper is not None or self._app is not None or not self._manager.follows

    async def _orphan(self, channel: Channel) -> Child:
        """The new generation; what we have started was only its parent. Raises ChildError."""
        said = await channel.receive() or {}
        if "pid" not in said:
            raise ChildError(said.get("failed", "its parent has ended: the log says why"), 1)
        pid = said["pid"]
        try:
            return self._children.adopt(pid)
        except ChildError:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # it would find nobody to take over from, and serve
            raise

    def _start(self, command: Sequence[str], theirs: socket.socket) -> Child:
        self._children.listen()
        listening = [(admin_of(self._view.config.admin), sock) for sock in self._admin.sockets]
        for name, at_work in self._named():
            listening += [(name, sock) for sock in at_work.listener.sockets]
        app = self._app
        legacy = bequeath(
            listening,
            theirs,
            generation=self._inheritance.generation + 1,
            keeper=self._keeper(),
            app=None if app is None else app.child.pid,
            app_address="" if app is None else str(app.address),
        )
        environ = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"} | legacy.environ
        if not self._has_keeper:
            command = orphaned(command, legacy.channel)
        return self._children.start_generation(command, environ, legacy.passed)

    def _named(self) -> Iterator[tuple[str, RouteAtWork]]:
        """The routes, by the names of their sockets."""
        return zip(names([each.route for each in self._routes]), self._routes, strict=True)

    def _keeper(self) -> int | None:
        """Where to tell the keeper who is in service: of the one that we have, or will be."""
        if not self._has_keeper:
            return None
        if self._inheritance.keeper is not None:
            return self._inheritance.keeper
        if self._keeper_pipe is None:
            self._keeper_pipe = os.pipe()
        return self._keeper_pipe[1]

    async def _await_service(self, channel: Channel) -> list[str]:
        """The names of the sockets on which it serves. Raises HandoverError with the reason why it does not."""
        if not await channel.hears("ready"):
            raise HandoverError("it ended before it was ready: its log says why")
        if self._view.machine.schedule is not None:
            raise HandoverError("a drain has begun in the meantime")
        channel.send(go=True)
        serving = await channel.hears("serving")
        if not isinstance(serving, list):
            raise HandoverError("it was ready, and then it ended: its log says why")
        return serving

    async def _failed(self, channel: Channel, reason: str) -> None:
        if self._next is not None:
            self._next.kill()
        await channel.close()
        self._enter(Stage.IN_SERVICE)
        self._log.error("upgrade failed: this process stays in service", reason=reason)
        self._decided.set_result(reason)

    async def _step_back(self, channel: Channel, child: Child, serving: list[str]) -> None:
        """The new generation serves: accept nobody any more, and drain. A route that it has not goes with this process.

        The drain has begun before anything is awaited, and readiness is told of the port: probes see no gap.
        The service manager knows whom to signal before then, too: what it signals to us is not passed on (`also`).
        """
        self._enter(Stage.HANDED_OVER)
        self._manager.hand_over_to(None if self._has_keeper else child.pid)
        machine = self._view.machine
        asked, terminated = machine.trigger, machine.terminating_at is not None
        machine.handed_over = True
        for name, at_work in self._named():
            if name in serving:
                await at_work.listener.pass_on()
        if admin_of(self._view.config.admin) in serving:
            await self._admin.pass_on()
        self._announce(child.pid)
        self._counted = carried.counts(self._view, self._meter)
        channel.send(counts=self._counted)
        if terminated:
            child.signal(signal.SIGTERM)
        elif asked is not None:
            self._pass_on(asked)
        self._log.info("upgraded", pid=child.pid, generation=self._inheritance.generation + 1)
        self._supervisor.hand_over()
        self._decided.set_result(None)
        await asyncio.shield(child.exited)
        if child.exited.result() != 0 and not self._supervisor.exit_code.done():
            await self._take_back(channel, child)

    def _pass_on(self, trigger: Trigger) -> None:
        """Somebody has asked here for a drain of the service."""
        if self._channel is not None:
            self._channel.send(drain=trigger.value)

    async def _take_back(self, channel: Channel, child: Child) -> None:
        """The new generation has failed while this one drains: go on as if nothing had been, unless it is too late."""
        if not self._supervisor.take_back():
            self._log.error("the new generation has ended, as will this process", exit_code=child.exited.result())
            return
        self._log.error("the new generation has ended: this process serves again", exit_code=child.exited.result())
        await channel.close()
        self._announce(os.getpid())
        self._manager.take_back(None if self._has_keeper else os.getpid())
        for at_work in self._routes:
            await at_work.listener.take_back()
        await self._admin.answer()
        self._enter(Stage.IN_SERVICE)

    def also(self, number: int, here: Callable[[], None]) -> Callable[[], None]:
        """What a signal does: what it means here, and the same in the generation that is in service.

        A service manager that knows of that one signals it by itself.
        """

        def both() -> None:
            if self.stage is Stage.HANDED_OVER and self._next is not None and self._has_keeper:
                self._next.signal(number)
            here()

        return both

    async def end(self) -> None:
        """The last connection has ended: pass on what was counted since the handover."""
        if self.stage is Stage.HANDING_OVER and self._next is not None:
            self._next.kill()  # it has not been told to serve
        if self.stage is Stage.HANDED_OVER and self._channel is not None:
            now = carried.counts(self._view, self._meter)
            self._channel.send(counts=carried.since(now, self._counted), done=True)
            await self._channel.close()

    @property
    def handed_over(self) -> bool:
        """A new generation is in service: this process ends, and nothing of what it has started with it."""
        return self.stage is Stage.HANDED_OVER

    def keep(self) -> int | None:
        """Called at the very end. Stay as the keeper, if this is the process that is watched: then it never returns.

        Else the exit code that is not ours but the new generation's, or None.
        """
        if self.stage is not Stage.HANDED_OVER or self._next is None or not self._has_keeper:
            return None
        app = self._app
        app_code = app.child.exited.result() if app is not None and app.child.exited.done() else None
        if self._next.exited.done():
            self._announce(os.getpid())  # nobody else is left to wait for
            return code_of_all(self._next.exited.result(), app_code)
        if self._keeper_pipe is None:
            return None
        return become_keeper(self._keeper_pipe[0], self._in_service(self._next.pid), app_code)

    @property
    def _app(self) -> AppProcess | None:
        """The app's process under `run`."""
        return None if self._apps is None else self._apps.current

    def _announce(self, pid: int) -> None:
        if self._inheritance.keeper is not None:
            announce(self._inheritance.keeper, self._in_service(pid))

    def _in_service(self, pid: int) -> InService:
        app = self._app
        return InService(pid, 0 if app is None else app.child.pid)

    def _enter(self, stage: Stage) -> None:
        assert stage in NEXT[self.stage], f"{self.stage} cannot be followed by {stage}"
        self.stage = stage
