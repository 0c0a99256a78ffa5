"""What does one Pod template need? Sidecar, hook, probes, grace period and token, as one overlay.

`plan` reads two versions of the same workload: `base`, as it was before any inject, says what the app is like;
`current` says what somebody tuned since, which is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drainproxy import __version__
from drainproxy.config.loading import load
from drainproxy.config.options import Config
from drainproxy.config.values import show_duration
from drainproxy.tools.manifest.asked import NONE, PREFIX, Options, Undecided, asked_of, is_disabled
from drainproxy.tools.manifest.choice import AppPort, NothingToProxy, behind, choose
from drainproxy.tools.manifest.edit import At, Named, Own, applied, plain
from drainproxy.tools.manifest.hooks import Does, Hook, exec_hook, http_hook, pre_stop, read_hook
from drainproxy.tools.manifest.memory import noted_version, read_memory
from drainproxy.tools.manifest.mesh import annotations_for, init_overlay, is_mesh, mesh_of, proxy_in_containers
from drainproxy.tools.manifest.objects import (
    DEFAULT_GRACE_S,
    Resource,
    Workload,
    mapping,
    mappings,
    tcp_ports,
)
from drainproxy.tools.manifest.siblings import successors
from drainproxy.tools.manifest.sidecar import (
    LOOPBACK,
    NAME,
    POD_ADDRESS_ENV,
    WIRING_ENV,
    PlannedRoute,
    Sidecar,
    container,
    find,
    grace_env,
    least_grace_s,
    route_env,
)
from drainproxy.tools.manifest.wiring import app_name, assign

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

IMAGE = "drainproxy"
_SCRAPE = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")
_ANY_GRACE = "24h"
"""Long enough for any drain: to read settings before the grace period is known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a workload gets: the overlay on its Pod template, and how traffic goes then (a route for each port)."""

    overlay: dict[str, Any]
    ports: tuple[AppPort, ...]
    routes: tuple[PlannedRoute, ...]
    admin: int
    native: bool
    notes: tuple[str, ...] = ()


def plan(
    base: Workload, current: Workload, others: Sequence[Resource], options: Options, taken: Collection[int] = ()
) -> Plan:
    """What to bring into a workload's Pod template.

    `base` is the workload as it was before any inject, `current` as it is; `others` are the objects of the input (the
    Services that lead to it, and the ConfigMaps and Secrets that its sidecar reads). `taken`: port numbers that other
    Pods on the same node have. Raises NothingToProxy if the workload is to be left alone, Undecided if it cannot be
    told what is meant, BudgetError or ConfigError for settings that cannot start.
    """
    notes: list[str] = []
    if is_disabled(base):
        raise NothingToProxy("annotation drainproxy.io/inject: disabled")
    options = asked_of(base, options)
    if find(base, others) is not None:
        raise NothingToProxy(
            "already has a drainproxy that inject did not write; it is not changed (see `drainproxy check`)"
        )
    there = find(current, others) if read_memory(current.resource) is not None else None
    native = _is_native(base, there, options)
    ports = choose(base, others, *_choices(current, there, options))
    routes, admin = _assigned(base, ports, there, taken, notes)
    apps = list(dict.fromkeys(port.container for port in ports))
    held = _held(base, current, apps, there, options, notes)
    hooks = {name: read_hook(_container(base, name)) for name in [*apps, *held]}
    settings = _settings(base, hooks, there, options, notes)
    routes = _with_successors(base, ports, routes, others, options.successor, settings, notes)
    grace_s = _grace(base, current, settings, options, notes)
    token_entry, token = _token(there, current, options)
    load({**settings, "grace-period": f"{grace_s}"}, {}, {})  # BudgetError: nothing is written that cannot start
    item = container(
        image=_image(there, current, options, notes),
        native=native,
        routes=routes,
        admin=admin,
        env=[*_environment(ports, routes, admin, grace_s, settings, there, options), *token_entry],
        pod_runs_as_root=mapping(base.pod.get("securityContext")).get("runAsUser") == 0,
    )
    if there is not None and _is_rewired(there, native, routes, admin, token_entry):
        item = _carried(there, item)
    hook_kind = options.hook or _hook_kind(current, apps)
    if hook_kind == "http" and token == "" and token_entry:
        raise Undecided(_secret_hook_advice(base, token_entry))
    containers = []
    for name, hook in hooks.items():
        decided = options.replace_hook or (there is not None and _drains(current, name))
        pre_stop = _new_hook(base, _container(base, name), hook, admin, token, hook_kind, replace=decided)
        if options.replace_hook and hook.does in (Does.EXEC, Does.HTTP, Does.TCP) and hook_kind == "http":
            notes.append(f"{base}: container {name!r}: /drain replaces a preStop hook that {hook.does.value}")
        containers.append(_app_overlay(base, name, [port for port in ports if port.container == name], pre_stop))
    _note_wiring(base, routes, admin, notes)
    overlay = _template_overlay(containers, item, native, grace_s)
    wants_scrape = options.scrape and (there is None or any(key in current.annotations for key in _SCRAPE))
    overlay["metadata"] = {"annotations": _scrape(base, admin, notes) if wants_scrape else {}}
    _join_mesh(overlay, base, others, routes, admin)
    return Plan(overlay, tuple(ports), routes, admin, native, tuple(notes))


def _assigned(
    base: Workload, ports: Sequence[AppPort], there: Sidecar | None, taken: Collection[int], notes: list[str]
) -> tuple[tuple[PlannedRoute, ...], int]:
    """The sidecar's ports: those of an earlier run, unless another Pod on the same node has them."""
    before = {r.upstream.port: r.listen.port for r in there.settings.config.routes} if there is not None else {}
    admin_before = there.admin_port if there is not None else None
    moved = {*before.values(), admin_before}.intersection(taken)
    if moved:
        numbers = ", ".join(str(each) for each in sorted(each for each in moved if each is not None))
        notes.append(
            f"{base}: hostNetwork: another workload on the same node has port {numbers}; this one gets a different port"
        )
    return assign(base, ports, before, admin_before, taken)


