"""Which ports of the app go through drainproxy, and what has to change for traffic to get there?

`choose` picks container and ports; `service_overlay` and `policy_overlay` say what a Service or a NetworkPolicy needs.
An Ingress or a Gateway route needs nothing: it names the Service's port, and that stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.config.options import Config
from drainproxy.config.values import PROTOCOLS, RouteProtocol
from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.edit import At, Named
from drainproxy.tools.manifest.objects import (
    Resource,
    Workload,
    label_selector_matches,
    mapping,
    mappings,
    same_namespace,
    tcp_ports,
)
from drainproxy.tools.manifest.sidecar import ADMIN_PORT_NAME, PlannedRoute, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HTTP2_NAME = re.compile(r"(?:grpc|h2c|http2)(?:-.*)?|.*-(?:grpc|h2c|http2)")
_HTTP_NAME = re.compile(r"(?:http|web|grpc-web)(?:-.*)?|.*-http")
_BYTES_NAME = re.compile(
    r"(?:https|tls|ssl|tcp|postgres|postgresql|mysql|redis|mongo|mongodb|amqp|amqps|kafka|mqtt|smtp|imap|ldap|ssh|ftp|nats)(?:-.*)?|.*-(?:tcp|tls|https)"
)
_NAME_LIMIT = 15
"""Letters in a port's name (IANA service name, RFC 6335 §5.1)."""

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class AppPort:
    """One port of one container. `index` is its place in the container's `ports`; None if it is not declared."""

    container: str
    number: int
    name: str
    index: int | None
    protocol: RouteProtocol


def protocol_of(name: str) -> RouteProtocol:
    """What a port's name says of its protocol; `auto` tells HTTP/1 from HTTP/2 and is right for most."""
    if _HTTP_NAME.fullmatch(name):
        return "auto"
    if _HTTP2_NAME.fullmatch(name):
        return "http2"
    return "tcp" if _BYTES_NAME.fullmatch(name) else "auto"


def _is_web(name: str) -> bool:
    return bool(_HTTP_NAME.fullmatch(name) or _HTTP2_NAME.fullmatch(name))


def choose(workload: Workload, containers: Sequence[str], ports: Sequence[str]) -> list[AppPort]:
    """The ports to put drainproxy in front of; empty if the Pod declares none and none was asked for.

    Raises ManifestError with the choices if it is not clear which.
    """
    pool = [each for each in workload.containers if not is_drainproxy(each)]
    names = [str(each.get("name")) for each in pool]
    if len(set(names)) < len(names) or not all(isinstance(each.get("name"), str) for each in pool):
        raise ManifestError(f"{workload}: every container needs a name of its own")
    missing = [name for name in containers if name not in names]
    if missing:
        raise ManifestError(f"{workload}: no container named {missing[0]!r}; there are: {', '.join(names)}")
    if containers:
        pool = [each for each in pool if each.get("name") in containers]
    if ports:
        return [_named_choice(workload, pool, spec) for spec in ports]
    declared = [port for each in pool for port in _app_ports(each)]
    web = [port for port in declared if _is_web(port.name)]
    if web:
        return _of_one_container(workload, web, declared, containers)
    if len(declared) > 1:
        raise ManifestError(
            f"{workload}: which port is the traffic on? None is named http, h2c or grpc; "
            f"choose with --container or --port: {_listed(declared)}"
        )
    if not declared and containers:
        raise ManifestError(f"{workload}: container {containers[0]!r} declares no TCP port; say it with --port NUMBER")
    return declared


def _of_one_container(
    workload: Workload, web: list[AppPort], declared: list[AppPort], containers: Sequence[str]
) -> list[AppPort]:
    if len({port.container for port in web}) > 1 and not containers:
        raise ManifestError(
            f"{workload}: several containers have web ports; choose with --container or --port: {_listed(declared)}"
        )
    return web


def _named_choice(workload: Workload, pool: list[dict[str, Any]], spec: str) -> AppPort:
    """One `--port NUMBER|NAME[,protocol=…]`."""
    wanted, _, setting = spec.partition(",")
    key, _, value = setting.partition("=")
    if setting and (key != "protocol" or value not in PROTOCOLS):
        raise ManifestError(f"--port {spec}: expected NUMBER or NAME, then ,protocol=auto|http1|http2|tcp")
    declared = [port for each in pool for port in _app_ports(each)]
    matching = [port for port in declared if wanted in (port.name, str(port.number))]
    holders = {port.container for port in matching}
    if len(holders) > 1:
        raise ManifestError(f"{workload}: port {wanted} is in several containers; add --container: {_listed(matching)}")
    if matching:
        found = matching[0]
    elif wanted.isdigit() and len(pool) == 1 and 0 < int(wanted) <= _LAST_PORT:
        found = AppPort(str(pool[0].get("name")), int(wanted), "", None, "auto")
    elif wanted.isdigit() and 0 < int(wanted) <= _LAST_PORT:
        names = ", ".join(str(each.get("name")) for each in pool)
        raise ManifestError(f"{workload}: no container declares port {wanted}; add --container, one of: {names}")
    else:
        raise ManifestError(f"{workload}: no port {wanted!r}; there are: {_listed(declared) or 'none'}")
    if not value:
        return found
    protocol = next(each for each in PROTOCOLS if each == value)
    return AppPort(found.container, found.number, found.name, found.index, protocol)


def _app_ports(container: dict[str, Any]) -> list[AppPort]:
    name = str(container.get("name"))
    return [
        AppPort(name, int(port["containerPort"]), called, index, protocol_of(called))
        for index, port in tcp_ports(container)
        for called in [str(port.get("name") or "")]
    ]


def _listed(ports: list[AppPort]) -> str:
    return ", ".join(f"{each.container} {each.number}{f' ({each.name})' if each.name else ''}" for each in ports)


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
    workload: Workload, ports: Sequence[AppPort], before: Mapping[int, int], admin: int | None
) -> tuple[tuple[PlannedRoute, ...], int]:
    """A listening port for each app port, and the admin port: the defaults, or the next free numbers.

    `before` maps app ports to the listening ports of an earlier run, which are kept.
    """
    defaults = Config()
    taken = taken_ports(workload) | {port.number for port in ports}
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
        name = port.name or _free_name("http" if port.protocol != "tcp" else "tcp", names)
        names.add(name)
        routes.append(PlannedRoute(name, listen, port.number, port.protocol))
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
            if any(_allows(port, route.upstream, route.name) for port in ports)
            and not any(_allows(port, route.listen, "") for port in ports)
        }
        if wanted:
            items = tuple({"port": number, "protocol": "TCP"} for number in sorted(wanted))
            changes[index] = {"ports": Named("port", items)}
    return changes


def _allows(port: dict[str, Any], number: int, name: str) -> bool:
    if port.get("protocol", "TCP") != "TCP":
        return False
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, str):
        return bool(name) and first == name
    if isinstance(first, int) and isinstance(last, int):
        return first <= number <= last
    return first == number
