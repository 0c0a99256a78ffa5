"""What does one Pod template need? Sidecar, hook, probes, grace period and token, as one overlay.

`plan` reads two versions of the same workload: `base`, as it was before any inject, says what the app is like;
`current` says what somebody tuned since, which is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from drainproxy import __version__
from drainproxy.config.loading import load
from drainproxy.config.options import Config, flag_of
from drainproxy.config.options import options as option_table
from drainproxy.config.values import show_duration
from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.edit import At, Named, Own, applied, plain
from drainproxy.tools.manifest.hooks import Does, Hook, exec_hook, http_hook, pre_stop, read_hook
from drainproxy.tools.manifest.memory import noted_version, read_memory
from drainproxy.tools.manifest.objects import (
    DEFAULT_GRACE_S,
    Resource,
    Workload,
    mapping,
    mappings,
    tcp_ports,
    workloads,
)
from drainproxy.tools.manifest.sidecar import (
    NAME,
    WIRING_ENV,
    PlannedRoute,
    Sidecar,
    container,
    find,
    grace_env,
    least_grace_s,
    route_env,
)
from drainproxy.tools.manifest.wiring import AppPort, app_name, assign, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

IMAGE = "drainproxy"
_SCRAPE = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")
_ANY_GRACE = "24h"
"""Long enough for any drain: to read settings before the grace period is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for. None means: as the sidecar that is there has it, else the default."""

    kind: Literal["native", "classic"] | None = None
    containers: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    """Containers without traffic that the app needs until the drain is over."""
    ports: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    image: str | None = None
    grace_period_s: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    """`""`: no token."""
    token_secret: tuple[str, str] | None = None
    new_token: str = ""
    """Used where none is given and none is there."""
    hook: Literal["http", "curl", "wget"] | None = None
    replace_hook: bool = False
    scrape: bool = True


def refuse_settings(settings: Mapping[str, str]) -> None:
    """Settings that are no option of serve, or that inject writes itself."""
    known = {flag_of(each) for each, _ in option_table()}
    wiring = {name.lower().replace("_", "-") for name in WIRING_ENV}
    for name in settings:
        if name not in known:
            raise ManifestError(f"--set {name}: not an option of drainproxy serve; see `drainproxy serve --help`")
        if name in wiring or name == "drain-token-file":
            raise ManifestError(f"--set {name}: inject writes this one itself; see `drainproxy inject --help`")


def plan(
    base: Workload, current: Workload, everything: tuple[Resource, ...], options: Options, notes: list[str]
) -> tuple[dict[str, Any], tuple[PlannedRoute, ...]] | None:
    """The overlay on a workload's Pod template, or None if there is nothing to proxy to."""
    by_hand = find(base, everything)
    if by_hand is not None:
        notes.append(
            f"{base}: has a drainproxy of its own, not written by inject: left as it is (look at it with check)"
        )
        return None
    there = find(current, everything) if read_memory(current.resource) is not None else None
    native = _is_native(base, there, options)
    ports = choose(base, *_choices(current, there, options))
    if not ports:
        notes.append(
            f"{base}: no container declares a TCP port, so there is nothing to proxy to (--port NUMBER says it)"
        )
        return None
    before = {r.upstream.port: r.listen.port for r in there.settings.config.routes} if there is not None else {}
    routes, admin = assign(base, ports, before, there.admin_port if there is not None else None)
    apps = list(dict.fromkeys(port.container for port in ports))
    held = _held(base, current, apps, there, options, notes)
    hooks = {name: read_hook(_container(base, name)) for name in [*apps, *held]}
    settings = _settings(base, hooks, there, options, notes)
    grace_s = _grace(base, current, settings, options, notes)
    token_entry, token = _token(there, options, everything)
    load({**settings, "grace-period": f"{grace_s}"}, {}, {})  # BudgetError: nothing is written that cannot start
    item = container(
        image=_image(there, current, options, notes),
        native=native,
        routes=routes,
        admin=admin,
        env=[*_environment(routes, admin, grace_s, settings, there, options), *token_entry],
        pod_runs_as_root=mapping(base.pod.get("securityContext")).get("runAsUser") == 0,
    )
    if there is not None and _is_rewired(there, native, routes, admin, token_entry):
        item = _carried(there, item)
    hook_kind = options.hook or _hook_kind(current, apps)
    if hook_kind == "http" and token == "" and token_entry:
        raise ManifestError(_secret_hook_advice(base, token_entry))
    containers = []
    for name, hook in hooks.items():
        decided = options.replace_hook or (there is not None and _drains(current, name))
        pre_stop = _new_hook(base, _container(base, name), hook, admin, token, hook_kind, replace=decided)
        if options.replace_hook and hook.does in (Does.EXEC, Does.HTTP, Does.TCP) and hook_kind == "http":
            notes.append(f"{base}: container {name!r}: /drain takes the place of a preStop that {hook.does.value}")
        containers.append(_app_overlay(base, name, [port for port in ports if port.container == name], pre_stop))
    _note_wiring(base, routes, notes)
    overlay = _template_overlay(containers, item, native, grace_s)
    wants_scrape = options.scrape and (there is None or any(key in current.annotations for key in _SCRAPE))
    overlay["metadata"] = {"annotations": _scrape(base, admin, notes) if wants_scrape else {}}
    return overlay, routes


