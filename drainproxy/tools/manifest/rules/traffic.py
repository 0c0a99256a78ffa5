"""Does traffic meet drainproxy, and only that? Rules on Services, NetworkPolicies and port numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drainproxy.config.options import Config
from drainproxy.tools.manifest.objects import (
    GIVEN_LABELS,
    is_native_sidecar,
    mapping,
    mappings,
    port_by_name,
    selector_labels,
    tcp_ports,
)
from drainproxy.tools.manifest.protocols import Speaks, of_app_protocol, of_name
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule
from drainproxy.tools.manifest.sidecar import PlannedRoute, is_drainproxy
from drainproxy.tools.manifest.wiring import is_headless, policy_overlay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.config.values import RouteProtocol
    from drainproxy.tools.manifest.objects import Resource
    from drainproxy.tools.manifest.rules.view import Manifests, Pods

_DATA = Config().listen.port
_GOOD_SERVICE = f"""
kind: Service
spec:
  ports:
  - {{port: 80, targetPort: {_DATA}}}
"""


def _targets(service: Resource) -> Iterator[tuple[int, int | str]]:
    """The TCP ports of a Service: index and targetPort, which is the port itself where it is left out."""
    for index, port in enumerate(mappings(service.spec.get("ports"))):
        target = port.get("targetPort", port.get("port"))
        if port.get("protocol", "TCP") == "TCP" and isinstance(target, int | str):
            yield index, target


def _declares(pods: Pods, name: str) -> bool:
    return port_by_name(pods.workload, name) is not None


@rule(
    "DP401",
    "service-past-proxy",
    Severity.ERROR,
    "the Service sends its traffic directly to the app, past drainproxy",
    why="drainproxy cannot wait for requests that do not pass through it: it takes the Pod for idle, and the app is "
    "stopped with requests in flight.",
    fix="Set targetPort to drainproxy's port: its number, or a name that only drainproxy's container has.",
    example=_GOOD_SERVICE,
)
def service_past_proxy(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        for service in pods.services:
            for index, target in _targets(service):
                number = port_by_name(pods.workload, target) if isinstance(target, str) else target
                instead = sidecar.proxy_port_for(number) if number is not None else None
                if instead is None or is_headless(service):
                    continue
                path = ("spec", "ports", index, "targetPort")
                yield Hit(service, path, f"{target} is the app's port in {pods.resource}; drainproxy's is {instead}")


@rule(
    "DP402",
    "service-unknown-port",
    Severity.ERROR,
    "the Service names a port that no container has",
    why="A targetPort by name is looked up in each Pod. A Pod without such a port is not an endpoint of the Service. "
    "If no Pod has it, all connections are refused.",
    fix="Give the port that name in the container, or write the number.",
    example=_GOOD_SERVICE,
)
def service_unknown_port(manifests: Manifests) -> Iterator[Hit]:
    for service in manifests.of("Service"):
        behind = manifests.behind(service)
        for index, target in _targets(service):
            if not isinstance(target, str) or target.isdigit():
                continue
            without = [each for each in behind if not _declares(each, target)]
            for pods in without:
                message = f"no container of {pods.resource} has a port named {target!r}"
                milder = Severity.INFO if len(without) < len(behind) else None
                yield Hit(service, ("spec", "ports", index, "targetPort"), message, milder)


@rule(
    "DP403",
    "headless-past-proxy",
    Severity.WARNING,
    "clients of the headless Service connect to the app's port, past drainproxy",
    why="A headless Service gives out Pod addresses; clients add the port themselves. targetPort has no effect, so the "
    "clients themselves must use drainproxy's port.",
    fix="Publish drainproxy's port in the headless Service and let the clients use it.",
    example=f"""
kind: Service
spec:
  clusterIP: None
  ports:
  - {{name: http, port: {_DATA}}}
""",
)
def headless_past_proxy(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        for service in pods.services:
            for index, port in enumerate(mappings(service.spec.get("ports"))):
                number = port.get("port")
                instead = sidecar.proxy_port_for(number) if isinstance(number, int) else None
                if is_headless(service) and instead is not None:
                    path = ("spec", "ports", index, "port")
                    yield Hit(service, path, f"{number} is the app's port; drainproxy's is {instead}")


@rule(
    "DP404",
    "publish-not-ready",
    Severity.WARNING,
    "the Service sends traffic to Pods that are not ready",
    why="With publishNotReadyAddresses a Pod gets requests before the app listens and after it has begun to stop: "
    "readiness has no effect, neither at the start nor in a drain.",
    fix="Remove publishNotReadyAddresses. If peers must find each other early, give them a separate headless Service.",
    example="""
