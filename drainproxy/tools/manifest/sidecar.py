"""What does drainproxy's container look like in a Pod, and what is it set to?

`find` recognises it, ours or hand-written; `read_settings` reads its options out of arguments and environment with the
same code the proxy starts with; `container` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.config.loading import load
from drainproxy.config.options import ENV_PREFIX, MARGIN_S, Config, env_of, flag_of, options
from drainproxy.config.values import Address, Route, RouteProtocol, parse_successor, show_duration
from drainproxy.errors import BudgetError, ConfigError
from drainproxy.tools.manifest.edit import Default, Named, Own
from drainproxy.tools.manifest.objects import Path, Resource, Workload, is_native_sidecar, mapping, mappings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "drainproxy"
ADMIN_PORT_NAME = "drain-admin"
LOOPBACK = "127.0.0.1"
POD_ADDRESS_ENV = "POD_ADDRESS"
POD_ADDRESS = f"[$({POD_ADDRESS_ENV})]"
"""The Pod's own address, for an app that listens on that alone. Read as loopback: it is the same Pod."""
SECRET = "(from a Secret)"  # noqa: S105 - stands for a value that is not in the input
_BUDGET_FLAGS = ("grace-period", "app-stop-time", "drain-timeout", "propagation-delay", "quiet-period")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a drainproxy container is set to. `unknown`: options whose value is not in the input (`*`: any of them).

    `error` is what start-up would say; `config` is then the nearest one that can be used.
    """

    config: Config
    error: str = ""
    is_budget_error: bool = False
    unknown: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    token: str | None = None
    token_secret: tuple[str, str] | None = None

    def knows(self, *names: str) -> bool:
        """Whether all of these options can be told from the input."""
        return "*" not in self.unknown and not self.unknown.intersection(names)


@dataclass(frozen=True, slots=True, eq=False)
class Sidecar:
    """The drainproxy container of a Pod. `path` leads to it from the Pod template."""

    container: dict[str, Any]
    path: Path
    settings: Settings

    @property
    def in_init(self) -> bool:
        return self.path[1] == "initContainers"

    @property
    def native(self) -> bool:
        return self.in_init and is_native_sidecar(self.container)

    @property
    def admin_port(self) -> int:
        return self.settings.config.admin.port

    @property
    def data_ports(self) -> tuple[int, ...]:
        return tuple(route.listen.port for route in self.settings.config.routes)

    @property
    def upstream_ports(self) -> tuple[int, ...]:
        return tuple(route.upstream.port for route in self.settings.config.routes if route.upstream.port)

    def proxy_port_for(self, app_port: int) -> int | None:
        """Where clients have to go instead of `app_port`."""
        for route in self.settings.config.routes:
            if route.upstream.port == app_port and route.listen.port != app_port:
                return route.listen.port
        return None


def is_drainproxy(container: Mapping[str, Any]) -> bool:
    """By name, image or command; `drainproxy run` wraps an app and is no sidecar."""
    words = [str(word) for key in ("command", "args") for word in (container.get(key) or [])]
    programs = [word.rsplit("/", 1)[-1] for word in words[:1]]
    if "run" in words and (NAME in programs or _image_name(container) == NAME):
        return False
    return container.get("name") == NAME or _image_name(container) == NAME or NAME in programs


def _image_name(container: Mapping[str, Any]) -> str:
    return str(container.get("image", "")).rsplit("/", 1)[-1].split("@")[0].split(":")[0]


def find(workload: Workload, others: Sequence[Resource] = ()) -> Sidecar | None:
    """The Pod's drainproxy container, if it has one; `others` may hold the ConfigMaps and Secrets it reads."""
    for where in ("initContainers", "containers"):
        items = workload.pod.get(where)
        for index, each in enumerate(items if isinstance(items, list) else []):
            if isinstance(each, dict) and is_drainproxy(each):
                return Sidecar(each, ("spec", where, index), read_settings(each, others))
    return None


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Read:
    flags: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    token_secret: tuple[str, str] | None = None


