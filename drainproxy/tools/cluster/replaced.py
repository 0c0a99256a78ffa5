"""What do clients see when a process is replaced on a host? One port, one machine, nobody else who could answer.

The same traffic meets the app stopped and started again, the app restarted by drainproxy, and drainproxy upgraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

from drainproxy.config.values import show_duration
from drainproxy.errors import DrainproxyError
from drainproxy.tools.cluster.demo import Told, under_traffic
from drainproxy.tools.cluster.network import LOOPBACK, Loopback
from drainproxy.tools.cluster.pod import expand
from drainproxy.tools.cluster.variants import App, Times
from drainproxy.tools.probe.http_client import HttpClient
from drainproxy.tools.probe.load import Load
from drainproxy.tools.probe.plot import PodBar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drainproxy.tools.cluster.demo import Run, Scene, Stage

STOPPED, RESTARTED, UPGRADED = "stop and start", "restart", "upgrade"
WAYS = (STOPPED, RESTARTED, UPGRADED)
_FLOOR_S, _TRIAL_S = 1.0, 1.0
_PATIENCE_S = 30.0
_REAL = "Nothing is simulated: the app, drainproxy, every request and every loss are real."


class ReplaceError(DrainproxyError):
    """A process did not start, or could not be replaced."""


@dataclass(slots=True)
class Life:
    """One process: when it was started, ready, asked to go, and gone. Seconds on the loop's clock."""

    name: str
    created: float
    ready: float | None = None
    leaving: float | None = None
    gone: float | None = None


class Service(Protocol):
    """What listens on the port, and can be replaced."""

    lives: list[Life]

    async def start(self) -> None:
        """Returns when it serves."""

    async def replace(self) -> None:
        """Returns when the new process serves and the old one is gone."""

    async def stop(self) -> None:
        """End it, and wait for its end."""


class Bare:
    """The app alone: its port is closed while nobody listens."""

    def __init__(self, app: App, port: int) -> None:
        self.lives: list[Life] = []
        self._app = app
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        now = asyncio.get_running_loop().time
        life = Life(f"app {len(self.lives) + 1}", now())
        self.lives.append(life)
        environ = {**os.environ, "PORT": str(self._port)}
        self._process = await asyncio.create_subprocess_exec(*_command(self._app, str(self._port)), env=environ)
        await _accepts(self._port, self._process)
        life.ready = now()

    async def replace(self) -> None:
        life = self.lives[-1]
        life.leaving = asyncio.get_running_loop().time()
        await self.stop()
        life.gone = asyncio.get_running_loop().time()
        await self.start()

    async def stop(self) -> None:
        if self._process is not None:
            await _end(self._process)


def _begins(lives: list[Life], now: float) -> None:
    lives.append(Life(f"{lives[0].name.rpartition(' ')[0]} {len(lives) + 1}", now))


def _serves(lives: list[Life], now: float) -> None:
    lives[-1].ready = now
    if len(lives) > 1:
        lives[-2].leaving = now


def _has_gone(lives: list[Life], now: float) -> None:
    lives[-2].gone = now


STEPS: dict[str, dict[str, Callable[[list[Life], float], None]]] = {
    "restart": {
        "restart begins": _begins,
        "new requests go to the new process": _serves,
        "a process of the app ended": _has_gone,
    },
    "upgrade": {
        "upgrade begins": _begins,
        "upgraded": _serves,
        "the generation before has ended its connections": _has_gone,
    },
}
"""What a line of drainproxy's log says of the processes that are drawn, by verb and line."""


