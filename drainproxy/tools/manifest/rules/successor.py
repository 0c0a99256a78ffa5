"""Can requests be handed over as `--successor` says? Rules on the Service that it names and on who may reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import (
    Resource,
    label_selector_matches,
    mapping,
    mappings,
    same_namespace,
    service_selects,
    tcp_ports,
)
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule
from drainproxy.tools.manifest.wiring import allows, is_headless

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.config.values import Route
    from drainproxy.tools.manifest.rules.view import Manifests, Pods

_DIRECTIONS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


@rule(
    "DP415",
    "successor-elsewhere",
    Severity.WARNING,
    "the successor is a Service that does not lead to these Pods",
    why="Requests are handed over to Pods of the same workload, through its own Service. Another workload would give "
    "other answers; a headless Service has no address that Pods are chosen behind.",
    fix="Name the Service that selects these Pods and has a cluster IP, or leave --successor out.",
    example="""
env:
- {name: DRAINPROXY_SUCCESSOR, value: "env:web"}
""",
)
def successor_elsewhere(manifests: Manifests) -> Iterator[Hit]:
    for pods, route in _handing_over(manifests):
        for service in manifests.of("Service"):
            if not same_namespace(service, pods.resource) or not _is_named(service, route):
                continue
            if not service_selects(service, pods.workload):
                yield Hit(pods.resource, _place(pods), f"{service} does not select these Pods")
            elif is_headless(service):
                yield Hit(pods.resource, _place(pods), f"{service} is headless")


@rule(
    "DP416",
    "successor-shut-out",
    Severity.WARNING,
    "a NetworkPolicy keeps these Pods from each other, and they have a successor",
    why="A request is handed over from Pod to Pod, to drainproxy's port. Where a NetworkPolicy forbids that, each "
    "attempt fails, and the request waits for its own app as without a successor.",
    fix="Allow the Pods to reach each other on drainproxy's port, in both directions that policies restrict.",
    example="""
kind: NetworkPolicy
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: web}}
    ports:
    - {port: 9080, protocol: TCP}
""",
)
def successor_shut_out(manifests: Manifests) -> Iterator[Hit]:
    for pods, route in _handing_over(manifests):
        selecting = manifests.selecting("NetworkPolicy", pods.workload)
        for direction, (field, peer) in _DIRECTIONS.items():
            policies = [each for each in selecting if _restricts(each, direction)]
            rules = [mapping(each) for policy in policies for each in mappings(policy.spec.get(field))]
            if policies and not any(_lets_through(each, peer, pods, route) for each in rules):
                message = f"{pods.resource}: {direction.lower()} from Pod to Pod on port {route.listen.port}"
                yield Hit(policies[0], ("spec", field), f"{message} is not allowed")


@rule(
    "DP417",
    "successor-nameless",
    Severity.WARNING,
    "siblings are asked with TLS, and their certificates have no name to be checked against",
    why="With tls-cert, requests are handed over with TLS. The variables of a Service give an IP address, which the "
    "Pods' certificates rarely contain: then no sibling is trusted, and nothing is handed over.",
    fix="Set successor-name to a host name of the Pods' certificates, and successor-ca unless the system's authorities "
    "have signed them.",
    example="""
env:
- {name: DRAINPROXY_TLS_CERT, value: /tls/tls.crt}
- {name: DRAINPROXY_TLS_KEY, value: /tls/tls.key}
- {name: DRAINPROXY_SUCCESSOR, value: "env:web"}
- {name: DRAINPROXY_SUCCESSOR_NAME, value: web.shop.svc}
- {name: DRAINPROXY_SUCCESSOR_CA, value: /tls/ca.crt}
""",
)
def successor_nameless(manifests: Manifests) -> Iterator[Hit]:
    for pods, route in _handing_over(manifests):
        config = pods.sidecar.settings.config if pods.sidecar is not None else None
        if config is None or config.tls_cert is None or config.successor_name is not None:
            continue
        if route.successor is not None and route.successor.service:
            yield Hit(pods.resource, _place(pods), "no successor-name")


@rule(
    "DP511",
    "successor-alone",
    Severity.INFO,
    "a successor, and one replica",
    why="There is no sibling to hand a request to. It waits for its own app, as without a successor.",
    fix="Run two or more replicas, or remove --successor.",
    example="""
spec:
  replicas: 2
""",
)
def successor_alone(manifests: Manifests) -> Iterator[Hit]:
    for pods, _ in _handing_over(manifests):
        if pods.resource.kind not in ("DaemonSet", "Pod") and pods.replicas == 1:
            yield Hit(pods.resource, ("spec", "replicas"), "one replica has no sibling")


def _handing_over(manifests: Manifests) -> Iterator[tuple[Pods, Route]]:
    for pods, sidecar in manifests.proxied():
        for route in sidecar.settings.config.routes:
            if route.successor is not None:
                yield pods, route


def _place(pods: Pods) -> Any:
    sidecar = pods.sidecar
    assert sidecar is not None, "who hands over has a sidecar"
    return pods.env_path("route" if sidecar.settings.config.route else "successor")


def _is_named(service: Resource, route: Route) -> bool:
    """Whether the route's successor is this Service, by its variables or by DNS."""
    successor = route.successor
    assert successor is not None, "asked of a route that has none"
    if successor.service:
        return service.name.upper().replace("-", "_") == successor.service
    return successor.address is not None and successor.address.host.partition(".")[0] == service.name


def _restricts(policy: Resource, direction: str) -> bool:
    """By its policyTypes; without them ingress, and egress where it has rules for that (NetworkPolicySpec)."""
    types = policy.spec.get("policyTypes")
    if isinstance(types, list):
        return direction in types
    return direction == "Ingress" or "egress" in policy.spec


def _lets_through(rule: dict[str, Any], peer: str, pods: Pods, route: Route) -> bool:
    """Whether these Pods may reach each other by it. What cannot be told (addresses, other namespaces) is let pass."""
    peers, ports = rule.get(peer), mappings(rule.get("ports"))
    is_one = not peers or any(
        "podSelector" not in each or label_selector_matches(each["podSelector"], pods.workload.labels)
        for each in mappings(peers)
    )
    return is_one and (not ports or any(allows(each, route.listen.port, _port_name(pods, route)) for each in ports))


def _port_name(pods: Pods, route: Route) -> str:
    assert pods.sidecar is not None, "who hands over has a sidecar"
    names = [port.get("name") for _, port in tcp_ports(pods.sidecar.container) if _is_of(port, route)]
    return str(names[0] or "") if names else ""


def _is_of(port: dict[str, Any], route: Route) -> bool:
    return bool(port.get("containerPort") == route.listen.port)
