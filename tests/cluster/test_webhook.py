"""Does the webhook lose an admission: while it is rolled out, and when a replica is killed? What when none is left?"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import quantiles
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.webhook.certificates import Material, current
from tests.cluster.creations import creations, creator, is_bare
from tests.cluster.table import WEBHOOK
from tests.cluster.webhook import NAME, RESTRICTED, certificate_secret, installed
from tests.cluster.workloads import LABELLED, Labelled, workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.cluster.conftest import Namespaces
    from tests.cluster.stage import Stage
    from tests.cluster.webhook import Webhook
    from tests.cluster.workloads import Images

RESTARTS = 10
KILLS = 5
MEASURED = 300
"""So many Pods are created with the webhook and as many without it."""
FILES = Labelled(by="files")
NEWS_S = 180
"""The kubelet brings a changed Secret to a Pod within its sync period, a minute; the webhook looks once a minute."""


@pytest.fixture
async def webhook(shared_webhook: Webhook) -> AsyncIterator[Webhook]:
    """Whatever a case does to it, the next one finds two replicas."""
    yield shared_webhook
    await shared_webhook.scale(2)


async def until(true: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not await true():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.2)


@pytest.mark.case(WEBHOOK, "the webhook is rolled out ten times while Pods are created", wiring=LABELLED)
async def test_a_rollout_of_the_webhook_misses_no_pod(webhook: Webhook, stage: Stage) -> None:
    async with creations(stage.kubectl, stage.images.peers) as seen:
        await seen.more(5)
        for _ in range(RESTARTS):
            await webhook.restart()
        await seen.more(5)
    stage.row("none refused, none bare", note=str(seen))
    assert (seen.failed, seen.bare) == ([], [])


@pytest.mark.case(WEBHOOK, "five times, one of its two replicas is killed (-9) while Pods are created", wiring=LABELLED)
async def test_a_killed_replica_refuses_no_pod(webhook: Webhook, stage: Stage) -> None:
    async with creations(stage.kubectl, stage.images.peers) as seen:
        await seen.more(5)
        for _ in range(KILLS):
            await asyncio.sleep(random.random())  # at any moment of whatever goes on
            await webhook.kill((await webhook.pods())[0])
            await seen.more(20)
            await webhook.scale(2)
        await seen.more(5)
    stage.row("none refused, none bare", note=str(seen))
    assert (seen.failed, seen.bare) == ([], [])


@pytest.mark.case(WEBHOOK, "no webhook is left; the audit tells of the Pods afterwards", wiring=LABELLED)
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
    series = f'drainproxy_webhook_audit_pods{{namespace="{stage.kubectl.namespace}",reason="missing"}}'

    async def counted() -> bool:
        return await webhook.metric((await webhook.pods())[0], series) == 1

    await until(counted)
    event = (await stage.events("DrainproxySidecarMissing"))[0]
    assert event["involvedObject"]["kind"] == "ReplicaSet"
    checked = await stage.check_live()
    stage.row("an event on the ReplicaSet, the metric, and a finding of `check --live`")
    assert [each["rule"] for each in checked if each["rule"] == "DP904"] == ["DP904"]


@pytest.mark.case(WEBHOOK, "Pods with and without it, created in turn, one after another", wiring=LABELLED)
async def test_what_an_admission_costs_is_told(
    webhook: Webhook, stage: Stage, namespaces: Namespaces, images: Images
) -> None:
    assert await webhook.pods()
    plain = namespaces.make({})
    try:
        async with creator(stage.kubectl, images.peers) as with_it, creator(plain, images.peers) as without:
            for _ in range(MEASURED):
                await with_it.one()
                await without.one()
    finally:
        namespaces.remove(plain)
    told = [f"{name}: {_shown(each.seen.took_s)}" for name, each in (("with", with_it), ("without", without))]
    stage.row("nothing is promised", note="; ".join(told))
    assert (with_it.seen.failed, with_it.seen.bare) == ([], [])
    assert len(without.seen.bare) == MEASURED


def _shown(took_s: list[float]) -> str:
    cuts = quantiles(took_s, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


@pytest.mark.case(WEBHOOK, "`--tls-dir`: a certificate from outside, and its renewal", wiring=FILES)
async def test_a_certificate_of_somebody_else_is_served_and_renewed(
    stage: Stage, namespaces: Namespaces, images: Images
) -> None:
    kubectl = namespaces.make(RESTRICTED)
    names, now = [f"{NAME}.{kubectl.namespace}.svc"], datetime.now(UTC)
    first = current(None, names, now - timedelta(days=61))
    second = current(first, names, now)
    assert second.expires > first.expires

    async def served(own: Webhook, wanted: Material) -> bool:
        series = "drainproxy_webhook_certificate_expiry_timestamp_seconds"
        told = [await own.metric(pod, series) for pod in await own.pods()]
        return told == [wanted.expires.timestamp()] * 2

    with installed(kubectl, images.drainproxy, FILES.by, first) as own:
        async with creations(stage.kubectl, stage.images.peers) as seen:
            await until(partial(served, own, first))
            await seen.more(5)
            await kubectl("apply", "--filename=-", stdin=json.dumps(certificate_secret(second)))
            await until(partial(served, own, second), NEWS_S)
            await seen.more(20)
    stage.row("none refused, none bare", note=str(seen))
    assert (seen.failed, seen.bare) == ([], [])