def _template_overlay(
    containers: list[dict[str, Any]], item: dict[str, Any], native: bool, grace_s: float
) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": Named("name", tuple(containers if native else [*containers, item]))}
    if native:
        spec["initContainers"] = Named("name", (item,))
    spec["terminationGracePeriodSeconds"] = int(grace_s)
    return {"spec": spec}


def _environment(
    routes: tuple[PlannedRoute, ...],
    admin: int,
    grace_s: float,
    settings: Mapping[str, str],
    there: Sidecar | None,
    options: Options,
) -> list[dict[str, Any]]:
    """Wiring anew each time; settings when asked for, or at first: afterwards they are the user's to tune."""
    wiring = [{"name": name, "value": value} for name, value in route_env(routes, admin).items()]
    tuned = [
        {"name": _env_name(key), "value": value}
        for key, value in settings.items()
        if key in options.settings or there is None
    ]
    return [*wiring, grace_env(grace_s), *tuned]


def _held(
    base: Workload,
    current: Workload,
    apps: Sequence[str],
    there: Sidecar | None,
    options: Options,
    notes: list[str],
) -> list[str]:
    """Containers without traffic of their own that wait for the drain too: asked for, or waiting already."""
    names = [str(each.get("name")) for each in base.containers]
    missing = [name for name in options.hold if name not in names]
    if missing:
        raise ManifestError(f"{base}: no container named {missing[0]!r} to hold; there are: {', '.join(names)}")
    waiting = [name for name in names if there is not None and _drains(current, name)]
    held = [name for name in names if name not in apps and (name in options.hold or name in waiting)]
    others = [
        str(each.get("name"))
        for each in base.containers
        if each.get("name") not in [*apps, *held] and read_hook(each).does is Does.NOTHING
    ]
    if others:
        notes.append(
            f"{base}: {', '.join(others)} gets SIGTERM at once, while the drain goes on: if the app needs it, --hold it"
        )
    return held


def _drains(workload: Workload, name: str) -> bool:
    return read_hook(_container(workload, name)).does is Does.DRAIN


def _container(workload: Workload, name: str) -> dict[str, Any]:
    return next(each for each in workload.containers if each.get("name") == name)


def _is_native(base: Workload, there: Sidecar | None, options: Options) -> bool:
    native = options.kind == "native" if options.kind else there is None or there.in_init
    if base.runs_to_completion and not native:
        raise ManifestError(f"{base}: a Job's Pod never completes beside a classic sidecar; use --sidecar native")
    return native


def _choices(current: Workload, there: Sidecar | None, options: Options) -> tuple[Sequence[str], Sequence[str]]:
    """Containers and ports as asked for; else those of the sidecar that is there."""
    if options.containers or options.ports or there is None:
        return options.containers, options.ports
    waiting = [str(each.get("name")) for each in current.containers if read_hook(each).does is Does.DRAIN]
    routes = there.settings.config.routes
    return waiting, [f"{route.upstream.port},protocol={route.protocol}" for route in routes]


def _env_name(option: str) -> str:
    return "DRAINPROXY_" + option.upper().replace("-", "_")


def _settings(
    base: Workload, hooks: Mapping[str, Hook], there: Sidecar | None, options: Options, notes: list[str]
) -> dict[str, str]:
    """The sidecar's options other than its wiring: asked for, or there already, or taken from a sleep hook."""
    settings: dict[str, str] = {}
    slept = max((hook.seconds for hook in hooks.values() if hook.does is Does.SLEEP), default=0.0)
    if slept > Config().propagation_delay_s:
        settings["propagation-delay"] = show_duration(slept)
    if slept and there is None:
        floor = options.settings.get("propagation-delay") or settings.get("propagation-delay")
        notes.append(
            f"{base}: preStop slept {slept:g}s; drainproxy's /drain takes its place and serves for at least "
            f"{floor or show_duration(Config().propagation_delay_s)} (propagation-delay), then until traffic has "
            "stopped. --remove brings the sleep back"
        )
    if there is not None:
        read = {each["name"]: each.get("value") for each in mappings(there.container.get("env"))}
        for name, value in read.items():
            short = str(name).removeprefix("DRAINPROXY_")
            if value is not None and str(name).startswith("DRAINPROXY_") and short not in WIRING_ENV:
                settings[short.lower().replace("_", "-")] = str(value)
    return settings | dict(options.settings)


