"""What is there, in which order does it start and stop? The composition root: each object is built here, once.

Start: admin port, data ports, health checks, signals. Stop: the reverse. So probes are answered before anything can be
wrong, and to the very end. A process that takes over from another answers probes last: until then the other one does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from drainproxy import __version__
from drainproxy.admin.control import Operations
from drainproxy.admin.server import BACKLOG as ADMIN_BACKLOG
from drainproxy.admin.server import AdminServer
from drainproxy.announce.announcer import Announcer
from drainproxy.config.loading import chosen
from drainproxy.config.options import Config
from drainproxy.drain.handover import HandedOver
from drainproxy.drain.ledger import Ledger
from drainproxy.drain.machine import DrainMachine
from drainproxy.drain.turns import Turns
from drainproxy.errors import BudgetError, ConfigError
from drainproxy.holding import Holding
from drainproxy.net.adopted import ADMIN, admin_of, adopt, names
from drainproxy.net.health import HealthMonitor
from drainproxy.net.listener import BACKLOG, Listener
from drainproxy.net.peer import new_request_id
from drainproxy.net.route import context_for
from drainproxy.net.splice import FILES
from drainproxy.net.tasks import Tasks
from drainproxy.net.timers import Timers
from drainproxy.net.tls import Tls, Trust
from drainproxy.observe.log import configure
from drainproxy.observe.meter import Meter
from drainproxy.observe.observer import Side, Tee, Unobserved
from drainproxy.observe.otlp import SpanExporter
from drainproxy.observe.traces import DrainTrace, Tracing
from drainproxy.process.children import Children
from drainproxy.process.handover import inherit
from drainproxy.process.keeper import hold_for_keeper
from drainproxy.process.memory import FreedMemory
from drainproxy.process.notify import ServiceManager
from drainproxy.process.signals import listen
from drainproxy.supervisor import Outside, Supervisor
from drainproxy.upgrade import Generations, Service
from drainproxy.view import ProcessView, RouteAtWork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drainproxy.config.values import Route
    from drainproxy.net.adopted import Adopted
    from drainproxy.net.client import ClientConnection
    from drainproxy.net.siblings import Replica
    from drainproxy.observe.log import Log
    from drainproxy.process.command import AppCommand
    from drainproxy.process.handover import Inheritance
    from drainproxy.restart import Apps

try:
    import uvloop as loops
except ImportError:  # not on this platform: the stock loop works, too, only slower
    import asyncio as loops  # type: ignore[no-redef]  # either has new_event_loop

SPARE_FILES = 64
"""File descriptors for everything that is no proxied connection: log, admin port, health checks."""
FEW_CONNECTIONS = 1000
"""Fewer than these are told of even if nobody asked for a number."""
LAST_SPANS_S = 1.0
"""For the spans that wait when the process ends, the drain's own among them."""
ROUTE_FILES = 64
"""And for each route: nine for each listening socket (net/listener.ACCEPTS), and who comes in the turn of the limit."""


def run(config: Config, warnings: list[str], command: AppCommand | None = None, *, reread: Callable[[], Config]) -> int:
    """Serve until the process is told to end; with `command`, its process is the app, and our child.

    `reread` gives the configuration as it reads by the time of a SIGHUP.
    Returns the exit code. Raises BindError, ConfigError, ChildError.
    """
    log = configure(config)
    for warning in warnings:
        log.warning(warning)
    inheritance = inherit(os.environ, os.getpid())
    passed = Passed(adopt(os.environ, os.getpid()), inheritance, ServiceManager.of(os.environ, os.getpid()))
    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        code, generations = runner.run(_serve(config, log, command, reread, passed))
    kept = generations.keep()
    return code if kept is None else kept


@dataclass(frozen=True, slots=True)
class Passed:
    """What whoever has started this process gives it."""

    adopted: Adopted
    inheritance: Inheritance
    manager: ServiceManager


@dataclass(frozen=True, slots=True)
class Parts:
    """What is started and stopped. `apps`: its processes, under `run`."""

    machine: DrainMachine
    routes: list[RouteAtWork]
    view: ProcessView
    meter: Meter
    supervisor: Supervisor
    admin: AdminServer
    timers: Timers
    tasks: Tasks
    tls: Tls | None
    children: Children
    apps: Apps | None
    holding: Holding
    exporter: SpanExporter | None


