"""How is a case played? A namespace of its own, a workload in it, traffic on its Service, and a row of the table."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.cluster.table import Row
from tests.cluster.traffic import reachable, traffic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster.kubectl import Kubectl
    from tests.cluster.pods import Pods
    from tests.cluster.table import Table
    from tests.cluster.traffic import Flow, Kind, Place
    from tests.cluster.workloads import Images, Wiring

WARM = 40
"""So many answers before and after whatever a case does: the traffic is known to flow."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Apps that were told to stop: how long each had had no request, and how long after the trigger that was."""

    idle_s: list[float]
    after_s: list[float]
    in_hand: int

    def __str__(self) -> str:
        if not self.idle_s or not self.after_s:
            return "no app was told to stop"
        return (
            f"apps told to stop {median(self.after_s):.1f} s after the trigger (longest {max(self.after_s):.1f} s), "
            f"{median(self.idle_s):.2f} s after their last request (longest {max(self.idle_s):.2f} s)"
        )


@dataclass
class Stage:
    """One case. `wiring` is how drainproxy gets into what is deployed."""

    kubectl: Kubectl
    pods: Pods
    place: Place
    images: Images
    wiring: Wiring
    table: Table
    group: str
    case: str
    rows: list[Row] = field(default_factory=list)

    async def deploy(self, *manifests: dict[str, Any], settings: dict[str, str] | None = None) -> None:
        """Apply them with drainproxy in, and wait for Deployments and StatefulSets. A warning of the server fails."""
        wired = await self.wiring.wire(list(manifests), self.images, settings or {})
        _, error = await self.kubectl.said("apply", "--filename=-", stdin=wired)
        assert "Warning" not in error, error
        for each in manifests:
            if each["kind"] in ("Deployment", "StatefulSet"):
                await self.rolled_out(each["metadata"]["name"], each["kind"])

    async def rolled_out(self, name: str, kind: str = "Deployment") -> None:
        await self.kubectl("rollout", "status", f"{kind}/{name}", "--timeout=170s")
        replicas = (await self.kubectl.get(f"{kind}/{name}"))["spec"]["replicas"]
        await self.pods.until(lambda: sum(pod.ready for pod in self.pods.live(name)) >= replicas)

    async def roll_out(self, name: str, kind: str = "Deployment", times: int = 1) -> None:
        for _ in range(times):
            await self.kubectl("rollout", "restart", f"{kind}/{name}")
            await self.rolled_out(name, kind)

    async def address(self, service: str) -> str:
        """Of a Service, as clients reach it."""
        return f"{(await self.kubectl.get('service', service))['spec']['clusterIP']}:80"

    @asynccontextmanager
    async def traffic(self, kind: Kind, service: str) -> AsyncIterator[Flow]:
        """Steady traffic inside the block, warm when it begins."""
        address = await self.address(service)
        await reachable(self.place, address)
        async with traffic(self.place, kind, address) as flow:
            await flow.more(WARM if kind.rate >= WARM / 2 else 5)
            yield flow

    async def ask(self, pod: str, path: str) -> None:
        """A request to one Pod's app, past its proxy, from inside; whether it is answered does not matter."""
        code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080{path}', timeout=5).read()"
        await self.kubectl.said("exec", pod, "--container=app", "--", "python3", "-c", code, may_fail=True)

    async def status(self, pod: str) -> dict[str, Any]:
        """What drainproxy says of itself."""
        code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9081/status').read().decode())"
        said = await self.kubectl("exec", pod, "--container=app", "--", "python3", "-c", code)
        found = json.loads(said)
        assert isinstance(found, dict)
        return found

    def stopped(self, app: str = "web") -> Stopped:
        """When the apps of Pods that are gone were told to stop. The kubelet tells nothing of a container before."""
        gone = [pod for pod in self.pods.of(app) if pod.deleted_at is not None]
        words = [json.loads(said) for pod in gone if (said := pod.last_words("app"))]
        drains = [json.loads(said.splitlines()[-1]) for pod in gone if (said := pod.last_words("drainproxy"))]
        after_s = [each["elapsed_s"] if each["let_go_s"] is None else each["let_go_s"] for each in drains]
        return Stopped([float(each["idle_s"]) for each in words], after_s, sum(int(each["in_hand"]) for each in words))

    async def check_live(self) -> list[dict[str, Any]]:
        """What `drainproxy check --live` finds in this namespace."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "check", "--live", "--format=json"),
            f"--namespace={self.kubectl.namespace}",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "KUBECONFIG": str(self.kubectl.kubeconfig)},
        )
        out, _ = await process.communicate()
        return list(json.loads(out)["findings"])

    async def events(self, reason: str) -> list[dict[str, Any]]:
        found = await self.kubectl.get("events", f"--field-selector=reason={reason}")
        return list(found["items"])

    def row(self, promise: str, flow: Flow | None = None, *, app: str = "web", note: str = "", case: str = "") -> None:
        """Write down what came of it, before it is judged."""
        verdict = flow.verdict if flow else None
        losses = Counter({each.name: each.count for each in verdict.failures}) if verdict else Counter()
        self.rows.append(
            Row(
                self.group,
                case or self.case,
                self.wiring.name,
                flow.kind.name if flow else "",
                verdict.sent if verdict else 0,
                verdict.failed if verdict else 0,
                dict(losses),
                [round(each, 1) for each in self.pods.took_s(app)],
                promise,
                note,
            )
        )

    def nothing_lost(self, flow: Flow, at_least: int, *, app: str = "web", note: str = "", case: str = "") -> None:
        """The row, and the judgement: no failure, and enough requests for that to mean something."""
        self.row("0 lost", flow, app=app, note=note, case=case)
        assert flow.verdict.failed == 0, flow.said()
        assert flow.verdict.sent >= at_least, f"only {flow.verdict.sent} requests were sent"
