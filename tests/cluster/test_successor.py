"""Do other Pods answer what comes late, or finds the app gone? inject sets the successor.

What an app had in hand when it was killed is lost with it, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

import pytest

from tests.cluster.stage import WARM, Stage
from tests.cluster.table import HANDOVER
from tests.cluster.traffic import MIXED, QUICK, Kind, traffic
from tests.cluster.workloads import NATIVE, service, workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.cluster.pods import Pod
    from tests.cluster.traffic import Flow

PINNED_S = 60.0
"""So long after a Pod's end began its address is still used: as behind a load balancer that learns late."""
IDLE_S = 1.0
"""An app is told to stop at the latest so long after its last request: a second in which it is asked again included."""
SOON_S = 10.0
"""And not later than this after its drain's trigger, however long clients go on."""
PROXY_PORT = 9080
PINNED = Kind("HTTP/1 to the Pod's address, kept and new connections", "http", rate=20, connections=3, fresh=0.5)
PINNED_GRPC = Kind("gRPC to the Pod's address, each call on a new channel", "grpc", rate=10, connections=0, fresh=1)
KUBE_PROXY = os.environ.get("DRAINPROXY_CLUSTER_KUBE_PROXY_PID", "")
"""A file with the process id of the node's kube-proxy, where that can be stopped."""


@asynccontextmanager
async def pinned(stage: Stage, kind: Kind, pods: Sequence[Pod]) -> AsyncIterator[list[Flow]]:
    """Traffic to each Pod's address, past the Service, warm when the block begins."""
    async with AsyncExitStack() as stack:
        flows = [
            await stack.enter_async_context(traffic(stage.place, kind, f"{pod.address}:{PROXY_PORT}")) for pod in pods
        ]
        await asyncio.gather(*(flow.more(5) for flow in flows))
        yield flows


def lost(flows: Sequence[Flow]) -> list[str]:
    return [line for flow in flows for line in flow.said()]


@pytest.mark.case(HANDOVER, f"a rolling update; clients use the old Pods' addresses for {PINNED_S:g} s", wiring=NATIVE)
async def test_who_learns_late_loses_nothing_and_holds_no_app(stage: Stage) -> None:
    long = {"terminationGracePeriodSeconds": 90}
    settings = {"propagation-delay": "2s", "quiet-limit": "70s"}
    await stage.deploy(workload("Deployment", "web", stage.images, pod=long), service("web"), settings=settings)
    old = stage.pods.live("web")
    async with pinned(stage, PINNED, old) as flows:
        await stage.roll_out("web")
        await stage.pods.until(lambda: all(pod.deleted_at for pod in old))
        await asyncio.sleep(PINNED_S - (time.monotonic() - max(pod.deleted_at or 0.0 for pod in old)))
    await stage.pods.settled()
    for flow in flows:
        stage.row("0 lost; the app is not held", flow, note=str(stage.stopped()), case=f"{stage.case}, each")
    assert not lost(flows)
    assert max(stage.stopped().idle_s) < IDLE_S
    assert max(stage.stopped().after_s) < SOON_S


@pytest.mark.skipif(not KUBE_PROXY, reason="DRAINPROXY_CLUSTER_KUBE_PROXY_PID names no kube-proxy: NOT played")
@pytest.mark.parametrize("frozen_s", [14, 28])
@pytest.mark.case(HANDOVER, "kube-proxy learns nothing while", wiring=NATIVE)
async def test_a_frozen_kube_proxy_is_noticed(stage: Stage, frozen_s: int) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    proxy = int(await asyncio.to_thread(Path(KUBE_PROXY).read_text))
    async with stage.traffic(MIXED, "web") as flow:
        os.kill(proxy, signal.SIGSTOP)
        try:
            rollout = asyncio.create_task(stage.roll_out("web"))
            await asyncio.sleep(frozen_s)
        finally:
            os.kill(proxy, signal.SIGCONT)
        await rollout
        await stage.pods.settled()
        await flow.more(WARM)
    promise = "0 lost" if frozen_s < 15 else "told; drains wait as long as the quiet limit lets them"
    stage.row(promise, flow, note=str(stage.stopped()), case=f"a rolling update, kube-proxy frozen for {frozen_s} s")
    assert frozen_s > 15 or not flow.verdict.failed, flow.said()


@pytest.mark.case(HANDOVER, "the app crashes twice and is in back-off for 10 s", wiring=NATIVE)
async def test_a_crash_costs_only_what_the_app_had_in_hand(stage: Stage) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(QUICK, "web") as flow:
        victim = stage.pods.live("web")[0]
        for restarts in (1, 2):
            await stage.ask(victim.name, "/crash")
            await stage.pods.until(partial(_is_back, victim, restarts))
            await flow.more(WARM)
    handed = (await stage.status(victim.name))["handed_over"]
    stage.row("at most what the app had in hand", flow, note=f"attempts: {_counts(handed)}")
    assert all(each.name in ("cut body", "502") for each in flow.verdict.failures), flow.said()
    assert flow.verdict.failed <= 4, flow.said()


