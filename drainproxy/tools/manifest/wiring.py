"""Which numbers do drainproxy's ports get, and what has to change around the Pod for traffic to get there?

`service_overlay` and `policy_overlay` say what a Service or a NetworkPolicy needs. An Ingress or a Gateway route needs
nothing: it names the Service's port, and that stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drainproxy.config.options import Config
from drainproxy.tools.manifest.edit import At, Named
from drainproxy.tools.manifest.objects import (
    Resource,
    Workload,
    label_selector_matches,
    mapping,
    mappings,
    same_namespace,
)
from drainproxy.tools.manifest.sidecar import ADMIN_PORT_NAME, LOOPBACK, POD_ADDRESS, PlannedRoute, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from drainproxy.tools.manifest.choice import AppPort

_NAME_LIMIT = 15
"""Letters in a port's name (IANA service name, RFC 6335 §5.1)."""

# --- numbers and names ------------------------------------------------------------------------------------------------


def taken_ports(workload: Workload) -> set[int]:
    """Every port number that a container of the Pod, other than drainproxy, declares."""
    everyone = [*workload.containers, *workload.init_containers]
    return {
        port["containerPort"]
        for each in everyone
        if not is_drainproxy(each)
        for port in mappings(each.get("ports"))
        if isinstance(port.get("containerPort"), int)
    }


def assign(
    workload: Workload,
    ports: Sequence[AppPort],
    before: Mapping[int, int],
    admin: int | None,
    others: Collection[int] = (),
) -> tuple[tuple[PlannedRoute, ...], int]:
    """A listening port for each app port, and the admin port: the defaults, or the next free numbers.

    `before` maps app ports to the listening ports of an earlier run, which are kept. `others`: what else is taken, on
    the nodes of a Pod with hostNetwork.
    """
    defaults = Config()
    taken = taken_ports(workload) | {port.number for port in ports} | set(others)
    before = {number: listen for number, listen in before.items() if listen not in taken}
    admin = admin if admin is not None and admin not in taken else _free(defaults.admin.port, taken)
    used = taken | {admin, *(before[port.number] for port in ports if port.number in before)}
    names = {
        str(port.get("name"))
        for each in [*workload.containers, *workload.init_containers]
        if not is_drainproxy(each)
        for port in mappings(each.get("ports"))
    }
    routes: list[PlannedRoute] = []
    for port in ports:
        listen = before.get(port.number) or _free(defaults.listen.port, used)
        used.add(listen)
        protocol = port.verdict.protocol
        is_free = port.name and all(route.name != port.name for route in routes)
        name = port.name if is_free else _free_name("tcp" if protocol in ("tcp", "any") else "http", names)
        names.add(name)
        host = LOOPBACK if port.host == LOOPBACK else POD_ADDRESS
        routes.append(PlannedRoute(name, listen, port.number, protocol, host))
    return tuple(routes), admin


def _free(wanted: int, used: set[int]) -> int:
    while wanted in used:
        wanted += 1
    return wanted


def _free_name(wanted: str, used: set[str]) -> str:
    tail = 2
    name = wanted
    while name in used or name == ADMIN_PORT_NAME:
        name, tail = f"{wanted}-{tail}", tail + 1
    return name


def app_name(name: str, used: set[str]) -> str:
    """What the app's own port is called once its name has moved to the sidecar."""
    stem = f"app-{name}"[:_NAME_LIMIT].rstrip("-")
    candidate, tail = stem, 2
    while candidate in used:
        candidate, tail = f"{stem[: _NAME_LIMIT - 2].rstrip('-')}-{tail}", tail + 1
    return candidate


# --- Services ---------------------------------------------------------------------------------------------------------


def is_headless(service: Resource) -> bool:
    """Clients of a headless Service dial Pods themselves: its targetPort moves nobody."""
    return service.spec.get("clusterIP") == "None"


def service_overlay(service: Resource, moved: Mapping[int, int]) -> dict[str, Any] | None:
    """What a Service needs so that its traffic meets drainproxy: numeric targetPorts in `moved` are changed."""
    if is_headless(service) or service.spec.get("type") == "ExternalName":
        return None
    ports = service.spec.get("ports")
    changes: dict[int, Any] = {}
    for index, port in enumerate(ports if isinstance(ports, list) else []):
        if not isinstance(port, dict) or port.get("protocol", "TCP") != "TCP":
            continue
        target = port.get("targetPort", port.get("port"))
        if isinstance(target, int) and target in moved:
            changes[index] = {"targetPort": moved[target]}
    return {"spec": {"ports": At(changes)}} if changes else None


# --- NetworkPolicies --------------------------------------------------------------------------------------------------


def policy_overlay(
    policy: Resource, wired: Sequence[tuple[Workload, tuple[PlannedRoute, ...]]]
) -> dict[str, Any] | None:
    """What a NetworkPolicy needs so that whoever was let through to the app is let through to drainproxy.

    The old port stays allowed beside the new one: probes and scrapes of the app may use it. Named ports get the number
    too, since not every network plugin looks for names in native sidecars.
    """
    spec = policy.spec
    overlay: dict[str, Any] = {}
    mine = [
        (workload, routes)
        for workload, routes in wired
        if same_namespace(policy, workload.resource)
        and label_selector_matches(spec.get("podSelector"), workload.labels)
    ]
    ingress = _rules(spec.get("ingress"), [route for _, routes in mine for route in routes])
    if ingress:
        overlay["ingress"] = At(ingress)
    rules = spec.get("egress")
    egress: dict[int, Any] = {}
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        reached = [
            route for workload, routes in wired if _may_reach(policy, mapping(rule), workload) for route in routes
        ]
        egress |= _rules([None] * index + [rule], reached)
    if egress:
        overlay["egress"] = At(egress)
    return {"spec": overlay} if overlay else None


def _may_reach(policy: Resource, rule: dict[str, Any], workload: Workload) -> bool:
    for peer in mappings(rule.get("to")):
        if "podSelector" not in peer or not label_selector_matches(peer["podSelector"], workload.labels):
            continue
        if "namespaceSelector" in peer or same_namespace(policy, workload.resource):
            return True
    return False


def _rules(rules: Any, routes: Sequence[PlannedRoute]) -> dict[int, Any]:
    changes: dict[int, Any] = {}
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        ports = mappings(mapping(rule).get("ports"))
        wanted = {
            route.listen
            for route in routes
            if any(allows(port, route.upstream, route.name) for port in ports)
            and not any(allows(port, route.listen, "") for port in ports)
        }
        if wanted:
            items = tuple({"port": number, "protocol": "TCP"} for number in sorted(wanted))
            changes[index] = {"ports": Named("port", items)}
    return changes


def allows(port: dict[str, Any], number: int, name: str) -> bool:
    """Whether a port of a NetworkPolicy's rule is this one."""
    if port.get("protocol", "TCP") != "TCP":
        return False
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, str):
        return bool(name) and first == name
    if isinstance(first, int) and isinstance(last, int):
        return first <= number <= last
    return first == number
