"""How does the admission webhook get into the cluster under test? deploy/webhook, in a namespace of the test's own.

What is not in a namespace (the role, its binding, the configuration) takes the namespace's name, and the configuration
looks at the test's namespaces alone: nobody else's Pods are asked about.
"""

from __future__ import annotations

import json
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.traffic import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster.kubectl import Kubectl

NAME = "drainproxy-webhook"
DIRECTORY = ROOT / "deploy" / "webhook"
GLOBAL = ("ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration")


@dataclass
class Webhook:
    """`kubectl` is of its namespace."""

    kubectl: Kubectl

    async def restart(self) -> None:
        await self.kubectl("rollout", "restart", f"deployment/{NAME}")
        await self.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=170s")

    async def scale(self, replicas: int) -> None:
        """And wait until so many answer."""
        await self.kubectl("scale", f"deployment/{NAME}", f"--replicas={replicas}")
        if replicas:
            await self.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=170s")
        else:
            await self.kubectl("wait", "--for=delete", "pod", f"--selector={SELECTOR}", "--timeout=120s")

    async def pods(self) -> list[str]:
        """Those that run and are not ending."""
        found = (await self.kubectl.get("pods", f"--selector={SELECTOR}"))["items"]
        return [each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]]

    async def kill(self, pod: str) -> None:
        """Without a word: SIGKILL at once."""
        await self.kubectl.said("delete", f"pod/{pod}", "--grace-period=0", "--force", "--wait=false")

    async def metrics(self, pod: str) -> str:
        return await self.kubectl(
            "get", f"--raw=/api/v1/namespaces/{self.kubectl.namespace}/pods/{pod}:8081/proxy/metrics"
        )


SELECTOR = f"app.kubernetes.io/name={NAME}"


@asynccontextmanager
async def installed(kubectl: Kubectl, image: str, sidecar: str) -> AsyncIterator[Webhook]:
    """While the block runs. Two replicas answer when it begins."""
    tag = f"drainproxy-{secrets.token_hex(3)}"
    files = sorted(each for each in DIRECTORY.glob("*.yaml") if each.stem not in ("kustomization", "namespace"))
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    fitted = [_fitted(each, kubectl.namespace, tag, image, sidecar) for each in objects]
    wanted = json.dumps({"apiVersion": "v1", "kind": "List", "items": fitted})
    try:
        _, said = await kubectl.said("apply", "--filename=-", stdin=wanted)
        assert "Warning" not in said, said
        await kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=170s")
        yield Webhook(kubectl)
    finally:
        await kubectl("delete", ",".join(GLOBAL), tag, "--ignore-not-found")


def _fitted(each: dict[str, Any], namespace: str, tag: str, image: str, sidecar: str) -> dict[str, Any]:
    if each["kind"] in GLOBAL:
        each["metadata"] |= {"name": tag, "labels": {"drainproxy.io/cluster-tests": tag}}
    else:
        each["metadata"]["namespace"] = namespace
    for subject in each.get("subjects", []):
        subject["namespace"] = namespace
    if each["kind"] == "ClusterRoleBinding":
        each["roleRef"]["name"] = tag
    for rule in each.get("rules", []):
        if rule.get("resourceNames") == ["drainproxy"]:
            rule["resourceNames"] = [tag]
    for hook in each.get("webhooks", []):
        hook["clientConfig"] = {"service": {**hook["clientConfig"]["service"], "namespace": namespace}}
        selector = hook["namespaceSelector"]["matchExpressions"]
        hook["namespaceSelector"] = {
            "matchExpressions": [*selector, {"key": "drainproxy.io/cluster-tests", "operator": "Exists"}]
        }
    if each["kind"] == "Deployment":
        pod = each["spec"]["template"]["spec"]
        pod["containers"][0]["image"] = image
        variables = {one["name"]: one for one in pod["containers"][0]["env"]}
        variables["DRAINPROXY_WEBHOOK_IMAGE"]["value"] = sidecar
        pod["containers"][0]["args"] = ["webhook", "--configuration", tag, "--audit-every", "2s"]
        # A priority of the whole cluster is not a test's to take.
        del pod["priorityClassName"]
    return each