class Protected:
    """The app under `drainproxy run`. `verb`: `restart` replaces the app, `upgrade` replaces drainproxy."""

    def __init__(self, app: App, port: int, admin_port: int, times: Times, verb: str) -> None:
        self.lives: list[Life] = []
        self._name = "app" if verb == "restart" else "drainproxy"
        self._verb = verb
        self._admin = f"http://{LOOPBACK}:{admin_port}"
        self._command = (
            *(sys.executable, "-m", "drainproxy", "run", "--log-format", "json", "--port-env", "PORT"),
            *("--listen", f"{LOOPBACK}:{port}", "--admin", f"{LOOPBACK}:{admin_port}"),
            *("--grace-period", show_duration(times.grace_s), "--propagation-delay", show_duration(_FLOOR_S)),
            *("--quiet-period", show_duration(times.quiet_s), "--close-spread", show_duration(times.spread_s)),
            *("--app-stop-time", show_duration(times.app_stop_s), "--restart-trial", show_duration(_TRIAL_S)),
            *("--drain-access", "loopback", "--", *_command(app, "{port}")),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._old_gone = asyncio.Event()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.lives.append(Life(f"{self._name} 1", loop.time()))
        self._process = await asyncio.create_subprocess_exec(*self._command, stderr=asyncio.subprocess.PIPE)
        self._reading = asyncio.create_task(self._read_log(self._process))
        await self._until(self._ready, "did not get ready")
        _serves(self.lives, loop.time())

    async def replace(self) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self._admin}/{self._verb}") as answer:
            if answer.status >= 400:  # noqa: PLR2004 - an error's status, RFC 9110 section 15.5
                raise ReplaceError(f"{self._verb} failed: {(await answer.text()).strip()}")
        await self._until(self._old_gone, f"did not end what the {self._verb} has replaced")

    async def stop(self) -> None:
        if self._process is not None:
            await _end(self._process)
        if self._reading is not None:
            await self._reading

    async def _until(self, event: asyncio.Event, else_: str) -> None:
        assert self._reading is not None, "it has started"
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, self._reading}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not event.is_set():
            raise ReplaceError(f"drainproxy {else_}")

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """To its end. A line that is no record is the app's own."""
        assert process.stderr is not None, "it is a pipe"
        steps, now = STEPS[self._verb], asyncio.get_running_loop().time
        async for line in process.stderr:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                said = record["msg"]
                if said in steps:
                    steps[said](self.lives, now())
                    if steps[said] is _has_gone:
                        self._old_gone.set()
                elif said == "state" and record["state"] == "ready":
                    self._ready.set()


def _command(app: App, port: str) -> list[str]:
    """With the port in the places where a Pod would get its own."""
    return [expand(word, {"APP_PORT": port, "PORT": port}) for word in app.command]


async def _accepts(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until somebody listens there. Raises ReplaceError."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(LOOPBACK, port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise ReplaceError("the app does not listen on $PORT")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def perform(scene: Scene, stage: Stage, changed: Callable[[], None]) -> Run:
    """One replacement under the scene's traffic. Raises ReplaceError."""
    ports = (await Loopback().attach("host", "host", {"http": 0, "admin": 0})).ports
    port, admin_port = ports["http"], ports["admin"]
    service: Service
    if stage.name == STOPPED:
        service = Bare(scene.app, port)
    else:
        verb = "restart" if stage.name == RESTARTED else "upgrade"
        service = Protected(scene.app, port, admin_port, scene.times, verb)
    urls = [f"http://{LOOPBACK}:{port}{path}" for path in scene.paths]
    client = HttpClient(scene.traffic, lambda number: urls[number % len(urls)])
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.push_async_callback(service.stop)
        cleanup.push_async_callback(client.close)
        await service.start()
        load = stage.load = Load(client, scene.rate)
        load.on_sample = lambda _: changed()
        return await under_traffic(service.replace, lambda zero: _bars(service.lives, zero), load, scene, stage)


def _bars(lives: Sequence[Life], zero: float) -> tuple[PodBar, ...]:
    def at(when: float | None) -> float | None:
        return None if when is None else when - zero

    return tuple(
        PodBar(each.name, each.created - zero, at(each.ready), at(each.leaving), at(each.gone)) for each in lives
    )


def told(scene: Scene) -> Told:
    """What a reader needs to judge the numbers."""
    own = scene.app.command == App().command
    settings = {
        "app": "built in: dies on SIGTERM, 2 of 13 requests take 3 s" if own else " ".join(scene.app.command),
        "traffic": f"{scene.rate:g} requests/s, {scene.traffic.fresh:.0%} on connections of their own",
        STOPPED: "SIGTERM to the app, then the same command again on the same port",
        RESTARTED: f"a new app next to the old one; trial {show_duration(_TRIAL_S)}",
        UPGRADED: f"a new drainproxy takes over the port and the app; floor {show_duration(_FLOOR_S)}",
    }
    return Told("replaced by", settings, _REAL)


def conclusion(runs: Sequence[Run]) -> tuple[bool, str]:
    """Does this run show anything, and what? False if it does not, or if drainproxy lost a request."""
    lost = {run.name: run.verdict.failed for run in runs}
    bad = [f"{name} lost {count}" for name, count in lost.items() if name != STOPPED and count]
    if bad:
        return False, f"{', '.join(bad)}: that is a bug, please report it with --html."
    if not lost[STOPPED]:
        return False, "Stop and start lost nothing either, so this proves nothing: raise --rate, or run it again."
    return True, f"drainproxy lost no request; stop and start lost {lost[STOPPED]}."