@pytest.mark.case(HANDOVER, "`kubectl delete --grace-period=1` under slow answers", wiring=NATIVE)
async def test_a_grace_period_of_one_second_costs_only_what_is_in_the_app(stage: Stage) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        victim = stage.pods.live("web")[0]
        await stage.kubectl.said("delete", f"pod/{victim.name}", "--wait=false", "--grace-period=1")
        await stage.pods.until(lambda: victim.gone_at is not None)
        await stage.rolled_out("web")
        await flow.more(WARM)
    stage.row("only what was in the app", flow, note=f"{stage.stopped().in_hand} in hand")
    assert flow.verdict.failed <= stage.stopped().in_hand, flow.said()


@pytest.mark.case(HANDOVER, "the app hangs: its liveness probe restarts it", wiring=NATIVE)
async def test_a_hung_app_costs_only_what_it_had_in_hand(stage: Stage) -> None:
    liveness = {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 3,
    }
    settings = {"ready-path": "/healthz"}
    web = workload("Deployment", "web", stage.images, container={"livenessProbe": liveness})
    await stage.deploy(web, service("web"), settings=settings)
    async with stage.traffic(QUICK, "web") as flow:
        victim = stage.pods.live("web")[0]
        await stage.ask(victim.name, "/hang")
        await stage.pods.until(lambda: victim.restarts("app") == 1 and victim.ready)
        await flow.more(WARM)
    words = json.loads(str(victim.container("app")["lastState"]["terminated"]["message"]))
    stage.row("only what was in the app", flow, note=f"{words['in_hand']} in hand")
    assert flow.verdict.failed <= words["in_hand"], flow.said()


@pytest.mark.case(HANDOVER, "`kubectl delete pod`; clients use its address for 15 s", wiring=NATIVE)
async def test_late_channels_of_grpc_reach_other_pods(stage: Stage) -> None:
    settings = {"propagation-delay": "2s", "quiet-limit": "20s"}
    await stage.deploy(workload("Deployment", "web", stage.images, app="grpc"), service("web"), settings=settings)
    victim = stage.pods.live("web")[0]
    async with pinned(stage, PINNED_GRPC, [victim]) as (flow,):
        await stage.kubectl("delete", f"pod/{victim.name}", "--wait=false")
        await asyncio.sleep(15)
    stage.nothing_lost(flow, at_least=50)


@pytest.mark.case(HANDOVER, "all apps are down; clients use the Pods' addresses", wiring=NATIVE)
async def test_where_nobody_can_answer_there_is_a_quick_503_and_no_loop(stage: Stage) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    both = stage.pods.live("web")
    for restarts in (1, 2):
        await asyncio.gather(*(stage.ask(pod.name, "/crash") for pod in both))
        if restarts == 1:
            await stage.pods.until(lambda: all(pod.restarts("app") == 1 and pod.ready for pod in both))
    await stage.pods.until(lambda: not any(pod.ready for pod in both))
    before = [await _numbers(stage, pod) for pod in both]
    async with AsyncExitStack() as stack:
        addresses = [f"{pod.address}:{PROXY_PORT}" for pod in both]
        flows = [await stack.enter_async_context(traffic(stage.place, PINNED, each)) for each in addresses]
        await asyncio.sleep(5)
    after = [await _numbers(stage, pod) for pod in both]
    sent = sum(flow.verdict.sent for flow in flows)
    counted, cpu_s = (sum(b[i] - a[i] for a, b in zip(before, after, strict=True)) for i in (0, 1))
    took = quantiles([sample.latency_s for flow in flows for sample in flow.samples], n=100)
    note = (
        f"{counted:g} requests at the Pods for {sent} of clients, answered in {took[49]:.2f} s, p99 {took[98]:.2f} s; "
        f"{1000 * cpu_s / max(1, sent):.1f} ms of CPU each"
    )
    stage.row("503, each within the time to connect; at most four requests of one", flows[0], note=note)
    assert counted <= 4 * sent
    assert {each.name for flow in flows for each in flow.verdict.failures} == {"503"}


def _is_back(pod: Pod, restarts: int) -> bool:
    return pod.restarts("app") == restarts and pod.ready


async def _numbers(stage: Stage, pod: Pod) -> tuple[float, float]:
    """Requests that the sidecar has ended, and seconds of CPU that it has used."""
    path = f"/api/v1/namespaces/{stage.kubectl.namespace}/pods/{pod.name}:9081/proxy/metrics"
    text = await stage.kubectl("get", f"--raw={path}")
    requests = sum(float(each) for each in re.findall(r"^drainproxy_requests_total\{.*\} (\S+)", text, re.M))
    (cpu,) = re.findall(r"^process_cpu_seconds_total (\S+)", text, re.M)
    return requests, float(cpu)


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counted.items() if number) or "none"
