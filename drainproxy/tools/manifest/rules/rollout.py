"""Is there always somebody to serve? Rules on how Pods are replaced, disrupted, scaled and run to completion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import mapping
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.rules.view import Manifests, Pods

_DEFAULT_SHARE = "25%"
"""maxUnavailable and maxSurge of a Deployment (Kubernetes API reference, RollingUpdateDeployment)."""
_ROLLING = """
kind: Deployment
spec:
  replicas: 2
  minReadySeconds: 5
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
"""
_BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: web}}
"""
SEVERAL = 2


def _share(value: Any, replicas: int, *, up: bool) -> int | None:
    """A number, or a percentage of the replicas rounded as Kubernetes does (maxSurge up, maxUnavailable down)."""
    if isinstance(value, int):
        return value
    text = str(value)
    if not text.endswith("%") or not text[:-1].isdigit():
        return None
    exact = int(text[:-1]) * replicas / 100
    return math.ceil(exact) if up else math.floor(exact)


def _rolling(pods: Pods) -> dict[str, Any] | None:
    """The rollingUpdate numbers of a Deployment; None where Pods are replaced another way."""
    if pods.resource.kind != "Deployment" or mapping(pods.resource.spec.get("strategy")).get("type") == "Recreate":
        return None
    return mapping(mapping(pods.resource.spec.get("strategy")).get("rollingUpdate"))


def _capacity(pods: Pods) -> int:
    """How many Pods share this workload's traffic: canaries and colours stand behind one Service."""
    shared = dict.fromkeys(each for service in pods.services for each in pods.manifests.behind(service))
    return sum(each.replicas for each in shared or [pods])


