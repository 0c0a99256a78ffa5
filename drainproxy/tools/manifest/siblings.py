"""Which Service leads to a workload's other Pods, so that requests can be handed to one of them (docs/successor.md)?

Chosen only where the Pods are alike, as far as the input tells: there are several, no Service keeps a client with one
of them, and exactly one Service leads to them. Else `drainproxy.io/successor: SERVICE` says it, or nothing is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.config.loading import load
from drainproxy.config.values import Address, Route, parse_successor
from drainproxy.errors import ConfigError
from drainproxy.tools.manifest.asked import NONE, PREFIX, Undecided
from drainproxy.tools.manifest.objects import controller_of, mapping, mappings, same_namespace, service_selects
from drainproxy.tools.manifest.wiring import is_headless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drainproxy.config.values import RouteProtocol
    from drainproxy.tools.manifest.choice import AppPort
    from drainproxy.tools.manifest.objects import Resource, Workload

ALIKE = ("CloneSet", "Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "Rollout")
"""Kinds whose Pods are replicas of each other; those of a StatefulSet have a role each, those of a DaemonSet a node."""


def successors(
    workload: Workload,
    ports: Sequence[AppPort],
    others: Sequence[Resource],
    asked: str | None,
    settings: Mapping[str, str],
) -> dict[int, str]:
    """What `--successor` is to be for each app port; a port that is not in it has none.

    `asked`: the name of a Service, `none`, or None for a choice; `settings`: the sidecar's other options. Raises
    Undecided for a Service that does not lead there.
    """
    service = _service(workload, others, asked, settings)
    if service is None:
        return {}
    found = {port.number: _address(workload, service, port) for port in ports}
    spoken = {port.number: port.verdict.protocol for port in ports}
    return {number: each for number, each in found.items() if each and _is_taken(each, spoken[number], settings)}


def _service(
    workload: Workload, others: Sequence[Resource], asked: str | None, settings: Mapping[str, str]
) -> Resource | None:
    """The one whose traffic any of the Pods may answer."""
    if asked == NONE:
        return None
    leading = [each for each in others if service_selects(each, workload) and _is_balanced(each)]
    if asked is not None:
        named = [each for each in leading if each.name == asked]
        if not named:
            raise Undecided(
                f"{workload}: annotation {PREFIX}successor: no Service {asked!r} with an address of its own selects "
                f"its Pods; expected one that does, or {NONE}"
            )
        return named[0]
    can_be_chosen = len(leading) == 1 and not _is_sticky(leading[0]) and _know_each_other(workload, settings)
    return leading[0] if can_be_chosen and _are_alike(workload, others) else None


def _is_balanced(service: Resource) -> bool:
    """Whether it has an address behind which somebody chooses a Pod."""
    return not is_headless(service) and service.spec.get("type") != "ExternalName"


def _is_sticky(service: Resource) -> bool:
    """Whether a client is kept with one Pod, or with this node's."""
    return service.spec.get("sessionAffinity") == "ClientIP" or service.spec.get("internalTrafficPolicy") == "Local"


def _know_each_other(workload: Workload, settings: Mapping[str, str]) -> bool:
    """Whether each Pod knows the name that all share: it is told, or made from the host name, which is the Pod's."""
    return "workload" in settings or not (workload.pod.get("hostNetwork") or workload.pod.get("hostname"))


def _are_alike(workload: Workload, others: Sequence[Resource]) -> bool:
    """Whether there are several, each as good as the other. A Pod does not say how many there are."""
    resource = workload.resource
    if resource.kind == "Pod":
        return controller_of(resource.data).get("kind") in ALIKE
    scaled = [each for each in others if each.kind == "HorizontalPodAutoscaler" and _scales(each, resource)]
    least = scaled[0].spec.get("minReplicas", 1) if scaled else resource.spec.get("replicas", 1)
    return resource.kind in ALIKE and least != 1


def _scales(scaler: Resource, resource: Resource) -> bool:
    target = mapping(scaler.spec.get("scaleTargetRef"))
    return (target.get("kind"), target.get("name")) == (resource.kind, resource.name) and same_namespace(
        scaler, resource
    )


def _address(workload: Workload, service: Resource, port: AppPort) -> str:
    """The Service's port that leads to the app's; empty if there is none, or no way to find it.

    Kubernetes' variables need no DNS, but know a Service's first port only.
    """
    numbers = [each.get("port") for each in mappings(service.spec.get("ports"))]
    leading = [number for number in numbers if f"{service.name}:{number}" in port.via]
    if not leading:
        return ""
    if leading[0] == numbers[0] and workload.pod.get("enableServiceLinks") is not False:
        return f"env:{service.name}"
    return f"{service.name}:{leading[0]}" if _asks_the_clusters_dns(workload) else ""


def _asks_the_clusters_dns(workload: Workload) -> bool:
    policy = workload.pod.get("dnsPolicy", "ClusterFirst")
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not workload.pod.get("hostNetwork"))


def _is_taken(address: str, protocol: RouteProtocol, settings: Mapping[str, str]) -> bool:
    """Whether drainproxy starts with it."""
    route = Route(Address(port=1), Address("127.0.0.1", 2), protocol, parse_successor(address))
    try:
        load({"route": str(route)} | {key: settings.get(key) for key in ("tls-cert", "tls-key")}, {}, {})
    except ConfigError:
        return False
    return True
