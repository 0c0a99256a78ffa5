"""What if something breaks? A hung app, a crash of the app, the proxy killed: what is lost, and who comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.peers.http_app import IN_HAND
from tests.cluster.stage import WARM, Stage
from tests.cluster.table import ACCIDENTS
from tests.cluster.traffic import MIXED
from tests.cluster.workloads import service, workload

if TYPE_CHECKING:
    from tests.cluster.pods import Pod
    from tests.cluster.traffic import Flow
    from tests.cluster.workloads import Wiring

KILL_PROXY = """
import os, pathlib
for each in pathlib.Path("/proc").glob("[0-9]*"):
    words = (each / "cmdline").read_bytes().split(b"\\0")
    if b"serve" in words and any(word.endswith(b"/drainproxy") for word in words):
        os.kill(int(each.name), 9)
        print("killed")
"""
AWAY_S = 15.0
"""So long after the kill of a proxy somebody may still meet it dead: unready, out of the Service, told to all nodes."""


@pytest.mark.case(ACCIDENTS, "the app hangs: its liveness probe restarts it")
async def test_an_app_restarted_by_its_liveness_probe_loses_nothing_and_returns(stage: Stage, wiring: Wiring) -> None:
    liveness = {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 1,
        "timeoutSeconds": 3,
        "failureThreshold": 2,
    }
    web = workload("Deployment", "web", stage.images, container={"livenessProbe": liveness})
    await stage.deploy(web, service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        victim = stage.pods.live("web")[0]
        await stage.ask(victim.name, "/break")
        await stage.pods.until(lambda: not victim.ready)
        out = time.monotonic()
        await stage.pods.until(lambda: victim.restarts("app") == 1 and victim.ready)
        away_s = time.monotonic() - out
        seen = len(flow.samples)
        await flow.more(2 * WARM)
    stage.nothing_lost(flow, at_least=200, note=f"back in service after {away_s:.1f} s")
    assert victim.deleted_at is None
    assert any(sample.reply.pod == victim.name for sample in flow.samples[seen:])


@pytest.mark.case(ACCIDENTS, "the app crashes")
async def test_a_crash_of_the_app_loses_only_what_it_had_in_hand(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        victim = stage.pods.live("web")[0]
        await stage.ask(victim.name, "/crash")
        await stage.pods.until(lambda: victim.restarts("app") == 1 and victim.ready)
        await flow.more(2 * WARM)
    log = await stage.kubectl("logs", victim.name, "--container=app", "--previous")
    in_hand = int(log.rpartition(IN_HAND)[2].split()[0])
    stage.row("at most what the app had in hand", flow, note=f"{in_hand} in hand")
    assert flow.verdict.failed <= in_hand, flow.said()


@pytest.mark.case(ACCIDENTS, "the proxy is killed (-9) in service")
async def test_a_killed_proxy_is_restarted_and_only_its_absence_is_felt(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(_one_process_namespace(stage), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        victim = stage.pods.live("web")[0]
        killed_at = await _kill_proxy(stage, victim)
        await stage.pods.until(lambda: victim.restarts("drainproxy") == 1 and victim.ready)
        away_s = time.monotonic() - killed_at
        await flow.more(2 * WARM)
    stage.row(f"only within {AWAY_S:g} s of the kill", flow, note=f"back in service after {away_s:.1f} s")
    _felt_only(flow, killed_at)
    assert victim.restarts("app") == 0


@pytest.mark.case(ACCIDENTS, "the proxy is killed (-9) in mid-drain")
async def test_a_proxy_killed_in_mid_drain_does_not_hold_the_pod(stage: Stage, wiring: Wiring) -> None:
    await stage.deploy(_one_process_namespace(stage), service("web"))
    async with stage.traffic(MIXED, "web") as flow:
        victim = stage.pods.live("web")[0]
        await stage.kubectl("delete", f"pod/{victim.name}", "--wait=false")
        await stage.pods.until(lambda: victim.deleted_at is not None)
        await flow.more(WARM)
        killed_at = await _kill_proxy(stage, victim)
        await stage.pods.until(lambda: victim.gone_at is not None)
        await flow.more(WARM)
    stage.row(f"only within {AWAY_S:g} s of the kill; the Pod ends in its grace period", flow)
    _felt_only(flow, killed_at)
    assert victim.took_s is not None
    assert victim.took_s < 32


def _one_process_namespace(stage: Stage) -> dict[str, object]:
    """So that the app's container can kill the proxy: nobody kills his own process 1."""
    return workload("Deployment", "web", stage.images, pod={"shareProcessNamespace": True})


async def _kill_proxy(stage: Stage, pod: Pod) -> float:
    """When it was killed, of `time.monotonic`."""
    before = time.monotonic()
    said = await stage.kubectl("exec", pod.name, "--container=app", "--", "python3", "-c", KILL_PROXY)
    assert said.split() == ["killed"]
    return before


def _felt_only(flow: Flow, killed_at: float) -> None:
    late = [at - killed_at for at in flow.failed_at if not 0 <= at - killed_at <= AWAY_S]
    assert not late, (late, flow.said())