def _with_successors(
    base: Workload,
    ports: Sequence[AppPort],
    routes: Sequence[PlannedRoute],
    others: Sequence[Resource],
    asked: str | None,
    settings: Mapping[str, str],
    notes: list[str],
) -> tuple[PlannedRoute, ...]:
    """The routes, each with the Service that leads to other Pods of the workload, where there is one."""
    found = successors(base, ports, others, asked, settings)
    if found:
        names = ", ".join(dict.fromkeys(found.values()))
        notes.append(
            f"{base}: requests that come late, or find the app gone, go to another of its Pods ({names}); annotation "
            f"{PREFIX}successor: {NONE} switches that off, see docs/successor.md"
        )
        missing = [each for each in ("successor-name", "successor-ca") if each not in settings]
        if "tls-cert" in settings and missing:
            notes.append(
                f"{base}: with tls-cert, those Pods are asked with TLS, and nothing is handed over to one whose "
                f"certificate is not trusted; set {' and '.join(PREFIX + each for each in missing)} unless it is valid "
                f"for {settings.get('successor-name', 'the address of the Service')} and signed by "
                f"{settings.get('successor-ca', 'an authority of the system')}"
            )
    return tuple(replace(each, successor=found.get(each.upstream, "")) for each in routes)


def _join_mesh(
    overlay: dict[str, Any],
    base: Workload,
    others: Sequence[Resource],
    routes: Sequence[PlannedRoute],
    admin: int,
) -> None:
    """What the mesh has to know, in the Pod template."""
    mesh = mesh_of(base, others)
    if mesh is None:
        return
    overlay["metadata"]["annotations"] |= annotations_for(mesh, base, routes, admin)
    init = init_overlay(mesh, base, routes, admin)
    if init is None:
        return
    index, args = init
    change = {"name": str(base.init_containers[index]["name"]), "args": At(args)}
    added = overlay["spec"].get("initContainers")
    overlay["spec"]["initContainers"] = Named("name", (change, *(added.items if added is not None else ())))


def _template_overlay(
    containers: list[dict[str, Any]], item: dict[str, Any], native: bool, grace_s: float
) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": Named("name", tuple(containers if native else [*containers, item]))}
    if native:
        spec["initContainers"] = Named("name", (item,))
    spec["terminationGracePeriodSeconds"] = int(grace_s)
    return {"spec": spec}


def _environment(
    ports: Sequence[AppPort],
    routes: tuple[PlannedRoute, ...],
    admin: int,
    grace_s: float,
    settings: Mapping[str, str],
    there: Sidecar | None,
    options: Options,
) -> list[dict[str, Any]]:
    """Wiring anew each time; settings when asked for, or at first: afterwards they are the user's to tune."""
    fields = list(dict.fromkeys(port.host for port in ports if port.host != LOOPBACK))
    if len(fields) > 1:
        raise Undecided(f"its ports are bound to different addresses: {', '.join(fields)}")
    wiring: list[dict[str, Any]] = [
        {"name": POD_ADDRESS_ENV, "valueFrom": {"fieldRef": {"fieldPath": field}}} for field in fields
    ]
    wiring += [{"name": name, "value": value} for name, value in route_env(routes, admin).items()]
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
        raise Undecided(f"{base}: no container named {missing[0]!r} to hold; there are: {', '.join(names)}")
    waiting = [name for name in names if there is not None and _drains(current, name)]
    relayed = {name for app in apps for name in behind(base, _container(base, app))}
    needed = {*options.hold, *waiting, *relayed, proxy_in_containers(base)}
    held = [name for name in names if name not in apps and name in needed]
    others = [
        str(each.get("name"))
        for each in base.containers
        if each.get("name") not in [*apps, *held] and read_hook(each).does is Does.NOTHING
    ]
    if others:
        notes.append(
            f"{base}: {', '.join(others)} gets SIGTERM at once, during the drain; if the app needs it, use --hold"
        )
    return held


