"""Does a rollout lose requests? Rolling updates in each way that Kubernetes has, under traffic that is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.stage import WARM, Stage
from tests.cluster.table import BASELINES, ROLLOUTS
from tests.cluster.traffic import GRPC, MIXED, QUICK, STREAMS, WEBSOCKET
from tests.cluster.workloads import CLASSIC, NATIVE, service, wiring_id, workload

if TYPE_CHECKING:
    from tests.cluster.workloads import Wiring


@pytest.mark.case(BASELINES, "a rollout of the plain app")
async def test_a_plain_app_loses_requests_or_this_page_proves_nothing(stage: Stage) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images, replicas=3), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.roll_out("web")
        await flow.more(WARM)
    stage.row("some are lost, or the page proves nothing", flow)
    assert flow.verdict.failed > 0


@pytest.mark.case(BASELINES, "the same with `preStop: sleep 10`")
async def test_what_a_prestop_sleep_loses_is_told(stage: Stage) -> None:
    hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}
    await stage.deploy(workload("Deployment", "web", stage.images, replicas=3, container=hook), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.roll_out("web")
        await stage.pods.settled()
        await flow.more(WARM)
    stage.row("nothing is promised", flow)


@pytest.mark.case(ROLLOUTS, "ten rolling updates in a row")
async def test_ten_rollouts_in_a_row_lose_no_request(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.roll_out("web", times=10)
        await stage.pods.settled()
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=1000, note=str(stage.stopped()))
    assert len(stage.pods.took_s("web")) >= 20


@pytest.mark.case(ROLLOUTS, "two rolling updates of a gRPC app")
async def test_grpc_calls_and_streams_move_to_other_pods_without_an_error(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images, app="grpc"), service("web"))
    async with stage.traffic(GRPC, "web") as calls, stage.traffic(STREAMS, "web") as streams:
        await stage.roll_out("web", times=2)
        await stage.pods.settled()
        await asyncio.gather(calls.more(WARM), streams.more(10))
    stage.row("0 lost", streams)
    stage.nothing_lost(calls, at_least=300)
    assert streams.verdict.failed == 0, streams.said()


@pytest.mark.case(ROLLOUTS, "two rolling updates of a WebSocket app")
async def test_websockets_end_with_1001_and_no_message_is_lost(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images, app="websocket"), service("web"))
    async with stage.traffic(WEBSOCKET, "web") as flow:
        await stage.roll_out("web", times=2)
        await stage.pods.settled()
        await flow.more(WARM)
    closes = ", ".join(f"{count} times {code}" for code, count in flow.closes.items())
    stage.nothing_lost(flow, at_least=300, note=f"closed {closes}")
    assert set(flow.closes) == {"1001"}


@pytest.mark.case(ROLLOUTS, "a rolling update of a StatefulSet")
async def test_a_statefulset_is_updated_pod_by_pod_and_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("StatefulSet", "web", stage.images), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.roll_out("web", "StatefulSet")
        await stage.pods.settled()
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=300)


@pytest.mark.case(ROLLOUTS, "blue/green: the Service moves to green, blue is deleted")
async def test_blue_green_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    both = (workload("Deployment", color, stage.images) for color in ("blue", "green"))
    await stage.deploy(*both, service("web", {"app": "blue"}))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.kubectl("patch", "service/web", "--patch", '{"spec": {"selector": {"app": "green"}}}')
        await stage.kubectl("delete", "deployment/blue", "--wait=false")
        await stage.pods.until(lambda: all(pod.gone_at for pod in stage.pods.of("blue")))
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=300, app="blue")


@pytest.mark.case(ROLLOUTS, "canary: one of three Pods, then all, then the old ones go")
async def test_a_canary_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    labels = {"part-of": "shop"}
    stable = workload("Deployment", "stable", stage.images, labels=labels)
    canary = workload("Deployment", "canary", stage.images, replicas=0, labels=labels)
    await stage.deploy(stable, canary, service("web", labels))

    async def scale(name: str, replicas: int) -> None:
        await stage.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")
        await stage.rolled_out(name)

    async with stage.traffic(MIXED, "web") as flow:
        await scale("canary", 1)
        await flow.more(WARM)
        await scale("canary", 2)
        await scale("stable", 0)
        await stage.pods.settled()
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=300, app="stable")


@pytest.mark.case(ROLLOUTS, "a rolling update with a CPU limit of 100m on the sidecar")
@pytest.mark.parametrize(
    "wiring", [NATIVE, CLASSIC], indirect=True, ids=wiring_id
)  # the webhook has no word for a CPU limit
async def test_a_sidecar_with_a_tenth_of_a_core_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    await _limit_cpu(stage, "web", "100m")
    async with stage.traffic(QUICK, "web") as flow:
        await stage.roll_out("web")
        await stage.pods.settled()
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=300)


async def _limit_cpu(stage: Stage, name: str, limit: str) -> None:
    """A rollout of its own, without traffic."""
    sidecar = {"name": "drainproxy", "resources": {"limits": {"cpu": limit}}}
    spec = (await stage.kubectl.get(f"deployment/{name}"))["spec"]["template"]["spec"]
    native = any(each["name"] == "drainproxy" for each in spec.get("initContainers", []))
    change: dict[str, Any] = {"initContainers" if native else "containers": [sidecar]}
    await stage.kubectl.patch(f"deployment/{name}", {"spec": {"template": {"spec": change}}})
    await stage.rolled_out(name)
    await stage.pods.settled()
