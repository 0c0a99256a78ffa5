"""How does a Pod start, live and end? A kubelet in miniature, true to the real one where rollouts are concerned.

Every fact that is imitated is a line in docs/rollouts.md, with the test that holds it. Source: Kubernetes v1.36,
pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer), kuberuntime_termination_order.go, pkg/kubelet/prober,
pkg/kubelet/lifecycle/handlers.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp

from drainproxy.tools.cluster.pod import Exec, HttpGet, Sleep, expand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from drainproxy.tools.cluster.network import Network, Place
    from drainproxy.tools.cluster.pod import Container, Hook, PodSpec, Probe

MINIMUM_GRACE_S = 2.0
"""minimumGracePeriodInSeconds: what a container has between SIGTERM and SIGKILL even if its hook used up everything."""

PROBE_AGENT, HOOK_AGENT = "kube-probe/1.36", "kube-lifecycle/1.36"
_SUCCESS = range(200, 400)
_HOOK_READS = 10 * 1024
_BACKOFF_MOST_S = 300.0


class EventReason(StrEnum):
    """What can happen to a Pod or one of its containers."""

    CREATED = "created"
    STARTED = "started"
    READY = "ready"
    UNREADY = "unready"
    DELETED = "deleted"
    HOOK = "preStop"
    HOOK_ENDED = "preStop ended"
    HOOK_FAILED = "FailedPreStopHook"
    UNHEALTHY = "liveness failed"
    TERM = "SIGTERM"
    KILL = "SIGKILL"
    EXITED = "exited"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Event:
    """`at_s` is the loop's time. `container` is empty for what happens to the whole Pod."""

    at_s: float
    pod: str
    container: str
    reason: EventReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What every Pod's life needs: its network, the place for logs, and who hears of what happens.

    `backoff_s`: wait before the second restart of a container; doubled each time (10 s in Kubernetes).
    """

    network: Network
    logs: Path
    record: Callable[[Event], None]
    changed: Callable[[], None]
    backoff_s: float = 10.0
    minimum_grace_s: float = MINIMUM_GRACE_S


class _Run:
    """One start of one container: from its process' birth to its death."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.exited = asyncio.Event()
        self.stopping: asyncio.Task[None] | None = None