kind: Service
spec:
  publishNotReadyAddresses: false
""",
)
def publish_not_ready(manifests: Manifests) -> Iterator[Hit]:
    for service in manifests.of("Service"):
        if service.spec.get("publishNotReadyAddresses") is True:
            labels = selector_labels(service)
            path = ("spec", "publishNotReadyAddresses")
            milder = Severity.INFO if is_headless(service) or any(key in labels for key in GIVEN_LABELS) else None
            yield Hit(service, path, "Pods that start or stop get requests", milder)


@rule(
    "DP414",
    "route-protocol",
    Severity.ERROR,
    "drainproxy takes a port for another protocol than the Service says",
    why="A route for HTTP refuses everything else: clients of a database always get an error. A route for plain TCP in "
    "front of an HTTP app sees connections, not requests: keep-alive connections delay the drain until its deadline "
    "and are then cut.",
    fix="Set the protocol of the route: --route LISTEN=UPSTREAM,protocol=tcp (or http1, http2, auto).",
    example="""
env:
- {name: DRAINPROXY_ROUTE, value: ":9080=127.0.0.1:6379,protocol=tcp"}
""",
)
def route_protocol(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        routes = {each.listen.port: each for each in sidecar.settings.config.routes}
        if not sidecar.settings.knows("listen", "route"):
            continue
        for service in pods.services:
            for index, target in _targets(service):
                number = port_by_name(pods.workload, target) if isinstance(target, str) else target
                route = routes.get(number or 0)
                said = _said_protocol(mappings(service.spec.get("ports"))[index])
                if route is None or said is None or (said[0] is Speaks.TLS and sidecar.settings.config.tls_cert):
                    continue
                milder = _protocol_fault(route.protocol, said[0])
                if milder is not None:
                    message = f"{said[1]} means {said[0].value}; {pods.resource}'s route is {route.protocol}"
                    yield Hit(service, ("spec", "ports", index), message, milder)


def _said_protocol(port: dict[str, Any]) -> tuple[Speaks, str] | None:
    """What a Service port says that it speaks, and where it says so; None if nothing that is known."""
    by = of_app_protocol(str(port.get("appProtocol") or ""))
    if by is not None:
        return by, f"appProtocol {port['appProtocol']}"
    by = of_name(str(port.get("name") or ""))
    return None if by is None else (by, f"port name {port['name']}")


def _protocol_fault(route: RouteProtocol, said: Speaks) -> Severity | None:
    if said in (Speaks.BYTES, Speaks.TLS):
        return Severity.ERROR if route in ("auto", "http1", "http2") else None
    if route == "tcp":
        return Severity.WARNING
    return Severity.ERROR if said is Speaks.HTTP2 and route == "http1" else None


@rule(
    "DP405",
    "local-traffic-fails-readiness",
    Severity.WARNING,
    "traffic policy Local, and readiness fails at the start of a drain",
    why="With externalTrafficPolicy: Local, a node sends traffic to its own Pods only. When its last ready Pod ends, "
    "kube-proxy falls back to Pods that are terminating and still serving. A Pod that fails readiness at once does not "
    "count as serving, so the node drops traffic until the load balancer notices.",
    fix="Set --readiness-on-drain to hold (or a duration longer than the load balancer's health check takes).",
    example="""
env:
- {name: DRAINPROXY_READINESS_ON_DRAIN, value: hold}
""",
)
def local_traffic_fails_readiness(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        settings = sidecar.settings
        if settings.config.readiness_on_drain_s > 0 or not settings.knows("readiness-on-drain"):
            continue
        for service in pods.services:
            for key in ("externalTrafficPolicy", "internalTrafficPolicy"):
                if service.spec.get(key) == "Local":
                    message = f"{pods.resource}'s drainproxy fails readiness at once (readiness-on-drain: fail)"
                    yield Hit(service, ("spec", key), message)


@rule(
    "DP406",
    "policy-blocks-proxy",
    Severity.ERROR,
    "the NetworkPolicy lets traffic in to the app's port, not to drainproxy's",
    why="A NetworkPolicy sees the port of the Pod, not of the Service. Traffic to drainproxy's port is dropped, and "
    "clients time out.",
    fix="Also allow drainproxy's port.",
    example=f"""
kind: NetworkPolicy
spec:
  ingress:
  - ports:
    - {{port: {_DATA}, protocol: TCP}}