def _built(
    loop: asyncio.AbstractEventLoop, config: Config, log: Log, command: AppCommand | None, *, adopts: bool
) -> Parts:
    """Every object with its parts; nothing is bound, connected or started. Raises ConfigError.

    `adopts`: orphans become our children, and not those of the service manager.
    """
    tls = _tls(config)
    meter, ledger, timers, tasks = Meter(), Ledger(), Timers(loop), Tasks(loop)
    turns: Turns[ClientConnection] = Turns()
    machine = DrainMachine(config, ledger)
    exporter = None if config.otlp_endpoint is None else SpanExporter(config.otlp_endpoint, meter.spans)
    put = None if exporter is None else exporter.put
    tracing = Tracing(config.trace_sample, put) if config.follows_traces else None
    observer = log.with_access_log(meter)
    if tracing is not None:
        observer = Tee(observer, tracing.ended)
    most_connections = _files_for_connections(config, log)
    handed = HandedOver(lambda: meter.requests)
    replica = _replica(config, machine, log)

    def at_work(route: Route) -> RouteAtWork:
        context = context_for(
            loop,
            route,
            config,
            ledger=ledger,
            timers=timers,
            observer=observer,
            handed=handed,
            replica=replica,
            tls=tls is not None,
            tracing=tracing,
        )
        certificate = tls.context(route.protocol) if tls is not None else None
        listener = Listener(context, turns=turns, tasks=tasks, max_connections=most_connections, tls=certificate)
        return RouteAtWork(route, listener, context.pool, HealthMonitor(route, config))

    routes = [at_work(route) for route in config.routes]
    view = ProcessView(loop, config, machine, ledger, routes, handed)
    children = Children(loop, adopts=adopts)
    announcer = Announcer(config, tasks, children)
    apps: Apps | None = None
    if command is not None:
        from drainproxy.restart import Apps  # noqa: PLC0415 - memory that only `run` needs

        apps = Apps(loop, config, command, children=children, routes=routes, tasks=tasks, meter=meter, log=log)
    holding = Holding(loop, config, routes, log)
    drains = Unobserved() if put is None else DrainTrace(put)
    outside = Outside(_left_to_others if apps is None else apps.stop, announcer.tell, drains, holding.release)
    supervisor = Supervisor(loop, view, routes, turns=turns, meter=meter, log=log, outside=outside)
    announcer.on_told = supervisor.told
    admin = AdminServer(view, supervisor, meter)
    return Parts(machine, routes, view, meter, supervisor, admin, timers, tasks, tls, children, apps, holding, exporter)


async def _serve(
    config: Config, log: Log, command: AppCommand | None, reread: Callable[[], Config], passed: Passed
) -> tuple[int, Generations]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: log.failure(context))
    parts = _built(loop, config, log, command, adopts=command is not None or not passed.manager.follows)
    admin, supervisor, tasks, tls, children = parts.admin, parts.supervisor, parts.tasks, parts.tls, parts.children
    manager, memory = passed.manager, FreedMemory()
    generations = _generations(parts, log, passed)

    async with AsyncExitStack() as stop:
        if parts.exporter is not None:
            stop.push_async_callback(asyncio.to_thread, parts.exporter.close, LAST_SPANS_S)
            parts.exporter.start()
        stop.push_async_callback(admin.stop)
        stop.push_async_callback(generations.end)
        stop.callback(parts.timers.close)
        stop.push_async_callback(tasks.close)
        stop.callback(supervisor.conclude)
        sockets = _listening(config, passed)
        stop.push_async_callback(_close_all, parts)
        admin.prepare(sockets.admin, Operations(generations, parts.apps, parts.holding))
        if not generations.inherits:
            await _answer(parts, log)
            await _accept(parts, sockets, log)
        if command or any(hook and hook.words for hook in (config.on_ready, config.on_drain, config.on_resume)):
            children.listen()
            stop.callback(_kill_rest, children, generations)
        forward: Callable[[int], None] = partial(_ignored, log)
        if parts.apps is not None:
            parts.apps.start(passed.inheritance.app, passed.inheritance.app_address)
            forward = parts.apps.signal
            stop.push_async_callback(_end_app, parts.apps, generations)
        for each in parts.routes:
            tasks.spawn(each.monitor.run(partial(supervisor.saw, each)), "health check")
        if tls is not None:
            tasks.spawn(tls.watch(partial(_certificate_read, log)), "watch the certificate")
        reload = partial(_read_again, reread, log, tls, manager)
        on_hup = parts.apps.asked_to_restart if parts.apps and parts.apps.command.restart_on_hup else reload
        listen(loop, _meanings(supervisor, generations, on_hup), forward)
        if generations.inherits:
            await _take_over(parts, sockets, generations, passed.adopted.taken, log)
        _tell_of_risks(log, config)
        stop.callback(manager.stopping)
        manager.ready()
        tasks.spawn(manager.keep_told(parts.view.report), "tell the service manager")
        log.info("started", version=__version__, generation=parts.view.generation, config=chosen(config))
        gc.collect()
        gc.freeze()  # what was built so far lives as long as the process: no collection need look at it again
        memory.keep()
        tasks.spawn(memory.give_back(partial(_clients, parts)), "give freed memory back")
        code = await supervisor.exit_code
        log.info("stopping", exit_code=code)
        if generations.handed_over:
            hold_for_keeper()
    return code, generations


