"""Which ports of a workload go through drainproxy, by which protocol, and why?

Ports that traffic is led to: by the Services of the input that select the Pod, all of them; where the input has none,
by the Pod's probes and what its containers declare. Ports that are named after metrics, health or debugging never,
unless somebody names them. What cannot be told is `Undecided`, with the line that would tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from drainproxy.config.values import PROTOCOLS
from drainproxy.tools.manifest.asked import PREFIX, Options, Undecided, protocol_asked
from drainproxy.tools.manifest.backends import Backends, backends_of
from drainproxy.tools.manifest.mesh import is_mesh
from drainproxy.tools.manifest.objects import Resource, Workload, mapping, mappings, service_selects, tcp_ports
from drainproxy.tools.manifest.protocols import (
    Speaks,
    Verdict,
    Word,
    decide,
    is_aside,
    of_app_protocol,
    of_name,
    of_probes,
    of_server,
)
from drainproxy.tools.manifest.sidecar import LOOPBACK, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class AppPort:
    """One port of one container, to be proxied. `index` is its place in the container's `ports`; None: not declared.

    `host` is where the app listens: loopback reaches it, unless it is bound to the Pod's address alone; then it is a
    `$(NAME)` that Kubernetes expands in the environment. `via`: the Service ports that lead to it.
    """

    container: str
    number: int
    name: str
    index: int | None
    verdict: Verdict
    via: tuple[str, ...] = ()
    host: str = LOOPBACK


class NothingToProxy(Exception):  # noqa: N818 - no error: it says why a workload is passed over
    """A workload that no traffic comes to, as far as the input tells."""


@dataclass(frozen=True, slots=True, eq=False)
class _Spot:
    """A port that could be chosen, and who leads to it."""

    container: dict[str, Any]
    number: int
    name: str
    index: int | None
    led: tuple[_Led, ...] = ()

    @property
    def owner(self) -> str:
        return str(self.container.get("name"))

    def __str__(self) -> str:
        return f"{self.owner} {self.number}{f' ({self.name})' if self.name else ''}"


@dataclass(frozen=True, slots=True)
class _Led:
    """A Service's port that leads to a port of the Pod."""

    service: Resource
    port: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.port.get("name") or "")

    @property
    def is_aside(self) -> bool:
        return is_aside(self.name) or (not self.name and "metrics" in self.service.name.split("-"))

    def __str__(self) -> str:
        return f"{self.service.name}:{self.port.get('port')}"


def choose(workload: Workload, others: Sequence[Resource], asked: Options, kept: Sequence[str] = ()) -> list[AppPort]:
    """The ports to put drainproxy in front of. `kept`: those of an earlier run, which stand if no others are asked for.

    Raises Undecided with the choices if it is not clear which, NothingToProxy if there are none.
    """
    pool = _pool(workload, asked.containers)
    services = [each for each in others if each.kind == "Service" and service_selects(each, workload)]
    spots = _spots(workload, pool, services)
    if asked.ports or kept:
        known = "annotation " + PREFIX + "ports" if "ports" in asked.by_annotation else "--port"
        chosen = [_named(workload, pool, spots, each, asked, known) for each in asked.ports or kept]
    elif any(spot.led for spot in spots):
        chosen = _led_to(workload, spots)
    else:
        chosen = _likely(workload, spots, pool, asked)
    backends = backends_of(others)
    spoken = {spec.partition(",")[0]: spec.partition("protocol=")[2] for spec in (asked.ports or kept)}
    by = "--port" if asked.ports else "as in the sidecar that is there"
    return [
        AppPort(
            spot.owner,
            spot.number,
            spot.name,
            spot.index,
            _verdict(spot, asked, backends, spoken.get(spot.name) or spoken.get(str(spot.number)) or "", by),
            tuple(str(each) for each in spot.led),
            _host(workload, spot),
        )
        for spot in dict.fromkeys(chosen)
    ]