def _grace(base: Workload, current: Workload, settings: Mapping[str, str], options: Options, notes: list[str]) -> float:
    """The Pod's grace period: as asked for, else as written if the drain fits into it, else one in which it fits."""
    if options.grace_period_s is not None:
        return math.ceil(options.grace_period_s)
    config = load({**settings, "grace-period": _ANY_GRACE}, {}, {})
    least = least_grace_s(config)
    written = current.grace_s if current.grace_s is not None else base.grace_s
    grace = written if written is not None else DEFAULT_GRACE_S
    if grace >= least:
        return grace
    raised = max(DEFAULT_GRACE_S, math.ceil(least + config.quiet_limit_s))
    notes.append(
        f"{base}: terminationGracePeriodSeconds {'raised from' if written is not None else 'is the default'} {grace}"
        f"{' to' if written is not None else ', now'} {raised}: floor {show_duration(config.propagation_delay_s)}, "
        f"quiet {show_duration(config.quiet_period_s)}, app stop {show_duration(config.app_stop_time_s)} and a margin "
        f"need {show_duration(least)}, and work in flight needs room"
    )
    return raised


def _token(
    there: Sidecar | None, options: Options, everything: tuple[Resource, ...]
) -> tuple[list[dict[str, Any]], str]:
    """The environment entry that gives the sidecar its token, and the token if the hook may hold it."""
    entry = "DRAINPROXY_DRAIN_TOKEN"
    secret = options.token_secret
    if secret is None and there is not None and options.token is None:
        secret = there.settings.token_secret
    if secret is not None:
        reference = {"secretKeyRef": {"name": secret[0], "key": secret[1]}}
        token = options.token or ""
        if not token and there is not None:
            token = next((t for each in _drain_hooks(there, everything) if (t := each.token)), "")
        return [{"name": entry, "valueFrom": reference}], token
    token = options.token if options.token is not None else (there.settings.token if there is not None else None) or ""
    if options.token is None and there is None:
        token = options.new_token
    return ([{"name": entry, "value": token}] if token else []), token


def _drain_hooks(there: Sidecar, everything: tuple[Resource, ...]) -> list[Hook]:
    found = []
    for workload in workloads(everything):
        if any(each is there.container for each in [*workload.containers, *workload.init_containers]):
            found += [hook for each in workload.containers if (hook := read_hook(each)).does is Does.DRAIN]
    return found


def _secret_hook_advice(base: Workload, entry: list[dict[str, Any]]) -> str:
    reference = entry[0]["valueFrom"]["secretKeyRef"]
    return (
        f"{base}: a hook's HTTP header cannot read Secret {reference['name']}, and without the token the kubelet's "
        "call would be refused and the app stopped at once. Either --hook curl (or wget), if the app image has it: the "
        "call then comes over loopback and needs no token; or give the same value with --drain-token: it is then "
        "readable in the Pod spec; or leave --drain-token-secret out"
    )


def _image(there: Sidecar | None, current: Workload, options: Options, notes: list[str]) -> str:
    """As asked for; else the image that is there with its tag moved on; else our own name and version."""
    if options.image is not None:
        return options.image
    if there is None:
        return f"{IMAGE}:{__version__}"
    image, before = str(there.container.get("image", "")), noted_version(current.resource)
    if image.endswith(f":{before}"):
        return image.removesuffix(f":{before}") + f":{__version__}"
    if before != __version__:
        notes.append(f"{current}: image {image} is not version {before}'s: left as it is (--image changes it)")
    return image


def _is_rewired(
    there: Sidecar, native: bool, routes: tuple[PlannedRoute, ...], admin: int, token_entry: list[dict[str, Any]]
) -> bool:
    """Whether entries of the sidecar that is there have to go, not only to change."""
    env = {each.get("name"): each for each in mappings(there.container.get("env"))}
    wiring = set(route_env(routes, admin)) | {"DRAINPROXY_GRACE_PERIOD"}
    token = env.get("DRAINPROXY_DRAIN_TOKEN")
    planned = token_entry[0] if token_entry else None
    ports = {port["containerPort"] for _, port in tcp_ports(there.container)}
    return (
        there.in_init != native
        or any(f"DRAINPROXY_{name}" in env and f"DRAINPROXY_{name}" not in wiring for name in WIRING_ENV[:-1])
        or (token is None) != (planned is None)
        or (token is not None and planned is not None and set(token) != set(planned))
        or bool(ports - {admin, *(route.listen for route in routes)})
    )