def _meanings(
    supervisor: Supervisor, generations: Generations, on_hup: Callable[[], None]
) -> dict[int, Callable[[], None]]:
    """What each signal does."""
    here = {
        signal.SIGTERM: supervisor.terminate,
        signal.SIGINT: supervisor.interrupt,
        signal.SIGQUIT: supervisor.quit,
        signal.SIGHUP: on_hup,
    }
    meanings: dict[int, Callable[[], None]] = {number: generations.also(number, do) for number, do in here.items()}
    return {**meanings, signal.SIGUSR2: generations.asked_to_upgrade}


def _generations(parts: Parts, log: Log, passed: Passed) -> Generations:
    service = Service(parts.view, parts.routes, parts.admin, parts.supervisor, parts.meter)
    tasks, children = parts.tasks, parts.children
    generations = Generations(
        passed.inheritance, passed.manager, service, tasks=tasks, children=children, log=log, apps=parts.apps
    )
    obstacle = partial(_obstacle, parts, generations)
    if parts.apps is not None:
        parts.apps.begin(parts.supervisor, parts.view, lambda: parts.holding.why or obstacle())
    parts.holding.obstacle = obstacle
    parts.view.hold = parts.holding.told
    return generations


def _obstacle(parts: Parts, generations: Generations) -> str | None:
    """Why the app may not be restarted, and requests not be held now."""
    return (parts.apps and parts.apps.busy) or generations.obstacle()


@dataclass(frozen=True, slots=True)
class Sockets:
    """What this process listens on: passed in, or bound here."""

    admin: list[socket.socket]
    routes: list[list[socket.socket]]


def _listening(config: Config, passed: Passed) -> Sockets:
    """All of them, before anybody is accepted: a port that is taken ends the start. Raises BindError."""
    adopted = passed.adopted
    inherits = passed.inheritance.channel is not None
    admin = adopted.bind(admin_of(config.admin) if inherits else ADMIN, config.admin, ADMIN_BACKLOG)
    routes = [
        adopted.bind(name, route.listen, BACKLOG)
        for name, route in zip(names(config.routes), config.routes, strict=True)
    ]
    if not inherits:
        adopted.refuse_rest()
    adopted.close_rest()  # of a route that is gone with the upgrade: the old generation drains it
    return Sockets(admin, routes)


async def _take_over(parts: Parts, sockets: Sockets, generations: Generations, taken: Sequence[str], log: Log) -> None:
    """The port first: who asks the admin port is answered by the old process, until that has stepped back."""
    await generations.may_serve()
    await _accept(parts, sockets, log)
    await generations.serves(taken)
    await _answer(parts, log)


async def _answer(parts: Parts, log: Log) -> None:
    """Probes, and whoever asks the admin port."""
    await parts.admin.answer()
    log.info("admin listening", address=parts.admin.address)