def _pool(workload: Workload, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """The containers that may be the app: those asked for, or all but drainproxy and a mesh's proxy."""
    pool = [each for each in workload.containers if not is_drainproxy(each) and not is_mesh(each)]
    names = [str(each.get("name")) for each in pool]
    if len(set(names)) < len(names) or not all(isinstance(each.get("name"), str) for each in pool):
        raise Undecided(f"{workload}: every container needs its own name")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Undecided(f"{workload}: no container named {missing[0]!r}; there are: {', '.join(names)}")
    return [each for each in pool if each.get("name") in wanted] if wanted else pool


def _spots(workload: Workload, pool: Sequence[dict[str, Any]], services: Sequence[Resource]) -> list[_Spot]:
    """Every port that is declared or that a Service leads to, with the Services' ports."""
    led: dict[str, list[_Led]] = {}
    for service in services:
        for port in mappings(service.spec.get("ports")):
            target = port.get("targetPort", port.get("port"))
            if port.get("protocol", "TCP") == "TCP" and isinstance(target, int | str):
                led.setdefault(str(target), []).append(_Led(service, port))
    spots: list[_Spot] = []
    for container in pool:
        for index, port in tcp_ports(container):
            number, name = int(port["containerPort"]), str(port.get("name") or "")
            leading = [*led.get(str(number), []), *(led.get(name, []) if name else [])]
            spots.append(_Spot(container, number, name, index, tuple(leading)))
    declared = {spot.number for spot in spots} | {
        int(port["containerPort"])
        for each in [*workload.containers, *workload.init_containers]
        for _, port in tcp_ports(each)
    }
    for target, leading in led.items():
        if target.isdecimal() and int(target) not in declared:
            owner = _owner(workload, pool, int(target), leading)
            spots.append(_Spot(owner, int(target), "", None, tuple(leading)))
    return spots


def _owner(workload: Workload, pool: Sequence[dict[str, Any]], number: int, led: Sequence[_Led]) -> dict[str, Any]:
    """Whose port an undeclared one is: the only container's, or the one's whose probes or words speak of it."""
    if len(pool) == 1:
        return pool[0]
    mention = re.compile(rf"(?<!\d){number}(?!\d)")
    for found in (
        [each for each in pool if number in _probed(each)],
        [each for each in pool if any(mention.search(line) for line in _lines(each))],
    ):
        if len(found) == 1:
            return found[0]
    names = ", ".join(str(each.get("name")) for each in pool)
    raise Undecided(
        f"{workload}: Service {led[0]} leads to port {number}, and no container declares it. It is one of: {names}",
        f"{PREFIX}container: {pool[0].get('name') if pool else 'NAME'}",
    )


def _led_to(workload: Workload, spots: Sequence[_Spot]) -> list[_Spot]:
    """All ports that Services lead to, but those that are aside of the work."""
    chosen = [
        spot
        for spot in spots
        if any(not led.is_aside and not (not led.name and is_aside(spot.name)) for led in spot.led)
    ]
    if not chosen:
        names = ", ".join(dict.fromkeys(str(led) for spot in spots for led in spot.led))
        raise NothingToProxy(
            f"its Services use only ports for metrics, health or debugging ({names}); --port selects one"
        )
    return chosen


def _likely(workload: Workload, spots: Sequence[_Spot], pool: Sequence[dict[str, Any]], asked: Options) -> list[_Spot]:
    """No Service of the input says it: the only port, or those that probes or names speak of, of one container."""
    work = [spot for spot in spots if not is_aside(spot.name)]
    if spots and not work:
        names = ", ".join(str(spot) for spot in spots)
        raise NothingToProxy(f"its ports are for metrics, health or debugging ({names}); --port selects one")
    if not spots:
        asked_at = [(each, number) for each in pool for number in _probed(each)]
        work = [_Spot(each, number, "", None) for each, number in asked_at if not _serves_aside(each, number)]
        if not work and asked.containers:
            raise Undecided(
                f"{workload}: container {asked.containers[0]!r} declares no TCP port; name one with --port NUMBER",
                f'{PREFIX}ports: "NUMBER"',
            )
        if not work:
            raise NothingToProxy("no container declares a TCP port (--port NUMBER names one)")
    if len(work) > 1:
        work = [spot for spot in work if _is_telling(spot) and _guard_of(workload, spot) is None]
    if not work:
        raise Undecided(
            f"{workload}: which port gets the traffic? No Service in the input, no probe and no port name tells; "
            f"choose with --container or --port: {_listed(spots)}",
            f'{PREFIX}ports: "{spots[0].number}"',
        )
    if len({spot.owner for spot in work}) > 1 and not asked.containers:
        raise Undecided(
            f"{workload}: several containers have ports for traffic, and no Service in the input tells which one is "
            f"meant; choose with --container or --port: {_listed(work)}",
            f"{PREFIX}container: {', '.join(dict.fromkeys(spot.owner for spot in work))}",
        )
    return work


def _is_telling(spot: _Spot) -> bool:
    """Whether something says that traffic comes to this port: its name, its number, its image, a probe."""
    known = of_server(spot.number, str(spot.container.get("image", "")))
    return bool(of_name(spot.name) or known or spot.number in _probed(spot.container))


def _named(
    workload: Workload, pool: Sequence[dict[str, Any]], spots: Sequence[_Spot], spec: str, asked: Options, by: str
) -> _Spot:
    """One `NUMBER|NAME[,protocol=…]`."""
    wanted, _, setting = spec.partition(",")
    key, _, value = setting.partition("=")
    if setting and (key != "protocol" or value not in PROTOCOLS):
        raise Undecided(f"--port {spec}: expected NUMBER or NAME, then ,protocol={'|'.join(PROTOCOLS)}")
    matching = [spot for spot in spots if wanted in (spot.name, str(spot.number))]
    if len({spot.owner for spot in matching}) > 1:
        raise Undecided(
            f"{workload}: port {wanted} is in several containers; add --container: {_listed(matching)}",
            f"{PREFIX}container: {matching[0].owner}",
        )
    if matching:
        return matching[0]
    if not wanted.isdecimal() or not 0 < int(wanted) <= _LAST_PORT:
        raise Undecided(f"{workload}: no port {wanted!r}; there are: {_listed(spots) or 'none'}")
    probing = [each for each in pool if int(wanted) in _probed(each)]
    if len(probing) == 1:
        return _Spot(probing[0], int(wanted), "", None)
    if pool and not asked.ports:
        return _Spot(pool[0], int(wanted), "", None)  # of an earlier run: each of the pool waits for the drain anyway
    names = ", ".join(str(each.get("name")) for each in pool)
    if len(pool) != 1:
        raise Undecided(
            f"{workload}: no container declares port {wanted}; add --container, one of: {names}",
            f"{PREFIX}container: {pool[0].get('name') if pool else 'NAME'}",
        )
    if by == "--port" and not (asked.only or asked.containers):
        raise Undecided(
            f"{workload}: {by} {wanted} is a port that it does not declare (there are: {_listed(spots) or 'none'}); if "
            f"it is meant, name the workload (--only {workload}) or the container (--container {names})",
            f'{PREFIX}ports: "{wanted}"',
        )
    return _Spot(pool[0], int(wanted), "", None)


def _listed(spots: Iterable[_Spot]) -> str:
    return ", ".join(str(each) for each in spots)


def _verdict(spot: _Spot, asked: Options, backends: Backends, spoken: str, by: str) -> Verdict:
    """What the port speaks: by the best source that says something."""
    protocol = protocol_asked(asked, spot.number, spot.name)
    if protocol is not None:
        known = f"annotation {PREFIX}protocol" if "protocols" in asked.by_annotation else "--protocol"
        return Verdict(protocol, known)
    said = next((each for each in PROTOCOLS if each == spoken), None)
    if said is not None:
        return Verdict(said, by, guess=said == "any" and by != "--port")
    names = [spot.name] if spot.name else []
    probe = of_probes(spot.container, spot.number, names)
    server = of_server(spot.number, str(spot.container.get("image", "")))
    sources: list[list[Word]] = [
        _words_of(spot.led, "appProtocol"),
        _words_of(spot.led, "name"),
        [Word(speaks, f"port name {spot.name}") for speaks in [of_name(spot.name)] if speaks],
        [probe] if probe is not None else [],
        [word for led in spot.led for word in backends.of(led.service, led.port)],
        [server] if server is not None else [],
    ]
    witnesses = [word for word in (probe, server) if word is not None]
    return decide(sources, witnesses, ends_tls="tls-cert" in asked.settings)


def _words_of(led: Iterable[_Led], field: str) -> list[Word]:
    read = of_app_protocol if field == "appProtocol" else of_name
    what = "appProtocol" if field == "appProtocol" else "port name"
    found = []
    for each in led:
        text = str(each.port.get(field) or "")
        speaks: Speaks | None = read(text) if text else None
        if speaks is not None and not (field == "name" and each.is_aside):
            found.append(Word(speaks, f"Service {what} {text}"))
    return found


def _probed(container: dict[str, Any]) -> list[int]:
    """The numbers of the ports that its probes ask at."""
    numbers: list[int] = []
    named = {str(port["name"]): int(port["containerPort"]) for _, port in tcp_ports(container) if port.get("name")}
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        for how in ("httpGet", "tcpSocket", "grpc"):
            port = str(mapping(mapping(container.get(kind)).get(how)).get("port"))
            number = named.get(port, int(port) if port.isdecimal() else 0)
            if 0 < number <= _LAST_PORT and number not in numbers:
                numbers.append(number)
    return numbers


def _lines(container: dict[str, Any]) -> list[str]:
    """What the container is started with: words, a flag with its value on one line, variables as `NAME=value`."""
    lists = [container.get("command"), container.get("args")]
    words = [str(word) for each in lists if isinstance(each, list) for word in each]
    pairs = [f"{one} {other}" for one, other in pairwise(words) if one.startswith("-") and "=" not in one]
    variables = [f"{entry.get('name')}={entry.get('value', '')}" for entry in mappings(container.get("env"))]
    return [*words, *pairs, *variables]


_ASIDE_WORDS = r"(?:health|metric|probe|pprof|debug|admin|telemetry|monitor)"


def _serves_aside(container: dict[str, Any], number: int) -> bool:
    """Whether an argument says that this port is for health or metrics: `--health-probe-bind-address=:8081`."""
    says = re.compile(rf"--?[\w.-]*{_ASIDE_WORDS}[\w.-]*[= ]\S*?(?<!\d){number}(?!\d)")
    return any(says.search(line) for line in _lines(container))


_LOOPBACK = r"(?:127\.0\.0\.1|localhost|\[::1\])"
_GUARD = re.compile(r"proxy|auth|gate|guard|envoy|nginx|haproxy|pomerium")
_FORWARDS = re.compile(r"upstream|backend|forward", re.IGNORECASE)
_BINDS = re.compile(r"(?:^|[-_.])(?:host|bind|listen|addr|address|ip)", re.IGNORECASE)
_SURELY_BINDS = re.compile(r"(?:[\w.-]*[-_.])?(?:listen|bind)[\w.-]*|host|addr|address|ip", re.IGNORECASE)
"""`DB_HOST=localhost` is where others listen; with the app's own port behind it, it would be its own."""
_TELLS_OTHERS = re.compile(r"advertise|announce|publish|external|upstream|peer|join", re.IGNORECASE)
_OWN_PORT = re.compile(rf"(?:(?:listen|bind|addr)[\w.-]*[= ](?:\w+://)?{_LOOPBACK}:|port[= ])(\d+)", re.IGNORECASE)
"""A port that the app is told to listen on: `--listen=127.0.0.1:8081`, `--port=8081`."""

_FLAG = r"^-{0,2}(?P<flag>[\w.-]+)[= ]"


def _host(workload: Workload, spot: _Spot) -> str:
    """Where drainproxy reaches the app. Raises Undecided for an app that hides behind a proxy on loopback.

    Such an app (kube-rbac-proxy's pattern) listens on 127.0.0.1, and a neighbour that asks who comes points there. A
    proxy of ours in front of the app would let everyone past the neighbour.
    """
    guard = _guard_of(workload, spot)
    if guard is not None:
        raise Undecided(
            f"{workload}: {spot} is behind {guard}, which reaches it on 127.0.0.1: with drainproxy in front of it, "
            f"clients would bypass {guard}. Use the port of {guard}",
            f"{PREFIX}container: {guard}",
        )
    bind = re.compile(_FLAG + r"(?:\w+://)?\[?\$\((?P<variable>\w+)\)\]?(?::(?P<port>\d+))?/?$")
    for line in _lines(spot.container):
        found = bind.search(line)
        if found is not None and _listens(found["flag"], found["port"], spot.number):
            return _address_of(workload, spot, found["variable"])
    return LOOPBACK


def _guard_of(workload: Workload, spot: _Spot) -> str | None:
    """The neighbour that stands between clients and this port, if the app listens on loopback for it."""
    here = _on_loopback(spot.number)
    bound = any(_is_bound(line, _LOOPBACK, spot.number) for line in _lines(spot.container))
    for each in workload.containers:
        points = each.get("name") != spot.owner and any(here.search(line) for line in _lines(each))
        if points and not is_drainproxy(each) and (bound or (not spot.led and _is_guard(each, here))):
            return str(each.get("name"))
    return None


def behind(workload: Workload, container: dict[str, Any]) -> list[str]:
    """The containers that this one points to on loopback: they must outlive it, as long as it relays to them."""
    found = []
    for each in workload.containers:
        numbers = {int(port["containerPort"]) for _, port in tcp_ports(each)}
        numbers |= {int(number) for line in _lines(each) for number in _OWN_PORT.findall(line)}
        pointed = any(_on_loopback(number).search(line) for number in numbers for line in _lines(container))
        if each is not container and pointed and not is_drainproxy(each):
            found.append(str(each.get("name")))
    return found


def _on_loopback(number: int) -> re.Pattern[str]:
    return re.compile(rf"{_LOOPBACK}:{number}(?!\d)")


def _is_bound(line: str, host: str, number: int) -> bool:
    """Whether this flag or variable makes the app listen on `host` (a pattern), with this port or with none."""
    found = re.search(rf"{_FLAG}(?:\w+://)?{host}(?::(?P<port>\d+))?/?$", line)
    return found is not None and _listens(found["flag"], found["port"], number)


def _listens(flag: str, port: str | None, number: int) -> bool:
    if _TELLS_OTHERS.search(flag) or port not in (None, str(number)):
        return False
    return bool(_SURELY_BINDS.fullmatch(flag) if port is None else _BINDS.search(flag))


def _is_guard(container: dict[str, Any], here: re.Pattern[str]) -> bool:
    """A proxy by its name, image or flag that points there; an exporter that reads the app's statistics is none."""
    called = f"{container.get('name')} {str(container.get('image', '')).rsplit('/', 1)[-1]}".lower()
    pointing = [line for line in _lines(container) if here.search(line)]
    return bool(_GUARD.search(called)) or any(_FORWARDS.search(line) for line in pointing)


def _address_of(workload: Workload, spot: _Spot, variable: str) -> str:
    """What to dial for an app that is bound to `$(variable)`: loopback, or the field that holds the Pod's address."""
    for entry in mappings(spot.container.get("env")):
        if entry.get("name") == variable:
            path = mapping(mapping(entry.get("valueFrom")).get("fieldRef")).get("fieldPath")
            if path in ("status.podIP", "status.hostIP"):
                return str(path)
            if entry.get("value") in ("0.0.0.0", "::", "127.0.0.1", "localhost"):  # noqa: S104 - compared, not bound
                return LOOPBACK
    raise Undecided(
        f"{workload}: {spot} is bound to $({variable}), and its environment does not tell which address that "
        "is; drainproxy connects to loopback or to the Pod's address",
        f"{PREFIX}inject: disabled",
    )
