"""Which other ways does a Pod end on purpose? Scale down, deletion, eviction within a budget, the drain of a node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.cluster.kubectl import KubectlError
from tests.cluster.stage import WARM, Stage
from tests.cluster.table import ENDS
from tests.cluster.traffic import MIXED
from tests.cluster.workloads import NATIVE, budget, job, service, workload

if TYPE_CHECKING:
    from tests.cluster.workloads import Wiring


@pytest.mark.case(ENDS, "scale down from 3 to 1")
async def test_a_scale_down_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images, replicas=3), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.kubectl("scale", "deployment/web", "--replicas=1")
        await stage.pods.until(lambda: len(stage.pods.took_s("web")) == 2)
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=200)


@pytest.mark.case(ENDS, "`kubectl delete pod`")
async def test_a_deleted_pod_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.kubectl("delete", f"pod/{stage.pods.live('web')[0].name}")
        await stage.rolled_out("web")
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=200)


@pytest.mark.case(ENDS, "two evictions at once; the PodDisruptionBudget allows one")
async def test_an_eviction_within_the_budget_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"), budget("web"))
    await stage.kubectl("wait", "--for=jsonpath={.status.disruptionsAllowed}=1", "pdb/web", "--timeout=60s")
    async with stage.traffic(MIXED, "web") as flow:
        first, second = (pod.name for pod in stage.pods.live("web"))
        await _evict(stage, first)
        with pytest.raises(KubectlError, match="disruption budget"):
            await _evict(stage, second)
        await stage.pods.until(lambda: len(stage.pods.took_s("web")) == 1)
        await stage.rolled_out("web")
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=200)


async def _evict(stage: Stage, pod: str) -> None:
    metadata = {"name": pod, "namespace": stage.kubectl.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    await stage.kubectl.raw("create", f"/api/v1/namespaces/{stage.kubectl.namespace}/pods/{pod}/eviction", eviction)


@pytest.mark.case(ENDS, "`kubectl drain` of the node, with a PodDisruptionBudget")
async def test_the_drain_of_a_node_loses_nothing(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"), budget("web"))
    node = stage.pods.live("web")[0].facts["spec"]["nodeName"]
    there = [pod for pod in stage.pods.live("web") if pod.facts["spec"]["nodeName"] == node]
    async with stage.traffic(MIXED, "web") as flow:
        ours = ("--pod-selector=app=web", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=160s")
        draining = asyncio.create_task(stage.kubectl("drain", node, *ours))
        try:
            # Where there is but one node, the Pods that follow need it: it is closed only while the drain begins.
            await stage.kubectl("wait", "--for=jsonpath={.spec.unschedulable}=true", f"node/{node}", "--timeout=60s")
            await stage.pods.until(lambda: any(pod.deleted_at for pod in there))
            await stage.kubectl("uncordon", node)
            await draining
        finally:
            await stage.kubectl("uncordon", node)
        assert all(pod.gone_at for pod in there)
        await stage.rolled_out("web")
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=200)


@pytest.mark.case(ENDS, "a Job whose work is done", wiring=NATIVE)
async def test_a_job_completes_as_soon_as_its_work_is_done(stage: Stage) -> None:
    await stage.deploy(job("web", stage.images, seconds=3))

    def done() -> bool:
        return any("terminated" in pod.container("app").get("state", {}) for pod in stage.pods.of("web"))

    await stage.pods.until(done)
    loop = asyncio.get_running_loop()
    ended = loop.time()
    await stage.kubectl("wait", "--for=condition=complete", "job/web", "--timeout=60s")
    took_s = loop.time() - ended
    stage.row("complete within 5 s of its work's end", note=f"{took_s:.1f} s")
    assert took_s < 5
