"""How does what a cluster holds become the same input as files? One YAML text an object, without the cluster's notes.

An object's text is named `NAMESPACE/KIND/NAME`. Of what a controller made (ReplicaSets of a Deployment, their Pods) the
Pods stay, for their status: as workloads they do not count (see `manifest.objects.workloads`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.edit import Style, block_text
from drainproxy.tools.manifest.objects import controller_of, mapping, mappings
from drainproxy.tools.manifest.source import File

if TYPE_CHECKING:
    from collections.abc import Iterable

WORKLOADS = (
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicationcontrollers",
    "cronjobs.batch",
    "jobs.batch",
    "rollouts.argoproj.io",
)
AROUND = (
    "services",
    "poddisruptionbudgets.policy",
    "networkpolicies.networking.k8s.io",
    "horizontalpodautoscalers.autoscaling",
    "ingresses.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "persistentvolumeclaims",
    "namespaces",
    "peerauthentications.security.istio.io",
)
SIGNS = ("pods", "endpointslices.discovery.k8s.io", "events")
"""Where a cluster shows how it goes. Secrets are never read."""

_HAS_STATUS = ("Pod",)
_NOTED = ("managedFields", "selfLink", "resourceVersion", "generation", "creationTimestamp")
_NOTED_TO_APPLY = (*_NOTED, "uid", "ownerReferences")
_NOTED_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision")


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects of a List that `kubectl get -o json` prints. Raises ManifestError for anything else."""
    try:
        data = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ManifestError(f"kubectl printed something other than JSON: {error}") from None
    items = mapping(data).get("items")
    return mappings(items) if items is not None else mappings([data] if data else [])


def as_files(objects: Iterable[dict[str, Any]], *, to_apply: bool = False) -> list[File]:
    """One file an object. `to_apply`: fit for `kubectl apply`, without status and identity."""
    files: dict[str, File] = {}
    for each in objects:
        metadata = mapping(each.get("metadata"))
        name = "/".join(
            str(part) for part in (metadata.get("namespace"), each.get("kind"), metadata.get("name")) if part
        )
        files[name] = File(name, block_text(_without_notes(each, to_apply), 0, Style()) + "\n")
    return list(files.values())


def _without_notes(data: dict[str, Any], to_apply: bool) -> dict[str, Any]:
    dropped = _NOTED_TO_APPLY if to_apply else _NOTED
    metadata = {key: value for key, value in mapping(data.get("metadata")).items() if key not in dropped}
    annotations = {k: v for k, v in mapping(metadata.get("annotations")).items() if k not in _NOTED_ANNOTATIONS}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    kept = {key: value for key, value in data.items() if key != "status"}
    if not to_apply and data.get("kind") in _HAS_STATUS and "status" in data:
        kept["status"] = data["status"]
    result: dict[str, Any] = _without_schemes({**kept, "metadata": metadata})
    return result


def _without_schemes(value: Any, key: str = "") -> Any:
    """Without `scheme: HTTP` in probes and hooks, which the API server adds to what inject wrote."""
    if isinstance(value, dict):
        given = {each: inner for each, inner in value.items() if (key, each, inner) != ("httpGet", "scheme", "HTTP")}
        return {each: _without_schemes(inner, each) for each, inner in given.items()}
    return [_without_schemes(each) for each in value] if isinstance(value, list) else value


def maker_of(data: dict[str, Any]) -> str:
    """Whose controller made this object, as `Kind/name`; empty if somebody applied it."""
    maker = controller_of(data)
    return f"{maker.get('kind')}/{maker.get('name')}" if maker else ""
