"""How does a Pod start, live and end? One test a fact; docs/rollouts.md lists the facts and names these tests."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from drainproxy.tools.cluster.kubelet import MINIMUM_GRACE_S, Event, EventReason, Kubelet, Pod
from drainproxy.tools.cluster.network import Loopback
from drainproxy.tools.cluster.pod import Container, Exec, HttpGet, PodSpec, Probe, Sleep
from tests.support.pids import runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MINIMUM_S = 0.5
"""Two seconds in Kubernetes, and by default; shortened so that these tests are."""

DIES = ("sleep", "600")
"""Dies at once on SIGTERM, as an unprepared app does."""
DEAF = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
"""Does not care for SIGTERM."""
SLOW = ("sh", "-c", "trap 'sleep 0.4; exit 0' TERM; echo up; while :; do sleep 0.02; done")
"""Takes its time after SIGTERM."""


@dataclass
class Node:
    """What the kubelet's HTTP calls meet: paths with scripted answers, and a record of every request."""

    port: int = 0
    status: dict[str, int] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    connections: list[object] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.connections.append(request.transport)
        self.moved.set()
        if request.path in self.gates:
            await self.gates[request.path].wait()
        return web.Response(status=self.status.get(request.path, 200), text="x" * 100)

    async def until_asked(self, path: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.asked(path) < times:
                self.moved.clear()
                await self.moved.wait()

    def asked(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", node.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node.port = runner.addresses[0][1]
    yield node
    for gate in node.gates.values():
        gate.set()
    await runner.cleanup()


class Life:
    """A Pod that lives, what happened to it, and how to wait for that."""

    def __init__(self, logs: Path) -> None:
        self.events: list[Event] = []
        self.kubelet = Kubelet(Loopback(), logs, self.note, lambda: None, backoff_s=0.3, minimum_grace_s=MINIMUM_S)
        self._logs = logs
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, event: Event) -> None:
        self.events.append(event)
        self._moved.set()

    async def begin(self, *containers: Container, grace_s: float = 10.0, started: bool = True) -> Pod:
        spec = PodSpec(containers, "http", grace_s)
        ports = {name: port for each in containers for name, port in each.ports.items()}
        place = await self.kubelet.network.attach("pod", "node-1", ports)
        self.pod = Pod(self.kubelet, "pod", 1, spec, place)
        self._task = asyncio.create_task(self.pod.live())
        if started:
            for each in containers:
                await self.until(EventReason.STARTED, each.name)
                if each.command in (DEAF, SLOW):
                    log = self._logs / f"pod.{each.name}.log"
                    await _written(log)  # the shell has set its trap
        return self.pod

    async def until(self, reason: EventReason, container: str = "", times: int = 1) -> Event:
        async with asyncio.timeout(20):
            while len(found := self.all(reason, container)) < times:
                self._moved.clear()
                await self._moved.wait()
        return found[times - 1]

    async def over(self) -> None:
        assert self._task is not None
        await asyncio.wait_for(self._task, 20)

    def all(self, reason: EventReason, container: str = "") -> list[Event]:
        return [each for each in self.events if each.reason is reason and each.container == container]

    def at(self, reason: EventReason, container: str = "") -> float:
        """Seconds from the Pod's deletion to the event."""
        return self.all(reason, container)[0].at_s - self.all(EventReason.DELETED)[0].at_s

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path)
    yield life
    await life.end()


# --- termination ------------------------------------------------------------------------------------------------------


async def test_hooks_of_all_containers_start_together_at_deletion(life: Life) -> None:
    hook = Sleep(0.3)
    pod = await life.begin(
        Container("side", DIES, pre_stop=hook, native_sidecar=True),
        Container("app", DIES, pre_stop=hook),
        Container("other", DIES, pre_stop=hook),
    )
    pod.delete()
    await life.over()
    for name in ("side", "app", "other"):
        assert life.at(EventReason.HOOK, name) < 0.1
    assert life.at(EventReason.GONE) < 0.9


async def test_a_container_gets_sigterm_when_its_own_hook_has_ended(life: Life) -> None:
    pod = await life.begin(Container("app", DIES, pre_stop=Sleep(0.6)), Container("quick", DIES, pre_stop=Sleep(0.1)))
    pod.delete()
    await life.over()
    assert 0.1 <= life.at(EventReason.TERM, "quick") < 0.4
    assert 0.6 <= life.at(EventReason.TERM, "app") < 0.9


async def test_a_container_without_hook_gets_sigterm_at_once(life: Life) -> None:
    pod = await life.begin(Container("app", DIES, pre_stop=Sleep(0.5)), Container("classic", DIES))
    pod.delete()
    await life.over()
    assert life.at(EventReason.TERM, "classic") < 0.1
    assert life.at(EventReason.TERM, "app") >= 0.5