async def _accept(parts: Parts, sockets: Sockets, log: Log) -> None:
    """Clients."""
    for each, bound in zip(parts.routes, sockets.routes, strict=True):
        route, listener = each.route, each.listener
        await listener.start(bound)
        log.info("listening", address=listener.address, upstream=str(route.upstream), protocol=route.protocol)


def _clients(parts: Parts) -> tuple[int, int]:
    """How many have connected so far, and how many of them are connected now."""
    return parts.meter.connections[Side.CLIENT], sum(len(each.listener.connections) for each in parts.routes)


def _left_to_others() -> None:
    """An app that is not our child is stopped by the kubelet."""


async def _end_app(apps: Apps, generations: Generations) -> None:
    if not generations.handed_over:  # else it goes on
        await apps.end()


def _kill_rest(children: Children, generations: Generations) -> None:
    if not generations.handed_over:  # else the new generation is among them
        children.kill_rest()


def _replica(config: Config, machine: DrainMachine, log: Log) -> Replica | None:
    """Who we are to our siblings; None without a successor, which then costs no memory, either. Raises ConfigError."""
    if not any(route.has_successor for route in config.routes):
        return None
    from drainproxy.net.siblings import Replica  # noqa: PLC0415 - as said
    from drainproxy.protocol.hello import Identity, workload_of  # noqa: PLC0415 - as said

    workload = config.workload if config.workload is not None else workload_of(socket.gethostname())
    trust = Trust(config.successor_ca, config.successor_name)
    if config.tls_cert is not None:
        trust.load()
    identity = Identity(new_request_id()[:16], workload.encode())
    return Replica(identity, lambda: machine.standing, trust, log.warning)


async def _close_all(parts: Parts) -> None:
    """All routes at the same time: each has what is left of the grace period."""
    patience_s = parts.machine.patience_s(asyncio.get_running_loop().time())
    await asyncio.gather(*(at_work.listener.close(patience_s) for at_work in parts.routes))


def _tls(config: Config) -> Tls | None:
    """The certificate, read. Raises ConfigError."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    tls = Tls(config.tls_cert, config.tls_key)
    tls.load()
    return tls


def _read_again(reread: Callable[[], Config], log: Log, tls: Tls | None, manager: ServiceManager) -> None:
    """SIGHUP: take over what can change while connections are open. The drain token is read at each use anyway."""
    manager.reloading()
    try:
        level = reread().log_level
        if tls is not None:
            tls.load()
    except (ConfigError, BudgetError) as error:
        log.error("SIGHUP: settings not changed", reason=str(error))
    else:
        log.set_level(level)
        log.info("SIGHUP: settings read again", log_level=level, certificate=tls is not None)
    manager.ready()


def _ignored(log: Log, number: int) -> None:
    log.info("signal ignored", signal=signal.strsignal(number))


def _tell_of_risks(log: Log, config: Config) -> None:
    if config.access == "any":
        log.warning("anyone who reaches the admin port may drain: set --drain-token, or --drain-access any to say so")
    for route in config.routes:
        _tell_of_successor(log, route)


def _tell_of_successor(log: Log, route: Route) -> None:
    successor = route.successor
    if successor is None:
        return
    if successor.address is not None:
        log.info("successor", listen=str(route.listen), address=str(successor.address))
        return
    log.warning(
        f"no successor: {successor.service}_SERVICE_HOST and {successor.service}_SERVICE_PORT are not set; the Service "
        "was made after this Pod, or has another name, or the Pod says enableServiceLinks: false"
    )


def _certificate_read(log: Log, refused: str | None) -> None:
    if refused is None:
        log.info("certificate read again")
    else:
        log.error("certificate cannot be used: the old one stays", reason=refused)


def _files_for_connections(config: Config, log: Log) -> int:
    """How many client connections a route may have, so that file descriptors never run out: each may need two."""
    open_files = _most_open_files()
    room = max(1, ((open_files - SPARE_FILES) // len(config.routes) - ROUTE_FILES - FILES) // 2)
    asked = config.max_connections != Config().max_connections
    if room < config.max_connections and (asked or room < FEW_CONNECTIONS):
        log.warning("the limit of open files allows fewer connections", max_connections=room, open_files=open_files)
    return min(room, config.max_connections)


def _most_open_files() -> int:
    """The limit of this process, raised as far as the system allows: some refuse even the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            hard = soft
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
