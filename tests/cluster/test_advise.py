"""Does `advise --live` read the drains of a real rollout, from the termination messages of Pods that end?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.stage import WARM
from tests.cluster.table import MANIFESTS
from tests.cluster.traffic import MIXED
from tests.cluster.workloads import NATIVE, service, workload

if TYPE_CHECKING:
    from tests.cluster.stage import Stage

TOLD_S = 30


@pytest.mark.case(MANIFESTS, "`drainproxy advise --live` while two rolling updates run", wiring=NATIVE)
async def test_advise_counts_each_drain_of_the_rollouts(stage: Stage) -> None:
    await stage.deploy(workload("Deployment", "web", stage.images), service("web"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "advise", "--live", "--json", f"--namespace={stage.kubectl.namespace}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(stage.kubectl.kubeconfig)},
    )
    assert process.stderr is not None
    try:
        async with stage.traffic(MIXED, "web") as flow:
            await stage.roll_out("web", times=2)
            await stage.pods.settled()
            await flow.more(WARM)
        ended = len(stage.pods.took_s("web"))
        async with asyncio.timeout(TOLD_S):
            told = [(await process.stderr.readline()).decode() for _ in range(ended)]
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    (report,) = json.loads(out)["workloads"]
    last = report["last_arrival_s"] or {}
    note = f"{report['drains']} drains, {report['arrivals']} arrivals, the last after {last.get('max', 0):.1f} s"
    stage.nothing_lost(flow, at_least=200, note=f"{note}; {report['handed_over']} handed over")
    assert all("web: clean" in line for line in told), told
    assert (report["workload"], report["kind"], report["drains"]) == ("web", "Deployment", ended)