class Pod:
    """One Pod on a kubelet. `live` runs it from start to end; `delete` begins the end (the deletionTimestamp)."""

    def __init__(self, kubelet: Kubelet, name: str, revision: int, spec: PodSpec, place: Place) -> None:
        self.name, self.revision, self.spec, self.place = name, revision, spec, place
        self.deleted = asyncio.Event()
        self.gone = asyncio.Event()
        self.ready_since_s: float | None = None
        self._kubelet = kubelet
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, _Run] = {}
        self._started: dict[str, asyncio.Event] = {each.name: asyncio.Event() for each in spec.containers}
        self._ended: dict[str, asyncio.Event] = {each.name: asyncio.Event() for each in spec.containers}
        self._ready: dict[str, bool] = dict.fromkeys(self._started, False)
        self._hooks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            connector=kubelet.network.connector(place.node),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    @property
    def serving(self) -> bool:
        """The Pod's Ready condition: every container is ready. Goes on to be true or false during termination."""
        return self.ready_since_s is not None

    def delete(self) -> None:
        """t0. The hooks and signals of the Pod's end start now; calling it again changes nothing."""
        if not self.deleted.is_set():
            self._record(EventReason.DELETED)
            self.deleted.set()
            self._kubelet.changed()

    async def live(self) -> None:
        """Start the Pod, keep it, and end it when it is deleted. Cancelled: everything is killed at once."""
        self._record(EventReason.CREATED)
        keepers: list[asyncio.Task[None]] = []
        try:
            await self._start_all(keepers)
            await self.deleted.wait()
            grace_s = self.spec.grace_period_s
            await asyncio.gather(*(self._stop(each, grace_s) for each in self.spec.containers))
            await asyncio.gather(*keepers)
        finally:
            await self._clear(keepers)
            self._record(EventReason.GONE)
            self.gone.set()
            self._kubelet.changed()

    # --- start ---------------------------------------------------------------------------------------------------

    async def _start_all(self, keepers: list[asyncio.Task[None]]) -> None:
        """Native sidecars one after the other, each when the one before has started; then the main containers."""
        for sidecar in self.spec.sidecars:
            keepers.append(self._keeper(sidecar))
            await self._first(self._started[sidecar.name], self.deleted)
        if not self.deleted.is_set():
            keepers.extend(self._keeper(main) for main in self.spec.mains)

    def _keeper(self, container: Container) -> asyncio.Task[None]:
        return asyncio.create_task(self._keep(container), name=f"{self.name}/{container.name}")

    async def _keep(self, container: Container) -> None:
        """Run the container, and again when it ends (restartPolicy Always), until the Pod is deleted."""
        wait_s = 0.0
        try:
            while not self.deleted.is_set():
                await self._run_once(container)
                await self._within(self.deleted.wait(), wait_s)
                wait_s = min(wait_s * 2, _BACKOFF_MOST_S) or self._kubelet.backoff_s
        finally:
            self._ended[container.name].set()

    async def _run_once(self, container: Container) -> None:
        run = self._runs[container.name] = _Run(await self._spawn(container))
        self._record(EventReason.STARTED, container)
        if self.deleted.is_set():
            # The Pod's end began while the process was being born: nobody else will stop it.
            _signal_group(run.process, signal.SIGKILL)
        probes = asyncio.create_task(self._probe_all(container, run), name=f"{self.name}/{container.name} probes")
        try:
            await run.process.wait()
        finally:
            probes.cancel()
            # The container's other processes end with the first, as they do with PID 1 of a PID namespace.
            _signal_group(run.process, signal.SIGKILL)
            await asyncio.gather(probes, return_exceptions=True)
        self._record(EventReason.EXITED, container, str(run.process.returncode))
        run.exited.set()
        self._set_ready(container, False)
        if run.stopping is not None and not self.deleted.is_set():
            await asyncio.wait({run.stopping})

    async def _spawn(self, container: Container) -> asyncio.subprocess.Process:
        env = {**os.environ, **self._env(container)}
        command = [expand(word, env) for word in container.command]
        with (self._kubelet.logs / f"{self.name}.{container.name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._kubelet.network.wrap(self.name, command),
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _env(self, container: Container) -> dict[str, str]:
        """The Pod's variables, and a port variable for every port name: `http` is HTTP_PORT."""
        env = {"POD_NAME": self.name, "POD_IP": self.place.ip, "NODE_NAME": self.place.node}
        for name, port in self.place.ports.items():
            env[f"{name.upper().replace('-', '_')}_PORT"] = str(port)
        return {**env, **{name: expand(value, env) for name, value in container.env.items()}}

    # --- probes --------------------------------------------------------------------------------------------------

    async def _probe_all(self, container: Container, run: _Run) -> None:
        """The startup probe holds back the others. Readiness goes on during termination; the other two stop at t0."""
        if container.startup is not None and not await self._startup(container, run, container.startup):
            return
        self._started[container.name].set()
        watches: list[Awaitable[None]] = []
        if container.readiness is None:
            self._set_ready(container, True)
        else:
            watches.append(self._watch_readiness(container, container.readiness))
        if container.liveness is not None:
            watches.append(self._watch_liveness(container, run, container.liveness))
        await asyncio.gather(*watches)

    async def _startup(self, container: Container, run: _Run, probe: Probe) -> bool:
        """True when the container has started; False if the Pod ends first or the container had to be killed."""
        failures = 0
        await asyncio.sleep(probe.initial_delay_s)
        while not self.deleted.is_set():
            if await self._check(container, probe):
                return True
            failures += 1
            if failures >= probe.failure_threshold:
                self._kill_unhealthy(container, run, "startup")
                return False
            await self._within(self.deleted.wait(), probe.period_s)
        return False

    async def _watch_readiness(self, container: Container, probe: Probe) -> None:
        good = bad = 0
        await asyncio.sleep(probe.initial_delay_s)
        while True:
            if await self._check(container, probe):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            if good >= probe.success_threshold:
                self._set_ready(container, True)
            elif bad >= probe.failure_threshold:
                self._set_ready(container, False)
            await asyncio.sleep(probe.period_s)

    async def _watch_liveness(self, container: Container, run: _Run, probe: Probe) -> None:
        failures = 0
        await asyncio.sleep(probe.initial_delay_s)
        while not self.deleted.is_set():
            failures = 0 if await self._check(container, probe) else failures + 1
            if failures >= probe.failure_threshold:
                self._kill_unhealthy(container, run, "liveness")
                return
            await self._within(self.deleted.wait(), probe.period_s)

    def _kill_unhealthy(self, container: Container, run: _Run, probe: str) -> None:
        """Only this container ends, its preStop hook runs, and it is started again; the Pod stays."""
        if not self.deleted.is_set():
            self._record(EventReason.UNHEALTHY, container, probe)
            self._stop_run(container, run, self.spec.grace_period_s)

    async def _check(self, container: Container, probe: Probe) -> bool:
        """One probe: a new connection, 200 to 399 is success, the timeout covers all of it."""
        get = probe.check
        headers = {"User-Agent": PROBE_AGENT, "Accept": "*/*", "Connection": "close", **dict(get.headers)}
        try:
            async with asyncio.timeout(probe.timeout_s):
                async with self._session.get(self._url(container, get), headers=headers, allow_redirects=False) as got:
                    return got.status in _SUCCESS
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return False

    # --- end -----------------------------------------------------------------------------------------------------

    async def _stop(self, container: Container, grace_s: float) -> None:
        """End the container if it runs. A kill that is under way already is joined."""
        run = self._runs.get(container.name)
        if run is None or run.exited.is_set():
            return
        await asyncio.wait({self._stop_run(container, run, grace_s)})

    def _stop_run(self, container: Container, run: _Run, grace_s: float) -> asyncio.Task[None]:
        if run.stopping is None:
            run.stopping = asyncio.create_task(
                self._kill_container(container, run, grace_s), name=f"stop {self.name}/{container.name}"
            )
        return run.stopping

    async def _kill_container(self, container: Container, run: _Run, grace_s: float) -> None:
        """killContainer: hook, turn, SIGTERM, SIGKILL, all within one grace period that starts now."""
        begin = self._loop.time()
        if container.pre_stop is not None:
            await self._run_hook(container, container.pre_stop, grace_s)
        if container.native_sidecar and self.deleted.is_set():
            await self._within(self._wait_for_turn(container), grace_s - (self._loop.time() - begin))
        left_s = max(grace_s - (self._loop.time() - begin), self._kubelet.minimum_grace_s)
        if run.exited.is_set():
            return
        self._record(EventReason.TERM, container)
        _signal(run.process, signal.SIGTERM)
        if not await self._within(run.exited.wait(), left_s):
            self._record(EventReason.KILL, container)
            _signal_group(run.process, signal.SIGKILL)
            await run.exited.wait()

    async def _wait_for_turn(self, sidecar: Container) -> None:
        """A native sidecar outlives all main containers and every sidecar that was started after it."""
        order = self.spec.sidecars
        before = [*self.spec.mains, *order[order.index(sidecar) + 1 :]]
        for each in before:
            if each.name in self._runs:
                await self._ended[each.name].wait()

    async def _run_hook(self, container: Container, hook: Hook, grace_s: float) -> None:
        """Wait for the hook as long as the grace period lasts. Nobody cancels it: it ends when it ends."""
        self._record(EventReason.HOOK, container)
        task = asyncio.create_task(self._hook(container, hook), name=f"preStop {self.name}/{container.name}")
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)
        await asyncio.wait({task}, timeout=grace_s)

    async def _hook(self, container: Container, hook: Hook) -> None:
        try:
            if isinstance(hook, Sleep):
                await asyncio.sleep(hook.seconds)
            elif isinstance(hook, Exec):
                await self._hook_exec(container, hook)
            else:
                await self._hook_get(container, hook)
        except (aiohttp.ClientError, OSError) as error:
            self._record(EventReason.HOOK_FAILED, container, str(error) or type(error).__name__)
        else:
            self._record(EventReason.HOOK_ENDED, container)

    async def _hook_get(self, container: Container, get: HttpGet) -> None:
        """From the node to the Pod's address. The status does not matter, only that there is an answer."""
        headers = {"User-Agent": HOOK_AGENT, "Accept": "*/*", **dict(get.headers)}
        async with self._session.get(self._url(container, get), headers=headers) as response:
            await response.content.read(_HOOK_READS)

    async def _hook_exec(self, container: Container, hook: Exec) -> None:
        env = {**os.environ, **self._env(container)}
        command = self._kubelet.network.wrap(self.name, [expand(word, env) for word in hook.command])
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            code = await process.wait()
        finally:
            _signal(process, signal.SIGKILL)
        if code != 0:
            raise ChildProcessError(f"the hook's command ended with {code}")

    # --- small things --------------------------------------------------------------------------------------------

    async def _clear(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Nothing of the Pod is left: processes, tasks, hooks that still hang, connections."""
        for run in self._runs.values():
            _signal_group(run.process, signal.SIGKILL)
        stops = [run.stopping for run in self._runs.values() if run.stopping is not None]
        left = [*keepers, *stops, *self._hooks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for run in self._runs.values():
            await run.process.wait()
        await self._session.close()
        self.ready_since_s = None

    def _url(self, container: Container, get: HttpGet) -> str:
        """On the Pod's address. A name means the container's *own* port, a number any of the Pod's."""
        if isinstance(get.port, str):
            if get.port not in container.ports:
                raise aiohttp.InvalidURL(get.path, f"couldn't find port {get.port!r} in container {container.name!r}")
            name = get.port
        else:
            name = next(
                (name for each in self.spec.containers for name, port in each.ports.items() if port == get.port), ""
            )
        port = self.place.ports.get(name, get.port)
        return f"http://{self.place.ip}:{port}{get.path}"

    def _set_ready(self, container: Container, ready: bool) -> None:
        if self._ready[container.name] == ready:
            return
        self._ready[container.name] = ready
        was, now = self.serving, all(self._ready.values())
        if was != now:
            self.ready_since_s = self._loop.time() if now else None
            self._record(EventReason.READY if now else EventReason.UNREADY)
            self._kubelet.changed()

    def _record(self, reason: EventReason, container: Container | None = None, detail: str = "") -> None:
        name = container.name if container is not None else ""
        self._kubelet.record(Event(self._loop.time(), self.name, name, reason, detail))

    @staticmethod
    async def _first(*events: asyncio.Event) -> None:
        """Wait until one of the events is set."""
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    @staticmethod
    async def _within(wait: Awaitable[object], seconds: float) -> bool:
        """True if `wait` ended within `seconds`."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await wait
        except TimeoutError:
            return False
        return True


def _signal(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)


def _signal_group(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    """The process and what it has started: it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)