async def test_a_native_sidecar_gets_sigterm_only_after_all_main_containers_have_exited(life: Life) -> None:
    pod = await life.begin(
        Container("side", DIES, native_sidecar=True),
        Container("app", SLOW, pre_stop=Sleep(0.2)),
        Container("other", DIES),
    )
    pod.delete()
    await life.over()
    assert life.at(EventReason.TERM, "side") >= life.at(EventReason.EXITED, "app") >= 0.5
    assert life.at(EventReason.EXITED, "other") < 0.2


async def test_native_sidecars_start_in_order_and_stop_in_reverse(life: Life, node: Node) -> None:
    node.gates["/started"] = asyncio.Event()
    pod = await life.begin(
        Container("first", SLOW, native_sidecar=True, startup=Probe(HttpGet("/started", node.port), period_s=0.05)),
        Container("second", SLOW, native_sidecar=True),
        Container("app", DIES),
        started=False,
    )
    await life.until(EventReason.STARTED, "first")
    await node.until_asked("/started")
    assert not life.all(EventReason.STARTED, "second")
    node.gates["/started"].set()
    await life.until(EventReason.STARTED, "app")
    order = [event.container for event in life.events if event.reason is EventReason.STARTED]
    assert order == ["first", "second", "app"]
    pod.delete()
    await life.over()
    assert life.at(EventReason.EXITED, "app") <= life.at(EventReason.TERM, "second")
    assert life.at(EventReason.EXITED, "second") <= life.at(EventReason.TERM, "first")


async def test_sigkill_comes_at_the_end_of_the_grace_period(life: Life) -> None:
    pod = await life.begin(Container("app", DEAF), grace_s=1.0)
    pod.delete()
    await life.over()
    assert life.at(EventReason.TERM, "app") < 0.1
    assert 1.0 <= life.at(EventReason.KILL, "app") < 1.4


async def test_the_hook_counts_inside_the_grace_period(life: Life) -> None:
    pod = await life.begin(Container("app", DEAF, pre_stop=Sleep(0.6)), grace_s=1.4)
    pod.delete()
    await life.over()
    assert 1.4 <= life.at(EventReason.KILL, "app") < 1.8


async def test_a_hook_that_used_up_the_grace_period_leaves_two_seconds(life: Life) -> None:
    pod = await life.begin(Container("app", DEAF, pre_stop=Sleep(60)), grace_s=0.5)
    pod.delete()
    await life.over()
    assert 0.5 <= life.at(EventReason.TERM, "app") < 0.8
    assert 0.5 + MINIMUM_S <= life.at(EventReason.KILL, "app") < 0.9 + MINIMUM_S
    assert MINIMUM_GRACE_S == 2.0


async def test_a_native_sidecar_that_waited_in_vain_still_gets_sigterm_and_two_seconds(life: Life) -> None:
    pod = await life.begin(Container("side", DEAF, native_sidecar=True), Container("app", DEAF), grace_s=0.8)
    pod.delete()
    await life.over()
    assert 0.8 <= life.at(EventReason.TERM, "side") < 1.2
    assert life.at(EventReason.KILL, "side") >= 0.8 + MINIMUM_S


async def test_a_hook_is_not_cancelled_when_the_grace_period_ends(life: Life, node: Node) -> None:
    node.gates["/drain"] = asyncio.Event()
    pod = await life.begin(Container("app", SLOW, pre_stop=HttpGet("/drain", node.port)), grace_s=0.3)
    pod.delete()
    await life.until(EventReason.TERM, "app")
    node.gates["/drain"].set()
    await life.until(EventReason.HOOK_ENDED, "app")
    await life.over()


# --- hooks ------------------------------------------------------------------------------------------------------------


async def test_an_http_hook_is_a_get_by_the_kubelet_with_its_headers(life: Life, node: Node) -> None:
    hook = HttpGet("/drain?event=1", node.port, (("X-Drain-Token", "secret"),))
    pod = await life.begin(Container("app", DIES, pre_stop=hook))
    pod.delete()
    await life.over()
    (request,) = node.requests
    assert (request.method, request.path_qs, request.version) == ("GET", "/drain?event=1", (1, 1))
    assert request.headers["User-Agent"].startswith("kube-lifecycle/")
    assert request.headers["X-Drain-Token"] == "secret"