@rule(
    "DP501",
    "zero-capacity",
    Severity.ERROR,
    "a rollout may take every Pod away at once",
    why="maxUnavailable is how many Pods may be missing during a rollout. When it reaches the number of replicas, old "
    "Pods are stopped before a new one is ready, and no Pod serves.",
    fix="Set maxUnavailable: 0 with maxSurge: 1 or more: a new Pod is ready before an old one is removed.",
    example=_ROLLING,
)
def zero_capacity(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        rolling = _rolling(pods)
        replicas = pods.replicas
        if rolling is None or replicas < 1:
            continue
        missing = _share(rolling.get("maxUnavailable", _DEFAULT_SHARE), replicas, up=False)
        if missing is not None and missing >= replicas:
            path = ("spec", "strategy", "rollingUpdate", "maxUnavailable")
            yield Hit(pods.resource, path, f"maxUnavailable allows {missing} of {replicas} to be missing")


@rule(
    "DP502",
    "no-surge",
    Severity.WARNING,
    "a rollout removes a Pod before its replacement is ready",
    why="With maxSurge: 0, each step begins by removing a Pod. The other Pods take over its load and all its clients.",
    fix="Set maxSurge: 1 or more, and maxUnavailable: 0.",
    example=_ROLLING,
)
def no_surge(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        surge = (_rolling(pods) or {}).get("maxSurge", _DEFAULT_SHARE)
        if _share(surge, max(pods.replicas, 1), up=True) == 0:
            yield Hit(pods.resource, ("spec", "strategy", "rollingUpdate", "maxSurge"), "maxSurge is 0")


@rule(
    "DP503",
    "recreate",
    Severity.WARNING,
    "a rollout stops all Pods before it starts the new version",
    why="The strategy Recreate removes all Pods before the first new one starts. Even if each of them drains, no Pod "
    "serves until the new ones are ready. Pods with a volume that only one node can mount are not reported.",
    fix="Use RollingUpdate, unless two versions must never run together.",
    example=_ROLLING,
)
def recreate(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        strategy = mapping(pods.resource.spec.get("strategy"))
        if pods.resource.kind == "Deployment" and strategy.get("type") == "Recreate" and not pods.has_own_volume:
            yield Hit(pods.resource, ("spec", "strategy", "type"), "there is a gap at every rollout")


@rule(
    "DP504",
    "one-replica",
    Severity.WARNING,
    "there is only one Pod",
    why="When its node is drained or fails, no Pod serves until a new one is ready. A StatefulSet also stops its only "
    "Pod before it starts the next one, at every rollout. Pods with a volume that only one node can mount are probably "
    "meant to be single, and are not reported.",
    fix="Run two or more replicas.",
    example=_ROLLING,
)
def one_replica(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        kinds = ("Deployment", "StatefulSet", "ReplicaSet", "Rollout")
        alone = pods.resource.kind in kinds and pods.replicas == 1 and not pods.has_own_volume
        if alone and _capacity(pods) < SEVERAL:
            yield Hit(pods.resource, ("spec", "replicas"), "replicas is 1")


@rule(
    "DP505",
    "no-min-ready",
    Severity.INFO,
    "a new Pod counts as available the moment it is ready",
    why="If a new Pod becomes ready and fails a second later, an old Pod has already been removed. minReadySeconds "
    "makes the rollout wait, and gives load balancers time to take the new Pod in.",
    fix="Set minReadySeconds to a few seconds; with a cloud load balancer, to the time that it needs to add a target.",
    example=_ROLLING,
)
def no_min_ready(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        if pods.resource.kind in ("Deployment", "StatefulSet", "DaemonSet") and not pods.resource.spec.get(
            "minReadySeconds"
        ):
            yield Hit(pods.resource, ("spec",), "minReadySeconds is 0")


@rule(
    "DP506",
    "no-disruption-budget",
    Severity.WARNING,
    "several replicas, and no PodDisruptionBudget",
    why="Without a budget, a node drain may evict any number of Pods at once. All replicas may end together, and no "
    "Pod is left to serve.",
    fix="Add a PodDisruptionBudget with maxUnavailable: 1.",
    example=_BUDGET,
)
def no_disruption_budget(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        kinds = ("Deployment", "StatefulSet", "ReplicaSet", "Rollout")
        if pods.resource.kind in kinds and pods.replicas >= SEVERAL and not pods.budgets:
            yield Hit(pods.resource, ("spec", "replicas"), f"{pods.replicas} replicas may be evicted together")


@rule(
    "DP507",
    "budget-blocks",
    Severity.WARNING,
    "the PodDisruptionBudget never lets a Pod go",
    why="With minAvailable at the number of replicas, or maxUnavailable: 0, no eviction is ever allowed. Node drains "
    "hang until the Pods are deleted by force, and then no hook runs.",
    fix="Use maxUnavailable: 1.",
    example=_BUDGET,
)
def budget_blocks(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        replicas = pods.replicas
        for budget in pods.budgets:
            most = _share(budget.spec.get("maxUnavailable", replicas), replicas, up=True)
            least = _share(budget.spec.get("minAvailable", 0), replicas, up=True)
            if replicas and (most == 0 or (least is not None and least >= replicas)):
                key = "maxUnavailable" if most == 0 else "minAvailable"
                yield Hit(budget, ("spec", key), f"none of {pods.resource}'s {replicas} may be evicted")


@rule(
    "DP508",
    "hpa-scale-down",
    Severity.INFO,
    "the autoscaler may remove many Pods at once",
    why="Without behavior.scaleDown an autoscaler may remove all superfluous Pods in one step. Each of them drains, "
    "but all their clients reconnect to the few remaining Pods at the same moment.",
    fix="Let scaleDown remove only a few Pods per minute.",
    example="""
kind: HorizontalPodAutoscaler
spec:
  behavior:
    scaleDown:
      policies:
      - {type: Pods, value: 1, periodSeconds: 60}
""",
)
def hpa_scale_down(manifests: Manifests) -> Iterator[Hit]:
    for each in manifests.of("HorizontalPodAutoscaler"):
        if not mapping(each.spec.get("behavior")).get("scaleDown"):
            yield Hit(each, ("spec",), "no behavior.scaleDown")


@rule(
    "DP509",
    "replicas-beside-autoscaler",
    Severity.WARNING,
    "the manifest sets replicas, and so does an autoscaler",
    why="Every `kubectl apply` sets the number back to that of the manifest, until the autoscaler corrects it. Under "
    "load, this ends most Pods at once, just when a new version is rolled out.",
    fix="Remove spec.replicas from the manifest once the autoscaler is active.",
    example="""
kind: Deployment
spec:
  # no replicas: the HorizontalPodAutoscaler sets them
  minReadySeconds: 5
""",
)
def replicas_beside_autoscaler(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        if "replicas" in pods.resource.spec and not pods.resource.is_live:
            for each in manifests.autoscalers(pods.resource):
                yield Hit(pods.resource, ("spec", "replicas"), f"{each} sets them too")


@rule(
    "DP510",
    "on-delete",
    Severity.INFO,
    "no rollout replaces these Pods: updateStrategy OnDelete",
    why="A new version reaches only Pods that are deleted by hand, and Kubernetes does not limit how many are deleted "
    "at once.",
    fix="Use RollingUpdate, unless something else deletes the Pods in order.",
    example="""
kind: DaemonSet
spec:
  updateStrategy: {type: RollingUpdate}
""",
)
def on_delete(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        strategy = mapping(pods.resource.spec.get("updateStrategy"))
        if pods.resource.kind in ("StatefulSet", "DaemonSet") and strategy.get("type") == "OnDelete":
            yield Hit(pods.resource, ("spec", "updateStrategy", "type"), "Pods stay until they are deleted")


@rule(
    "DP601",
    "classic-sidecar-in-job",
    Severity.ERROR,
    "the Job never completes, because drainproxy keeps running",
    why="A Job's Pod is done when all its main containers have ended. A classic sidecar never ends by itself.",
    fix="Make drainproxy a native sidecar: an init container with restartPolicy: Always (Kubernetes 1.29 and later).",
    example="""
initContainers:
- name: drainproxy
  restartPolicy: Always
""",
    always=True,
)
def classic_sidecar_in_job(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        if pods.workload.runs_to_completion and not sidecar.in_init:
            yield Hit(pods.resource, pods.at_sidecar(), "a classic sidecar in a Job")


@rule(
    "DP602",
    "init-container-not-sidecar",
    Severity.ERROR,
    "drainproxy is an ordinary init container: the app never starts",
    why="An init container must end before the next one starts, and drainproxy does not end. With restartPolicy: "
    "Always it is a native sidecar and keeps running next to the app.",
    fix="Add restartPolicy: Always to drainproxy's container.",
    example="""
initContainers:
- name: drainproxy
  restartPolicy: Always
""",
    always=True,
)
def init_container_not_sidecar(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        if sidecar.in_init and not sidecar.native:
            yield Hit(pods.resource, pods.at_sidecar(), "restartPolicy: Always is missing")


_GONE = {
    ("extensions/v1beta1", "Deployment"): ("apps/v1", "1.16"),
    ("extensions/v1beta1", "DaemonSet"): ("apps/v1", "1.16"),
    ("extensions/v1beta1", "ReplicaSet"): ("apps/v1", "1.16"),
    ("extensions/v1beta1", "NetworkPolicy"): ("networking.k8s.io/v1", "1.16"),
    ("extensions/v1beta1", "Ingress"): ("networking.k8s.io/v1", "1.22"),
    ("apps/v1beta1", "Deployment"): ("apps/v1", "1.16"),
    ("apps/v1beta1", "StatefulSet"): ("apps/v1", "1.16"),
    ("apps/v1beta2", "Deployment"): ("apps/v1", "1.16"),
    ("apps/v1beta2", "StatefulSet"): ("apps/v1", "1.16"),
    ("apps/v1beta2", "DaemonSet"): ("apps/v1", "1.16"),
    ("apps/v1beta2", "ReplicaSet"): ("apps/v1", "1.16"),
    ("networking.k8s.io/v1beta1", "Ingress"): ("networking.k8s.io/v1", "1.22"),
    ("batch/v1beta1", "CronJob"): ("batch/v1", "1.25"),
    ("batch/v2alpha1", "CronJob"): ("batch/v1", "1.21"),
    ("policy/v1beta1", "PodDisruptionBudget"): ("policy/v1", "1.25"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): ("discovery.k8s.io/v1", "1.25"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"): ("autoscaling/v2", "1.25"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ("autoscaling/v2", "1.26"),
}
"""API versions no longer served, their successor, and since when (Kubernetes: Deprecated API Migration Guide)."""


@rule(
    "DP701",
    "removed-api",
    Severity.ERROR,
    "this API version no longer exists",
    why="The API server refuses the object. If it is applied together with other objects, those may be accepted: for "
    "example a Deployment without its PodDisruptionBudget.",
    fix="Write the newer apiVersion; `kubectl convert` helps if fields have moved.",
    example=_BUDGET,
    always=True,
)
def removed_api(manifests: Manifests) -> Iterator[Hit]:
    for each in (each for kind in sorted({kind for _, kind in _GONE}) for each in manifests.of(kind)):
        successor = _GONE.get((each.api_version, each.kind))
        if successor is not None:
            version, since = successor
            yield Hit(each, ("apiVersion",), f"{each.api_version} ended with {since}; use {version}")