""",
)
def policy_blocks_proxy(manifests: Manifests) -> Iterator[Hit]:
    wired = []
    for pods, sidecar in manifests.proxied():
        names = {port["containerPort"]: str(port.get("name") or "") for _, port in tcp_ports(sidecar.container)}
        routes = tuple(
            PlannedRoute(names.get(each.listen.port, ""), each.listen.port, each.upstream.port, each.protocol)
            for each in sidecar.settings.config.routes
        )
        wired.append((pods.workload, routes))
    for policy in manifests.of("NetworkPolicy"):
        missing = mapping(mapping(policy_overlay(policy, wired)).get("spec"))
        for direction, rules in missing.items():
            for index, added in rules.items.items():
                numbers = ", ".join(str(item["port"]) for item in added["ports"].items)
                path = ("spec", direction, index, "ports")
                yield Hit(policy, path, f"drainproxy's port {numbers} is not allowed")


@rule(
    "DP407",
    "port-conflict",
    Severity.ERROR,
    "a container and drainproxy want the same port",
    why="All containers of a Pod share one network: the second to bind a port fails to start, and the Pod never "
    "becomes ready.",
    fix="Give drainproxy other ports with --listen, --route or --admin.",
    example="""
env:
- {name: DRAINPROXY_LISTEN, value: ":9180"}
- {name: DRAINPROXY_ADMIN, value: ":9181"}
""",
    always=True,
)
def port_conflict(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        ours = {*sidecar.data_ports, sidecar.admin_port}
        if not sidecar.settings.knows("listen", "route", "admin"):
            continue
        for where in ("containers", "initContainers"):
            for index, each in enumerate(mappings(pods.workload.pod.get(where))):
                stays = where == "containers" or is_native_sidecar(each)
                if is_drainproxy(each) or not stays:
                    continue
                for at, port in tcp_ports(each):
                    if port["containerPort"] in ours:
                        path = pods.at("spec", where, index, "ports", at, "containerPort")
                        yield Hit(pods.resource, path, f"drainproxy listens on {port['containerPort']} too")


@rule(
    "DP408",
    "named-port-needs-1-32",
    Severity.INFO,
    "the Service names a port of a native sidecar: Kubernetes 1.32 or later",
    why="Until 1.31 the EndpointSlice controller looked for port names in main containers only (kubernetes#128850, not "
    "backported). There the Service has no endpoints.",
    fix="On older clusters write the number in targetPort, or use a classic sidecar.",
    example=_GOOD_SERVICE,
)
def named_port_needs_1_32(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        main = {port.get("name") for each in pods.workload.containers for _, port in tcp_ports(each)}
        for service in pods.services:
            for index, target in _targets(service):
                if isinstance(target, str) and target not in main and _declares(pods, target):
                    path = ("spec", "ports", index, "targetPort")
                    yield Hit(service, path, f"{target!r} is a port of a native sidecar in {pods.resource}")


@rule(
    "DP409",
    "upstream-unknown",
    Severity.WARNING,
    "drainproxy passes requests to a port that no container declares",
    why="Ports need not be declared. But if others are declared and this one is not, it is probably a typing error. "
    "Then every request is answered 503.",
    fix="Set --upstream to the app's port, or declare the port.",
    example="""
env:
- {name: DRAINPROXY_UPSTREAM, value: "127.0.0.1:8080"}
""",
)
def upstream_unknown(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        declared = {port["containerPort"] for _, app in pods.apps for _, port in tcp_ports(app)}
        if not declared or not sidecar.settings.knows("upstream", "route"):
            continue
        for number in sidecar.upstream_ports:
            if number not in declared:
                option = "route" if sidecar.settings.config.route else "upstream"
                listed = ", ".join(str(port) for port in sorted(declared))
                yield Hit(pods.resource, pods.env_path(option), f"upstream port {number}; declared: {listed}")


@rule(
    "DP410",
    "host-port-past-proxy",
    Severity.WARNING,
    "a hostPort leads directly to the app, past drainproxy",
    why="drainproxy does not see requests that come in through the node's port, so it does not wait for them.",
    fix="Move hostPort to drainproxy's port.",
    example=f"""
containers:
- name: drainproxy
  ports:
  - {{name: http, containerPort: {_DATA}, hostPort: 80}}
""",
)
def host_port_past_proxy(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        for index, app in pods.apps:
            for at, port in tcp_ports(app):
                if port.get("hostPort") and port["containerPort"] in sidecar.upstream_ports:
                    path = pods.at("spec", "containers", index, "ports", at, "hostPort")
                    yield Hit(pods.resource, path, f"hostPort {port['hostPort']} bypasses drainproxy")
