"""How does the admission webhook get into the cluster under test? deploy/webhook, in a namespace of the test's own.

What is not in a namespace (the role, its binding, the configuration) takes a name of the test's own, and the
configuration looks at the test's namespaces alone: nobody else's Pods are asked about.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

import drainproxy
from tests.cluster.traffic import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.webhook.certificates import Material
    from tests.cluster.kubectl import Kubectl

NAME = "drainproxy-webhook"
DIRECTORY = ROOT / "deploy" / "webhook"
GLOBAL = ("ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration")
INSTALLED_BY = "drainproxy.io/cluster-tests-webhook"
"""A label of namespaces: which of the webhooks under test is to look at them."""
SELECTOR = f"app.kubernetes.io/name={NAME}"
IMAGE = os.environ.get("DRAINPROXY_WEBHOOK_TEST_IMAGE", f"{NAME}:{drainproxy.__version__}")


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

    async def metric(self, pod: str, series: str) -> float:
        """One series, by its name and labels as exposed; 0 if it is not there."""
        path = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{pod}:8081/proxy/metrics"
        found = re.search(rf"^{re.escape(series)} (\S+)$", await self.kubectl("get", f"--raw={path}"), re.M)
        return float(found[1]) if found else 0.0


CERTIFICATE = f"{NAME}-cert"
"""The Secret of a certificate that somebody else looks after."""


def certificate_secret(made: Material) -> dict[str, Any]:
    """As cert-manager writes it."""
    files = {"ca.crt": made.bundle, "tls.crt": made.certificate, "tls.key": made.key}
    data = {key: b64encode(value).decode() for key, value in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": CERTIFICATE},
        "data": data,
    }


RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Labels for its own namespace."""


@contextmanager
def installed(kubectl: Kubectl, sidecar: str, by: str, given: Material | None = None) -> Iterator[Webhook]:
    """While the block runs; two replicas answer when it begins. `by`: which namespaces it looks at (INSTALLED_BY).

    `given`: it serves this certificate and makes none, as docs/webhook.md has it for cert-manager.
    """
    tag = f"drainproxy-{secrets.token_hex(3)}"
    files = sorted(each for each in DIRECTORY.glob("*.yaml") if each.stem not in ("kustomization", "namespace"))
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    fitted = [_fitted(each, kubectl.namespace, tag, sidecar, by) for each in objects]
    if given is not None:
        fitted = _with_certificate(fitted, kubectl.namespace, given)
    wanted = json.dumps({"apiVersion": "v1", "kind": "List", "items": fitted})
    try:
        said = kubectl.now("apply", "--filename=-", stdin=wanted, and_warnings=True)
        assert "Warning" not in said, said
        kubectl.now("rollout", "status", f"deployment/{NAME}", "--timeout=170s")
        yield Webhook(kubectl)
    finally:
        kubectl.now("delete", ",".join(GLOBAL), tag, "--ignore-not-found")


def _fitted(each: dict[str, Any], namespace: str, tag: str, sidecar: str, by: str) -> dict[str, Any]:
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
        hook["namespaceSelector"] = {"matchExpressions": [*selector, *only_ours(namespace, by)]}
    if each["kind"] == "Deployment":
        pod = each["spec"]["template"]["spec"]
        pod["containers"][0]["image"] = IMAGE
        variables = {one["name"]: one for one in pod["containers"][0]["env"]}
        variables["DRAINPROXY_WEBHOOK_IMAGE"]["value"] = sidecar
        pod["containers"][0]["args"] = ["webhook", "--configuration", tag, "--audit-every", "2s"]
        # A priority of the whole cluster is not a test's to take.
        del pod["priorityClassName"]
    return each


def only_ours(namespace: str, by: str) -> list[dict[str, Any]]:
    """What a namespace's labels must say for this webhook to look at it: made in this very run, for it."""
    run = namespace.rpartition("-")[0]
    return [
        {"key": "drainproxy.io/cluster-tests", "operator": "In", "values": [run]},
        {"key": INSTALLED_BY, "operator": "In", "values": [by]},
    ]


def _with_certificate(objects: list[dict[str, Any]], namespace: str, given: Material) -> list[dict[str, Any]]:
    """Without the Secret, Role and RoleBinding that it would make its own by."""
    kept = [each for each in objects if each["kind"] not in ("Secret", "Role", "RoleBinding")]
    for each in kept:
        for hook in each.get("webhooks", []):
            hook["clientConfig"]["caBundle"] = b64encode(given.bundle).decode()
        if each["kind"] == "Deployment":
            pod = each["spec"]["template"]["spec"]
            pod["containers"][0]["args"] += ["--tls-dir", "/tls"]
            pod["containers"][0]["volumeMounts"].append({"name": "tls", "mountPath": "/tls", "readOnly": True})
            pod["volumes"].append({"name": "tls", "secret": {"secretName": CERTIFICATE}})
    secret = certificate_secret(given)
    secret["metadata"]["namespace"] = namespace
    return [secret, *kept]
