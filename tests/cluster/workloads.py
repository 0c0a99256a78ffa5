"""What is deployed? Manifests as a user would write them, and how the sidecar gets into them."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from tests.cluster.webhook import INSTALLED_BY

TOKEN = "cluster-tests"


@dataclass(frozen=True, slots=True)
class Images:
    drainproxy: str
    peers: str


class Wiring(Protocol):
    """How drainproxy gets into a Pod. A case that takes one is played with each of them."""

    @property
    def name(self) -> str: ...

    @property
    def namespace_labels(self) -> dict[str, str]: ...

    async def wire(self, manifests: list[dict[str, Any]], images: Images, settings: dict[str, str]) -> str: ...


@dataclass(frozen=True, slots=True)
class Bare:
    """Not at all: what the baselines are."""

    name: str = "none"

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {}

    async def wire(self, manifests: list[dict[str, Any]], _images: Images, _settings: dict[str, str]) -> str:
        return documents(manifests)


@dataclass(frozen=True, slots=True)
class Injected:
    """`drainproxy inject` writes it, on the way from the manifests to kubectl."""

    sidecar: str

    @property
    def name(self) -> str:
        return f"{self.sidecar}, inject"

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {}

    async def wire(self, manifests: list[dict[str, Any]], images: Images, settings: dict[str, str]) -> str:
        given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        fixed = ["--sidecar", self.sidecar, "--image", images.drainproxy, "--drain-token", TOKEN]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "inject", "-f", "-", *fixed, *given),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, notes = await process.communicate(documents(manifests).encode())
        assert process.returncode == 0, notes.decode()
        return out.decode()


@dataclass(frozen=True, slots=True)
class Labelled:
    """The webhook does it, in a namespace with its label. Services name the port: the webhook edits none.

    `by`: which of the webhooks under test (`webhook.INSTALLED_BY`).
    """

    name: str = "native, webhook"
    by: str = "manifests"

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {"drainproxy.io/inject": "enabled", INSTALLED_BY: self.by}

    async def wire(self, manifests: list[dict[str, Any]], _images: Images, settings: dict[str, str]) -> str:
        annotations = {f"drainproxy.io/{name}": value for name, value in settings.items()}
        templates = [each["spec"]["template"] for each in manifests if "template" in each["spec"]]
        for each in templates:
            each["metadata"]["annotations"] = annotations
        (port,) = {each["spec"]["containers"][0]["ports"][0]["name"] for each in templates} or {"http"}
        return documents([_by_name(each, port) if each["kind"] == "Service" else each for each in manifests])


def _by_name(service: dict[str, Any], port: str) -> dict[str, Any]:
    ports = [{**each, "targetPort": port} for each in service["spec"]["ports"]]
    return {**service, "spec": {**service["spec"], "ports": ports}}


NATIVE, CLASSIC, LABELLED = Injected("native"), Injected("classic"), Labelled()
WIRINGS: tuple[Wiring, ...] = (NATIVE, CLASSIC, LABELLED)
"""A way to wire that is added here is played in every case."""


def wiring_id(wiring: Wiring) -> str:
    """As pytest names it."""
    return wiring.name.replace(", ", "-")


def documents(manifests: list[dict[str, Any]]) -> str:
    return "---\n".join(json.dumps(each) + "\n" for each in manifests)


PROBES: dict[str, dict[str, Any]] = {
    "http": {"httpGet": {"path": "/healthz", "port": 8080}},
    "websocket": {"httpGet": {"path": "/healthz", "port": 8080}},
    "grpc": {"grpc": {"port": 8080}},
}


def pod_template(
    labels: dict[str, str], app: str, images: Images, pod: dict[str, Any], container: dict[str, Any]
) -> dict[str, Any]:
    """The plain Pod; `pod` and `container` are added to its spec and to its container's."""
    plain = {
        "name": "app",
        "image": images.peers,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", f"tests.cluster.peers.{app}_app"],
        "ports": [{"name": "grpc" if app == "grpc" else "http", "containerPort": 8080}],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {**PROBES[app], "periodSeconds": 1, "timeoutSeconds": 3},
    }
    return {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 30, "containers": [{**plain, **container}], **pod},
    }


def workload(
    kind: str,
    name: str,
    images: Images,
    *,
    app: str = "http",
    replicas: int = 2,
    pod: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A Deployment or a StatefulSet of the app. `labels` are added to the Pods' label `app`, which is the name."""
    template = pod_template({"app": name, **(labels or {})}, app, images, pod or {}, container or {})
    own: dict[str, Any] = {"serviceName": name}
    if kind == "Deployment":
        own = {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    selector = {"matchLabels": {"app": name}}
    spec = {"replicas": replicas, "selector": selector, "template": template, **own}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job(name: str, images: Images, seconds: float) -> dict[str, Any]:
    """Its work: it answers requests for so long, and is done."""
    code = (
        "import threading, time; from tests.cluster.peers.http_app import Fragile, Server; "
        "server = Server(('0.0.0.0', 8080), Fragile); "
        f"threading.Thread(target=server.serve_forever, daemon=True).start(); time.sleep({seconds})"
    )
    never = {"restartPolicy": "Never"}
    template = pod_template({"app": name}, "http", images, never, {"command": ["python3", "-c", code]})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}


def service(name: str, selector: dict[str, str] | None = None) -> dict[str, Any]:
    """Port 80, to the container's port by number: `inject` has to edit it."""
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"selector": selector or {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def budget(name: str, max_unavailable: int = 1) -> dict[str, Any]:
    spec = {"maxUnavailable": max_unavailable, "selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}
