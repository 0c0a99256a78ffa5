"""Does the webhook lose an admission: while it is rolled out, and when a replica is killed? What when none is left?"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import drainproxy
from tests.cluster.kubectl import KubectlError
from tests.cluster.stage import WARM
from tests.cluster.table import WEBHOOK
from tests.cluster.traffic import MIXED
from tests.cluster.webhook import Webhook, installed
from tests.cluster.workloads import Labelled, service, workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.cluster.conftest import Namespaces
    from tests.cluster.stage import Stage
    from tests.cluster.workloads import Images

RESTARTS = 10
PACE_S = 0.2


@dataclass
class Creations:
    """Pods that were created, one after another: how many, which without the sidecar, and what went wrong."""

    made: int = 0
    bare: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def more(self, count: int) -> None:
        wanted = self.made + len(self.failed) + count
        async with asyncio.timeout(120):
            while self.made + len(self.failed) < wanted:  # noqa: ASYNC110 - a test looks from outside
                await asyncio.sleep(0.05)


def bare_pod(name: str, images: Images) -> dict[str, Any]:
    """One that is never scheduled: only its admission matters."""
    container = {"name": "app", "image": images.peers, "ports": [{"name": "http", "containerPort": 8080}]}
    spec = {"schedulerName": "nobody", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "stream"}}, "spec": spec}


def is_bare(pod: dict[str, Any]) -> bool:
    return all(each["name"] != "drainproxy" for each in pod["spec"].get("initContainers", []))


@asynccontextmanager
async def creations(stage: Stage) -> AsyncIterator[Creations]:
    """A steady stream of Pods inside the block; each is deleted again."""
    seen, ended = Creations(), asyncio.Event()

    async def stream() -> None:
        where = f"/api/v1/namespaces/{stage.kubectl.namespace}/pods"
        number = 0
        while not ended.is_set():
            number += 1
            name = f"stream-{number}"
            try:
                made = await stage.kubectl.raw("create", where, bare_pod(name, stage.images))
            except KubectlError as error:
                seen.failed.append(str(error))
                continue
            seen.made += 1
            if is_bare(made):
                seen.bare.append(name)
            await stage.kubectl("delete", f"pod/{name}", "--grace-period=0", "--force", "--wait=false")
            await asyncio.sleep(PACE_S)

    task = asyncio.create_task(stream())
    try:
        yield seen
    finally:
        ended.set()
        await task


@pytest.fixture
async def webhook(namespaces: Namespaces, images: Images) -> AsyncIterator[Webhook]:
    kubectl = namespaces.make({"pod-security.kubernetes.io/enforce": "restricted"})
    image = os.environ.get("DRAINPROXY_WEBHOOK_TEST_IMAGE", f"drainproxy-webhook:{drainproxy.__version__}")
    async with installed(kubectl, image, images.drainproxy) as found:
        yield found


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.2)


@pytest.mark.case(WEBHOOK, "the webhook is rolled out ten times while Pods are created", wiring=Labelled())
async def test_a_rollout_of_the_webhook_misses_no_pod(webhook: Webhook, stage: Stage) -> None:
    async with creations(stage) as seen:
        await seen.more(5)
        for _ in range(RESTARTS):
            await webhook.restart()
        await seen.more(5)
    stage.row("none refused, none bare", note=f"{seen.made} Pods, {len(seen.bare)} bare, {len(seen.failed)} refused")
    assert (seen.failed, seen.bare) == ([], [])


@pytest.mark.case(WEBHOOK, "of two replicas of the webhook one is killed while Pods are created", wiring=Labelled())
async def test_a_killed_replica_refuses_no_pod(webhook: Webhook, stage: Stage) -> None:
    async with creations(stage) as seen:
        await seen.more(5)
        for _ in range(3):
            await webhook.kill((await webhook.pods())[0])
            await seen.more(10)
            await webhook.scale(2)
        await seen.more(5)
    stage.row("none refused", note=f"{seen.made} Pods, {len(seen.bare)} bare, {len(seen.failed)} refused")
    assert seen.failed == []


@pytest.mark.case(WEBHOOK, "no webhook is left; the audit tells of the Pods afterwards", wiring=Labelled())
async def test_without_a_webhook_pods_start_bare_and_the_audit_finds_them(webhook: Webhook, stage: Stage) -> None:
    await webhook.scale(0)
    manifest = workload("Deployment", "web", stage.images, replicas=1)
    await stage.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
    await stage.rolled_out("web")
    assert all(is_bare(pod.facts) for pod in stage.pods.live("web"))
    await webhook.scale(1)

    async def told() -> bool:
        return bool(await stage.events("DrainproxySidecarMissing"))

    await until(told)
    line = f'drainproxy_webhook_audit_pods{{namespace="{stage.kubectl.namespace}",reason="missing"}} 1.0'

    async def counted() -> bool:
        return line in await webhook.metrics((await webhook.pods())[0])

    await until(counted)
    event = (await stage.events("DrainproxySidecarMissing"))[0]
    assert event["involvedObject"]["kind"] == "ReplicaSet"
    stage.row("an event on the ReplicaSet, and the metric")


@pytest.mark.case(WEBHOOK, "ten rollouts of a Deployment that the webhook injects", wiring=Labelled())
async def test_what_the_webhook_writes_loses_nothing(webhook: Webhook, stage: Stage) -> None:
    assert await webhook.pods()
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    assert not any(is_bare(pod.facts) for pod in stage.pods.live("web"))
    async with stage.traffic(MIXED, "web") as flow:
        await stage.roll_out("web", times=10)
        await flow.more(WARM)
    stage.nothing_lost(flow, at_least=1000)