def _carried(there: Sidecar, item: dict[str, Any]) -> dict[str, Any]:
    """The new sidecar with what somebody added to the old one: other variables, mounts, resources."""
    wiring = {f"DRAINPROXY_{name}" for name in WIRING_ENV}
    old = {key: value for key, value in there.container.items() if key not in ("ports", "restartPolicy")}
    old["env"] = [each for each in mappings(old.get("env")) if each.get("name") not in wiring]
    new = applied(old, item)
    order = [*plain(item), *(key for key in new if key not in item)]
    return {"name": NAME} | {key: Own(new[key]) for key in order if key != "name"}


def _hook_kind(current: Workload, apps: Sequence[str]) -> str:
    for each in current.containers:
        hook = read_hook(each)
        if each.get("name") in apps and hook.does is Does.DRAIN and hook.argv:
            return "curl" if "curl" in " ".join(hook.argv) else "wget"
    return "http"


def _app_overlay(base: Workload, name: str, ports: Sequence[AppPort], pre_stop: dict[str, Any]) -> dict[str, Any]:
    """The hook; the moved names; the probes that meant them."""
    app = _container(base, name)
    overlay: dict[str, Any] = {"name": name}
    used = {str(port.get("name")) for port in mappings(app.get("ports"))}
    moved = {port.name: port for port in ports if port.name and port.index is not None}
    if moved:
        renamed: dict[int, Any] = {}
        for port in moved.values():
            assert port.index is not None, "a named port is declared"
            new = app_name(port.name, used)
            used.add(new)
            renamed[port.index] = {"name": new}
        overlay["ports"] = At(renamed)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        by_number = _by_number(mapping(app.get(probe)), moved)
        if by_number:
            overlay[probe] = by_number
    overlay["lifecycle"] = {"preStop": Own(pre_stop)}
    post_start = _by_number(mapping(mapping(app.get("lifecycle")).get("postStart")), moved)
    if post_start:
        overlay["lifecycle"]["postStart"] = post_start
    return overlay


def _by_number(handler: dict[str, Any], moved: Mapping[str, AppPort]) -> dict[str, Any]:
    """A probe or hook that named a moved port goes on meaning the app: by number."""
    return {
        how: {"port": moved[str(handler[how]["port"])].number}
        for how in ("httpGet", "tcpSocket")
        if str(mapping(handler.get(how)).get("port")) in moved
    }


def _new_hook(
    base: Workload, app: dict[str, Any], hook: Hook, admin: int, token: str, kind: str, *, replace: bool
) -> dict[str, Any]:
    """The preStop that waits for drainproxy; an existing one is kept behind it or refused, never dropped silently."""
    ours = http_hook(admin, token or None) if kind == "http" else exec_hook(kind, admin)
    if hook.does in (Does.NOTHING, Does.SLEEP) and not (hook.does is Does.NOTHING and pre_stop(app)):
        return ours
    if hook.does is Does.EXEC and kind != "http":
        return exec_hook(kind, admin, hook.argv)
    if replace:
        return ours
    what = f"{hook.does.value}: {' '.join(hook.argv)}" if hook.argv else hook.does.value
    keep = (
        "--hook curl (or wget), if the image has it and /bin/sh, runs it after the drain; "
        if hook.does is Does.EXEC
        else ""
    )
    raise ManifestError(
        f"{base}: container {app.get('name')!r} has a preStop already ({what}). A container has one preStop, and "
        f"this one would start before the drain has ended. {keep}--replace-hook puts /drain in its place (--remove "
        "brings it back)"
    )


def _scrape(base: Workload, admin: int, notes: list[str]) -> dict[str, str]:
    present = [key for key in _SCRAPE if key in base.annotations]
    if present:
        notes.append(
            f"{base}: keeps its own {present[0]} annotation; scrape drainproxy's port {admin} with a PodMonitor"
        )
        return {}
    return dict(zip(_SCRAPE, ("true", str(admin), "/metrics"), strict=True))


def _note_wiring(base: Workload, routes: Iterable[PlannedRoute], notes: list[str]) -> None:
    if base.pod.get("hostNetwork"):
        listens = ", ".join(str(route.listen) for route in routes)
        notes.append(f"{base}: hostNetwork: drainproxy's ports ({listens}) must be free on every node")
    upstreams = {route.upstream for route in routes}
    notes += [
        f"{base}: hostPort {port['hostPort']} still leads straight to the app, past drainproxy"
        for each in base.containers
        for _, port in tcp_ports(each)
        if port.get("hostPort") and port["containerPort"] in upstreams
    ]
