"""What if there is not time enough? Grace periods of 1 s and 0, requests longer than any, the last scrape."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.stage import WARM, Stage
from tests.cluster.table import BUDGETS
from tests.cluster.traffic import QUICK, Kind
from tests.cluster.workloads import service, workload

if TYPE_CHECKING:
    from tests.cluster.pods import Pod
    from tests.cluster.workloads import Wiring

GRACE_S = 15
LONG = Kind("HTTP/1, answers of 25 s", "http", rate=2, connections=0, fresh=1, paths=("/drip?s=25",), timeout_s=60)


@pytest.mark.case(BUDGETS, "`kubectl delete --grace-period=1`")
async def test_a_grace_period_of_one_second_is_kept(stage: Stage, wiring: Wiring) -> None:
    await _hurried(stage, "--grace-period=1")


@pytest.mark.case(BUDGETS, "`kubectl delete --grace-period=0 --force`")
async def test_without_any_grace_period_the_others_go_on(stage: Stage, wiring: Wiring) -> None:
    await _hurried(stage, "--grace-period=0", "--force")


async def _hurried(stage: Stage, *how: str) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(QUICK, "web") as flow:
        victim = stage.pods.live("web")[0]
        asked_at = time.monotonic()
        await stage.kubectl.said("delete", f"pod/{victim.name}", "--wait=false", *how)
        await stage.pods.until(lambda: victim.gone_at is not None)
        await stage.rolled_out("web")
        await flow.more(WARM)
    stage.row("gone within 6 s, and none lost 6 s after", flow)
    assert victim.took_s is not None
    assert victim.took_s < 6
    late = [at - asked_at for at in flow.failed_at if at - asked_at > 12]
    assert not late, flow.said()


@pytest.mark.case(BUDGETS, f"answers of 25 s, a grace period of {GRACE_S} s")
async def test_what_is_longer_than_the_grace_period_is_cut_counted_and_told(stage: Stage, wiring: Wiring) -> None:
    web = workload("Deployment", "web", stage.images, pod={"terminationGracePeriodSeconds": GRACE_S}, replicas=1)
    await stage.deploy(web, service("web"))
    async with stage.traffic(LONG, "web") as flow:
        await stage.kubectl("scale", "deployment/web", "--replicas=2")
        await stage.rolled_out("web")
        victim = min(stage.pods.live("web"), key=lambda pod: pod.facts["metadata"]["creationTimestamp"])
        in_hand = (await stage.status(victim.name))["in_flight"]["http"]
        await stage.kubectl("delete", f"pod/{victim.name}", "--wait=false")
        await stage.pods.until(lambda: victim.gone_at is not None)
        told = _last_words(victim)
        failed_hooks = await stage.events("FailedPreStopHook")
    stage.row(
        "only what the Pod had in hand, at its deadline; an event says so",
        flow,
        note=f"{in_hand} in hand; told: {told}",
    )
    assert 0 < flow.verdict.failed <= in_hand + 2 * LONG.rate, flow.said()
    assert victim.took_s is not None
    assert victim.took_s < GRACE_S + 3
    assert [event["involvedObject"]["name"] for event in failed_hooks] == [victim.name]
    assert "forced" in told


def _last_words(pod: Pod) -> str:
    """The drain's summary in words: the first line of the sidecar's termination message."""
    return pod.last_words("drainproxy").partition("\n")[0]


@pytest.mark.case(BUDGETS, "the last scrape: one every 2 s, a drain that cuts something")
async def test_the_last_scrape_has_the_outcome_of_the_drain(stage: Stage, wiring: Wiring) -> None:
    web = workload("Deployment", "web", stage.images, pod={"terminationGracePeriodSeconds": GRACE_S}, replicas=1)
    await stage.deploy(web, service("web"))
    (victim,) = stage.pods.live("web")
    scraper = await asyncio.create_subprocess_exec(
        *stage.place.python("-m", "tests.cluster.peers.scrape", f"http://{victim.address}:9081/metrics", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with stage.traffic(LONG, "web") as flow:
            await stage.kubectl("scale", "deployment/web", "--replicas=2")
            await stage.rolled_out("web")
            await stage.kubectl("delete", f"pod/{victim.name}", "--wait=false")
            await stage.pods.until(lambda: victim.gone_at is not None)
        out, said = await asyncio.wait_for(scraper.communicate(), 60)
    finally:
        if scraper.returncode is None:
            scraper.kill()
    aborted = sum(
        float(each) for each in re.findall(r"^drainproxy_drain_aborted_total\{.*\} (\S+)", out.decode(), re.M)
    )
    stage.row("it tells the outcome and every cut", flow, note=f"{aborted:g} told, {said.decode().strip()}")
    assert re.search(r'^drainproxy_drains_total\{[^}]*outcome="forced"[^}]*\} 1', out.decode(), re.M), out.decode()[
        -3000:
    ]
    assert aborted == flow.verdict.failed
