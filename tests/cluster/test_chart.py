"""Does the Helm chart install, upgrade, test and remove the webhook on a cluster, and what does it leave there?"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.creations import creations
from tests.cluster.table import WEBHOOK
from tests.cluster.traffic import ROOT
from tests.cluster.webhook import GLOBAL, IMAGE, RESTRICTED, SELECTOR, only_ours
from tests.cluster.workloads import Labelled

if TYPE_CHECKING:
    from tests.cluster.conftest import Namespaces
    from tests.cluster.kubectl import Kubectl
    from tests.cluster.stage import Stage
    from tests.cluster.workloads import Images

HELM = shutil.which("helm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
CHART = str(ROOT / "deploy" / "chart")
CHARTED = Labelled(by="chart")
UPGRADES = 3


async def helm(kubectl: Kubectl, verb: str, *words: str, values: dict[str, Any] | None = None) -> str:
    assert HELM is not None
    given = ["--values=-"] if values is not None else []
    process = await asyncio.create_subprocess_exec(
        *(HELM, verb, "drainproxy", *words, *given, f"--kubeconfig={kubectl.kubeconfig}"),
        f"--namespace={kubectl.namespace}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(json.dumps(values or {}).encode())
    assert process.returncode == 0, f"helm {verb}: {out.decode()}"
    assert "WARNING" not in out.decode(), out.decode()
    return out.decode()


async def what_is_there(kubectl: Kubectl) -> set[str]:
    """All objects of the namespace, and the webhook's own outside it."""
    kinds = (await kubectl("api-resources", "--namespaced", "--verbs=list,delete", "--output=name")).split()
    listed = [each for each in kinds if not each.startswith(("events", "leases", "endpointslices", "endpoints"))]
    own = await kubectl("get", ",".join(listed), "--output=name", "--ignore-not-found")
    return {*own.split(), *await outside(kubectl)}


async def outside(kubectl: Kubectl) -> set[str]:
    """What a webhook has in no namespace."""
    found = await kubectl("get", ",".join(GLOBAL), "--output=name")
    return {each for each in found.split() if each.rpartition("/")[2] in ("drainproxy", "drainproxy-webhook")}


def values(namespace: str, images: Images, **more: Any) -> dict[str, Any]:
    repository, _, tag = IMAGE.rpartition(":")
    sidecar, _, sidecar_tag = images.drainproxy.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "sidecar": {"image": {"repository": sidecar, "tag": sidecar_tag}},
        "namespaceSelector": {"matchExpressions": only_ours(namespace, CHARTED.by)},
        "priorityClassName": "",
        **more,
    }


@pytest.mark.skipif(HELM is None, reason="helm is not here: the chart is NOT played (`make setup` brings helm)")
@pytest.mark.case(
    WEBHOOK, "the Helm chart: install, `helm test`, three upgrades while Pods are created, uninstall", wiring=CHARTED
)
async def test_the_chart_is_installed_upgraded_and_removed(
    stage: Stage, namespaces: Namespaces, images: Images
) -> None:
    kubectl = namespaces.make(RESTRICTED)
    if there := await outside(kubectl):
        pytest.skip(f"the cluster has a drainproxy webhook already, the chart is NOT played: {', '.join(there)}")
    wanted = values(kubectl.namespace, images)
    await helm(kubectl, "install", CHART, "--wait", "--timeout=170s", values=wanted)
    try:
        tested = await helm(kubectl, "test", "--timeout=60s")
        async with creations(stage.kubectl, stage.images.peers) as seen:
            await seen.more(5)
            for minutes in range(UPGRADES):
                changed = {**wanted, "extraArgs": [f"--audit-every={minutes + 1}m"]}
                await helm(kubectl, "upgrade", CHART, "--wait", "--timeout=170s", values=changed)
            await seen.more(5)
    finally:
        await helm(kubectl, "uninstall", "--wait", "--timeout=170s")
    await kubectl("wait", "--for=delete", "pods", f"--selector={SELECTOR}", "--timeout=60s")
    left = await what_is_there(kubectl) - await what_is_there(stage.kubectl)  # which has what each namespace has
    stage.row("none refused, none bare; nothing is left", note=f"{seen}; left: {', '.join(sorted(left)) or 'nothing'}")
    assert re.search(r"Phase:\s+Succeeded", tested), tested
    assert (seen.failed, seen.bare) == ([], [])
    assert left == set()