async def test_a_container_lives_as_long_as_its_http_hook_is_not_answered(life: Life, node: Node) -> None:
    node.gates["/drain"] = asyncio.Event()
    pod = await life.begin(Container("app", DIES, pre_stop=HttpGet("/drain", node.port)))
    pod.delete()
    await node.until_asked("/drain")
    assert not life.all(EventReason.TERM, "app")
    node.gates["/drain"].set()
    await life.over()
    assert life.at(EventReason.TERM, "app") >= life.at(EventReason.HOOK_ENDED, "app")


async def test_the_status_of_a_hooks_answer_is_ignored(life: Life, node: Node) -> None:
    node.status["/drain"] = 504
    pod = await life.begin(Container("app", DIES, pre_stop=HttpGet("/drain", node.port)))
    pod.delete()
    await life.over()
    assert life.all(EventReason.HOOK_ENDED, "app")
    assert not life.all(EventReason.HOOK_FAILED, "app")


async def test_a_hook_that_meets_a_closed_port_is_an_event_and_sigterm_follows_at_once(life: Life) -> None:
    pod = await life.begin(Container("app", DIES, pre_stop=HttpGet("/drain", 1)))
    pod.delete()
    await life.over()
    assert life.all(EventReason.HOOK_FAILED, "app")
    assert life.at(EventReason.TERM, "app") < 0.3


async def test_a_named_port_of_a_hook_is_one_of_its_own_container(life: Life) -> None:
    pod = await life.begin(
        Container("app", DIES, ports={"web": 8080}, pre_stop=HttpGet("/drain", "admin")),
        Container("proxy", DIES, ports={"admin": 9081}),
    )
    pod.delete()
    await life.over()
    (event,) = life.all(EventReason.HOOK_FAILED, "app")
    assert "couldn't find port" in event.detail


async def test_an_exec_hook_runs_with_the_pods_variables_and_its_failure_is_an_event(
    life: Life, tmp_path: Path
) -> None:
    pod = await life.begin(
        Container("app", DIES, pre_stop=Exec(("sh", "-c", f"echo $POD_NAME > {tmp_path}/said"))),
        Container("bad", DIES, pre_stop=Exec(("false",))),
    )
    pod.delete()
    await life.over()
    assert (tmp_path / "said").read_text() == "pod\n"
    assert life.all(EventReason.HOOK_ENDED, "app")
    assert life.all(EventReason.HOOK_FAILED, "bad")


# --- probes and restarts ----------------------------------------------------------------------------------------------


async def test_a_liveness_failure_runs_the_hook_and_restarts_only_that_container(life: Life, node: Node) -> None:
    probe = Probe(HttpGet("/alive", node.port), period_s=0.05, failure_threshold=2)
    await life.begin(
        Container("app", DIES, pre_stop=HttpGet("/drain", node.port), liveness=probe), Container("proxy", DIES)
    )
    node.status["/alive"] = 500
    await life.until(EventReason.UNHEALTHY, "app")
    node.status["/alive"] = 200
    await life.until(EventReason.STARTED, "app", times=2)
    assert node.asked("/drain") == 1
    assert not life.pod.deleted.is_set()
    assert not life.all(EventReason.EXITED, "proxy")


async def test_readiness_is_probed_during_termination_and_liveness_is_not(life: Life, node: Node) -> None:
    pod = await life.begin(
        Container(
            "app",
            DIES,
            pre_stop=Sleep(0.8),
            readiness=Probe(HttpGet("/ready", node.port), period_s=0.05, failure_threshold=1),
            liveness=Probe(HttpGet("/alive", node.port), period_s=0.05, failure_threshold=1),
        )
    )
    await life.until(EventReason.READY)
    pod.delete()
    node.status["/ready"] = node.status["/alive"] = 500
    await life.until(EventReason.UNREADY)
    await life.over()
    assert not life.all(EventReason.UNHEALTHY, "app")
    assert life.at(EventReason.TERM, "app") >= 0.8


@pytest.mark.parametrize(("status", "ready"), [(200, True), (302, True), (399, True), (400, False), (503, False)])
async def test_200_to_399_is_success(life: Life, node: Node, status: int, ready: bool) -> None:
    node.status["/ready"] = status
    pod = await life.begin(Container("app", DIES, readiness=Probe(HttpGet("/ready", node.port), period_s=0.05)))
    await node.until_asked("/ready", 4)
    assert pod.serving is ready


async def test_each_probe_is_a_connection_of_its_own_by_the_kubelet(life: Life, node: Node) -> None:
    await life.begin(Container("app", DIES, readiness=Probe(HttpGet("/ready", node.port), period_s=0.05)))
    await node.until_asked("/ready", 3)
    assert len({id(connection) for connection in node.connections}) == len(node.connections)
    assert node.requests[0].headers["User-Agent"].startswith("kube-probe/")