def read_settings(container: Mapping[str, Any], others: Sequence[Resource] = ()) -> Settings:
    """The container's options, as `drainproxy serve` would read them."""
    read = _Read()
    _read_words(container, read)
    _read_env(container, others, read)
    token = read.flags.get("drain-token") or read.environ.get("DRAINPROXY_DRAIN_TOKEN")
    given = set(read.flags) | {flag_of(each) for each, _ in options() if read.environ.get(env_of(each))}
    facts: dict[str, Any] = {
        "unknown": frozenset(read.unknown),
        "given": frozenset(given),
        "token": None if token in (None, SECRET) else str(token),
        "token_secret": read.token_secret,
    }
    try:
        return Settings(load(read.flags, read.environ, {}), **facts)
    except BudgetError as error:
        return Settings(_nearest(read), error=str(error), is_budget_error=True, **facts)
    except ConfigError as error:
        return Settings(_nearest(read), error=str(error), **facts)


def _nearest(read: _Read) -> Config:
    """The configuration without the options that do not fit, so that the other rules still have something to judge."""
    names = {env_of(each): flag_of(each) for each, _ in options()}
    for dropped in (_BUDGET_FLAGS, tuple(names.values())):
        flags = {key: value for key, value in read.flags.items() if key not in dropped}
        environ = {key: value for key, value in read.environ.items() if names.get(key) not in dropped}
        try:
            return load(flags, environ, {})
        except (BudgetError, ConfigError):
            continue
    return Config()


def _read_words(container: Mapping[str, Any], read: _Read) -> None:
    words = [str(word) for key in ("command", "args") for word in (container.get(key) or [])]
    repeatable = {flag_of(each) for each, opt in options() if opt.repeatable}
    known = {flag_of(each) for each, _ in options()}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("--"):
            continue
        flag, equals, value = word[2:].partition("=")
        if not equals and at < len(words):
            value, at = words[at], at + 1
        if flag == "config":
            read.unknown.add("*")
        elif flag not in known:
            continue
        elif "$(" in value:
            read.unknown.add(flag)
        elif flag in repeatable:
            read.flags.setdefault(flag, []).append(value)
        else:
            read.flags[flag] = value


def _read_env(container: Mapping[str, Any], others: Sequence[Resource], read: _Read) -> None:
    flags = {env_of(each): flag_of(each) for each, _ in options()}
    for source in mappings(container.get("envFrom")):
        prefix = str(source.get("prefix") or "")
        reference = mapping(source.get("configMapRef")).get("name")
        data = _data_of_map(others, "ConfigMap", reference) if reference else None
        if data is None:
            read.unknown.add("*")
            continue
        read.environ.update({prefix + str(key): str(value) for key, value in data.items()})
    for entry in mappings(container.get("env")):
        name = str(entry.get("name"))
        if not name.startswith(ENV_PREFIX):
            continue
        value = str(entry["value"]).replace(POD_ADDRESS, LOOPBACK) if entry.get("value") is not None else None
        value_from = mapping(entry.get("valueFrom"))
        if value_from:
            value = _value_from(value_from, name, others, read)
        if value is None or "$(" in str(value):
            read.unknown.add(flags.get(name, name))
        else:
            read.environ[name] = str(value)


def _value_from(value_from: dict[str, Any], name: str, others: Sequence[Resource], read: _Read) -> str | None:
    config_map, secret = mapping(value_from.get("configMapKeyRef")), mapping(value_from.get("secretKeyRef"))
    if config_map:
        data = _data_of_map(others, "ConfigMap", config_map.get("name")) or {}
        found = data.get(str(config_map.get("key")))
        return None if found is None else str(found)
    if secret and name == "DRAINPROXY_DRAIN_TOKEN":
        read.token_secret = (str(secret.get("name")), str(secret.get("key")))
        return SECRET
    return None


def _data_of_map(others: Sequence[Resource], kind: str, name: object) -> dict[str, Any] | None:
    for each in others:
        if each.kind == kind and each.name == name:
            return mapping(each.data.get("data"))
    return None