def _drains(workload: Workload, name: str) -> bool:
    return read_hook(_container(workload, name)).does is Does.DRAIN


def _container(workload: Workload, name: str) -> dict[str, Any]:
    return next(each for each in workload.containers if each.get("name") == name)


def _is_native(base: Workload, there: Sidecar | None, options: Options) -> bool:
    native = options.kind == "native" if options.kind else there is None or there.in_init
    if base.runs_to_completion and not native:
        raise Undecided(f"{base}: a Job with a classic sidecar never completes; use --sidecar native")
    return native


def _choices(current: Workload, there: Sidecar | None, options: Options) -> tuple[Options, Sequence[str]]:
    """The options to choose by, and the ports of the sidecar that is there, which stand unless others are asked for."""
    if there is None or options.ports:
        return options, ()
    drains = [str(each.get("name")) for each in current.containers if read_hook(each).does is Does.DRAIN]
    waiting = tuple(name for name in drains if not is_mesh({"name": name}))
    if options.containers and set(options.containers) != set(waiting):
        return options, ()
    ports = [f"{route.upstream.port},protocol={route.protocol}" for route in there.settings.config.routes]
    return replace(options, containers=waiting), ports


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
            f"{base}: preStop slept {slept:g}s; drainproxy's /drain replaces it and keeps serving for at least "
            f"{floor or show_duration(Config().propagation_delay_s)} (propagation-delay), then until traffic has "
            "stopped. --remove restores the sleep"
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
        f"need {show_duration(least)}, and work in flight needs time"
    )
    return raised


def _token(there: Sidecar | None, current: Workload, options: Options) -> tuple[list[dict[str, Any]], str]:
    """The environment entry that gives the sidecar its token, and the token if the hook may hold it."""
    entry = "DRAINPROXY_DRAIN_TOKEN"
    secret = options.token_secret
    if secret is None and there is not None and options.token is None:
        secret = there.settings.token_secret
    if secret is not None:
        reference = {"secretKeyRef": {"name": secret[0], "key": secret[1]}}
        token = options.token or ""
        if not token and there is not None:
            hooks = [read_hook(each) for each in current.containers]
            token = next((hook.token for hook in hooks if hook.does is Does.DRAIN and hook.token), "")
        return [{"name": entry, "valueFrom": reference}], token
    token = options.token if options.token is not None else (there.settings.token if there is not None else None) or ""
    if options.token is None and there is None:
        token = options.new_token()
    return ([{"name": entry, "value": token}] if token else []), token


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
        notes.append(
            f"image {IMAGE}:{__version__} names no registry, so nodes look for it on Docker Hub. Name your registry: "
            f"--image REGISTRY/{IMAGE}:{__version__}, or DRAINPROXY_IMAGE in the environment"
        )
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
    raise Undecided(
        f"{base}: container {app.get('name')!r} already has a preStop hook ({what}). A container can have only one, "
        f"and this one would run before the drain is over. {keep}--replace-hook replaces it with /drain (--remove "
        "restores it)",
        "drainproxy.io/hook: curl" if hook.does is Does.EXEC else 'drainproxy.io/replace-hook: "true"',
    )


def _scrape(base: Workload, admin: int, notes: list[str]) -> dict[str, str]:
    present = [key for key in _SCRAPE if key in base.annotations]
    if present:
        notes.append(
            f"{base}: keeps its own {present[0]} annotation; scrape drainproxy's port {admin} with a PodMonitor"
        )
        return {}
    return dict(zip(_SCRAPE, ("true", str(admin), "/metrics"), strict=True))


def _note_wiring(base: Workload, routes: Iterable[PlannedRoute], admin: int, notes: list[str]) -> None:
    if base.pod.get("hostNetwork"):
        listens = ", ".join(str(route.listen) for route in routes)
        notes.append(
            f"{base}: hostNetwork: drainproxy's ports (traffic {listens}, admin {admin}) must be free on every node"
        )
    upstreams = {route.upstream for route in routes}
    notes += [
        f"{base}: hostPort {port['hostPort']} still leads directly to the app, past drainproxy"
        for each in base.containers
        for _, port in tcp_ports(each)
        if port.get("hostPort") and port["containerPort"] in upstreams
    ]