async def test_a_probe_that_takes_longer_than_its_timeout_has_failed(life: Life, node: Node) -> None:
    node.gates["/ready"] = asyncio.Event()
    probe = Probe(HttpGet("/ready", node.port), period_s=0.05, timeout_s=0.1)
    pod = await life.begin(Container("app", DIES, readiness=probe))
    await node.until_asked("/ready", 3)
    assert not pod.serving


async def test_readiness_changes_after_its_threshold(life: Life, node: Node) -> None:
    probe = Probe(HttpGet("/ready", node.port), period_s=0.1, failure_threshold=3)
    await life.begin(Container("app", DIES, readiness=probe))
    await life.until(EventReason.READY)
    asked = node.asked("/ready")
    node.status["/ready"] = 503
    await life.until(EventReason.UNREADY)
    assert node.asked("/ready") - asked == 3


async def test_the_startup_probe_holds_back_the_others_and_its_failure_restarts(life: Life, node: Node) -> None:
    node.status["/started"] = 503
    await life.begin(
        Container(
            "app",
            DIES,
            startup=Probe(HttpGet("/started", node.port), period_s=0.05, failure_threshold=3),
            readiness=Probe(HttpGet("/ready", node.port), period_s=0.05),
        )
    )
    event = await life.until(EventReason.UNHEALTHY, "app")
    assert event.detail == "startup"
    assert node.asked("/ready") == 0
    node.status["/started"] = 200
    await life.until(EventReason.READY)


async def test_a_pod_is_ready_when_all_its_containers_are(life: Life, node: Node) -> None:
    node.status["/ready"] = 503
    pod = await life.begin(
        Container("proxy", DIES, native_sidecar=True, readiness=Probe(HttpGet("/ready", node.port), period_s=0.05)),
        Container("app", DIES),
    )
    assert not pod.serving
    node.status["/ready"] = 200
    await life.until(EventReason.READY)


async def test_a_container_that_crashes_is_restarted_at_once_and_then_after_a_back_off(life: Life) -> None:
    await life.begin(Container("app", ("false",)))
    await life.until(EventReason.STARTED, "app", times=3)
    exits = life.all(EventReason.EXITED, "app")
    starts = life.all(EventReason.STARTED, "app")
    assert starts[1].at_s - exits[0].at_s < 0.2
    assert starts[2].at_s - exits[1].at_s >= 0.3


async def test_nothing_is_restarted_once_the_pod_is_deleted(life: Life) -> None:
    pod = await life.begin(
        Container("app", ("sh", "-c", "sleep 0.2; exit 1"), pre_stop=Sleep(0.6)), Container("other", SLOW)
    )
    pod.delete()
    await life.over()
    assert len(life.all(EventReason.STARTED, "app")) == 1
    assert not life.all(EventReason.TERM, "app")  # it had crashed when its hook ended
    assert life.at(EventReason.GONE) >= 0.6  # and yet its hook was waited for


async def test_what_a_container_started_ends_with_its_first_process(life: Life, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    pod = await life.begin(Container("app", ("sh", "-c", script)))
    pid_file = tmp_path / "pid"
    await _written(pid_file)
    pod.delete()
    await life.over()
    await _true(lambda: not runs(int(pid_file.read_text())))


async def test_a_pod_that_is_deleted_while_it_starts_goes_away(life: Life) -> None:
    pod = await life.begin(Container("app", DIES), started=False)
    pod.delete()
    await life.over()
    assert life.events[-1].reason is EventReason.GONE


async def test_variables_are_expanded_in_the_environment_and_then_in_the_command(life: Life, tmp_path: Path) -> None:
    command = ("sh", "-c", f"echo $(PORT) $PORT '$(NO)' > {tmp_path}/said; sleep 600")
    pod = await life.begin(Container("app", command, ports={"app": 8080}, env={"PORT": "$(APP_PORT)"}))
    await _written(tmp_path / "said")
    port = pod.place.ports["app"]
    assert (tmp_path / "said").read_text() == f"{port} {port} $(NO)\n"


async def test_deleting_twice_is_deleting_once(life: Life) -> None:
    pod = await life.begin(Container("app", DIES, pre_stop=Sleep(0.1)))
    pod.delete()
    pod.delete()
    await life.over()
    assert len(life.all(EventReason.HOOK, "app")) == 1


async def _written(file: Path) -> None:
    await _true(lambda: file.exists() and file.stat().st_size > 0)


async def _true(state: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not state():  # noqa: ASYNC110 - the file system has no events to wait for here
            await asyncio.sleep(0.02)