# --- arithmetic -------------------------------------------------------------------------------------------------------


def least_grace_s(config: Config) -> float:
    """The shortest grace period that `config.load` accepts: the drain's own least, the margin, the app's own stop."""
    drain_s = max(config.propagation_delay_s + config.quiet_period_s, config.drain_timeout_s or 0.0)
    return drain_s + MARGIN_S + config.app_stop_time_s


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """One port of the app and the one drainproxy takes in front of it."""

    name: str
    listen: int
    upstream: int
    protocol: RouteProtocol
    host: str = LOOPBACK
    """Where the app listens: loopback reaches it, or `POD_ADDRESS`, which Kubernetes expands."""
    successor: str = ""
    """What `--successor` is to be; empty: none."""


def route_env(routes: tuple[PlannedRoute, ...], admin: int) -> dict[str, str]:
    """The environment that says these routes, in the shortest way."""
    defaults = Config()
    env: dict[str, str] = {}
    only = routes[0] if len(routes) == 1 and routes[0].protocol == "auto" else None
    if only is not None:
        if only.listen != defaults.listen.port:
            env["DRAINPROXY_LISTEN"] = str(Address(port=only.listen))
        env["DRAINPROXY_UPSTREAM"] = str(Address(only.host, only.upstream))
        if only.successor:
            env["DRAINPROXY_SUCCESSOR"] = only.successor
    else:
        written = [
            Route(
                Address(port=each.listen),
                Address(each.host, each.upstream),
                each.protocol,
                parse_successor(each.successor) if each.successor else None,
            )
            for each in routes
        ]
        env["DRAINPROXY_ROUTE"] = " ".join(str(each) for each in written)
    if admin != defaults.admin.port:
        env["DRAINPROXY_ADMIN"] = str(Address(port=admin))
    return env


WIRING_ENV = ("LISTEN", "UPSTREAM", "ROUTE", "ADMIN", "GRACE_PERIOD", "SUCCESSOR", "DRAIN_TOKEN")
"""What `inject` decides anew at each run; every other variable stays as somebody set it."""


def container(
    *,
    image: str,
    native: bool,
    routes: tuple[PlannedRoute, ...],
    admin: int,
    env: list[dict[str, Any]],
    pod_runs_as_root: bool,
) -> dict[str, Any]:
    """The sidecar as an overlay: what has to be so is fixed, what somebody may tune is a default."""

    def probe(path: str, **numbers: int) -> dict[str, Any]:
        tuned = {key: Default(value) for key, value in numbers.items()}
        return {"httpGet": Own({"path": path, "port": admin}), **tuned}

    ports = [{"name": each.name, "containerPort": each.listen} for each in routes]
    ports.append({"name": ADMIN_PORT_NAME, "containerPort": admin})
    overlay: dict[str, Any] = {"name": NAME, "image": image}
    if native:
        overlay["restartPolicy"] = "Always"
    overlay["ports"] = Named("containerPort", tuple(ports))
    overlay["env"] = Named("name", tuple(env))
    if native:
        # The kubelet starts the app when this probe has passed: one that waits for the app would wait for ever.
        overlay["startupProbe"] = probe("/livez", periodSeconds=1, failureThreshold=30)
    overlay["readinessProbe"] = probe("/readyz", periodSeconds=2, timeoutSeconds=2)
    overlay["livenessProbe"] = probe("/livez", periodSeconds=10, timeoutSeconds=5)
    security: dict[str, Any] = {"runAsNonRoot": True}
    if pod_runs_as_root:
        security["runAsUser"] = 65532
    security |= {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    overlay["securityContext"] = Default(security)
    # A limit on memory only: a CPU limit would throttle the proxy, and with it the app, in the middle of a drain.
    overlay["resources"] = Default({"requests": {"cpu": "25m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}})
    return overlay


def grace_env(grace_s: float) -> dict[str, str]:
    """The Pod's grace period, told to the proxy."""
    return {"name": "DRAINPROXY_GRACE_PERIOD", "value": show_duration(grace_s)}
