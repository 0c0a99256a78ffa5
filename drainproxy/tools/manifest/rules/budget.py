"""Does the time add up? Rules on the grace period, what has to fit into it, and settings that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.config.options import MARGIN_S, Config
from drainproxy.config.values import show_duration
from drainproxy.tools.manifest.hooks import Does
from drainproxy.tools.manifest.objects import DEFAULT_GRACE_S
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule
from drainproxy.tools.manifest.sidecar import least_grace_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.rules.view import Manifests

_DEFAULTS = Config()
LONG_HOOK_S = DEFAULT_GRACE_S / 3
"""A hook that may take longer than this deserves a grace period somebody has thought about."""


@rule(
    "DP101",
    "grace-too-short",
    Severity.ERROR,
    "the drain does not fit into the grace period",
    why="The kubelet kills everything when terminationGracePeriodSeconds has passed since the Pod's deletion, and the "
    "time of preStop counts. It must hold propagation-delay + quiet-period (the shortest drain), a margin of "
    f"{show_duration(MARGIN_S)}, and app-stop-time. Requests in flight need more time than that. drainproxy does not "
    "start if the times do not fit.",
    fix="Raise terminationGracePeriodSeconds and --grace-period together, or lower propagation-delay.",
    example=f"""
spec:
  terminationGracePeriodSeconds: {int(_DEFAULTS.grace_period_s)}
  # and on drainproxy:
  #   env: [{{name: DRAINPROXY_GRACE_PERIOD, value: {int(_DEFAULTS.grace_period_s)}s}}]
""",
)
def grace_too_short(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        settings = sidecar.settings
        if not settings.knows("propagation-delay", "quiet-period", "app-stop-time", "drain-timeout"):
            continue
        least = least_grace_s(settings.config)
        if settings.is_budget_error:
            yield Hit(pods.resource, pods.at_sidecar(), settings.error)
        elif pods.grace_s < least:
            yield Hit(
                pods.resource,
                pods.at("spec", "terminationGracePeriodSeconds"),
                f"the grace period is {pods.grace_s}s, and floor, quiet period, margin and app-stop-time need "
                f"{show_duration(least)}",
            )


@rule(
    "DP102",
    "grace-mismatch",
    Severity.ERROR,
    "the Pod's grace period and drainproxy's --grace-period differ",
    why="The grace period is not in the downward API, so drainproxy only knows its own setting. If that is too long, "
    "drainproxy is still draining when the kubelet kills the Pod. If it is too short, drainproxy cuts requests that "
    "had time left.",
    fix="Write the same number in both places; `drainproxy inject` keeps them equal.",
    example="""
spec:
  terminationGracePeriodSeconds: 45
  initContainers:
  - name: drainproxy
    env:
    - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}
""",
)
def grace_mismatch(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        told = sidecar.settings.config.grace_period_s
        if sidecar.settings.is_budget_error or not sidecar.settings.knows("grace-period") or told == pods.grace_s:
            continue
        yield Hit(
            pods.resource,
            pods.env_path("grace-period"),
            f"the Pod has {pods.grace_s}s, drainproxy's --grace-period is {show_duration(told)}",
            Severity.ERROR if told > pods.grace_s else Severity.WARNING,
        )


@rule(
    "DP103",
    "default-grace-long-hook",
    Severity.WARNING,
    "a long hook in the default grace period",
    why=f"terminationGracePeriodSeconds is not set, so it is {DEFAULT_GRACE_S} s, and the time of preStop counts. A "
    "long hook leaves the app little or no time to stop.",
    fix="Set terminationGracePeriodSeconds to the longest time of the hook plus the time that the app needs to stop.",
    example="""
spec:
  terminationGracePeriodSeconds: 60
""",
)
def default_grace_long_hook(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        if pods.workload.grace_s is not None:
            continue
        for path, _, hook in pods.hooks():
            takes = hook.seconds
            if hook.does is Does.DRAIN and pods.sidecar is not None:
                takes = pods.sidecar.settings.config.propagation_delay_s
            if LONG_HOOK_S < takes < DEFAULT_GRACE_S:
                yield Hit(
                    pods.resource,
                    path,
                    f"the hook takes at least {show_duration(takes)} of the default {DEFAULT_GRACE_S}s",
                )


@rule(
    "DP104",
    "sleep-exceeds-grace",
    Severity.ERROR,
    "preStop sleeps through the whole grace period",
    why="preStop time is part of the grace period. When the sleep ends the app gets SIGTERM and two seconds later "
    "SIGKILL: every request still in flight is cut.",
    fix="Sleep less, or raise terminationGracePeriodSeconds above the sleep plus the app's longest request.",
    example="""
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: app
    lifecycle: {preStop: {sleep: {seconds: 15}}}
""",
)
def sleep_exceeds_grace(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, _, hook in pods.hooks():
            if hook.does is Does.SLEEP and hook.seconds >= pods.grace_s > 0:
                message = f"sleeps {hook.seconds:g}s, and the grace period is {pods.grace_s}s"
                yield Hit(pods.resource, path, message)


@rule(
    "DP105",
    "bad-setting",
    Severity.ERROR,
    "drainproxy would refuse to start with this setting",
    why="drainproxy stops at start-up when an option cannot be used. The new Pods never become ready, and the rollout "
    "hangs half-way.",
    fix="Give the option a value as the message says; `drainproxy serve --help` lists all options.",
    example="""
env:
- {name: DRAINPROXY_PROPAGATION_DELAY, value: 15s}
""",
    always=True,
)
def bad_setting(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        settings = sidecar.settings
        if settings.error and not settings.is_budget_error and settings.knows():
            name = settings.error.split(":")[0].removeprefix("--").removeprefix("DRAINPROXY_").lower()
            yield Hit(pods.resource, pods.env_path(name), settings.error)


@rule(
    "DP106",
    "grace-zero",
    Severity.ERROR,
    "the grace period is 0: the Pod is killed at once",
    why="With terminationGracePeriodSeconds: 0 there is no preStop and no SIGTERM: the "
    "containers are killed. Every request in flight is cut at every rollout.",
    fix="Remove the line (the default is 30 s), or set the time that the hook and the app's stop need.",
    example="""
spec:
  terminationGracePeriodSeconds: 30
""",
)
def grace_zero(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        if pods.workload.grace_s is not None and pods.grace_s <= 0:
            where = pods.at("spec", "terminationGracePeriodSeconds")
            yield Hit(pods.resource, where, "neither the hook nor SIGTERM gets any time")


@rule(
    "DP107",
    "stop-squeezed",
    Severity.WARNING,
    "preStop sleeps so long that the app has little time left to stop",
    why="preStop time is part of the grace period. What is left when the sleep ends is all that the app has between "
    f"SIGTERM and SIGKILL; less than {show_duration(_DEFAULTS.app_stop_time_s)} is not enough for many.",
    fix="Raise terminationGracePeriodSeconds to the sleep plus the app's longest request plus its stop.",
    example="""
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: app
    lifecycle: {preStop: {sleep: {seconds: 15}}}
""",
)
def stop_squeezed(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, _, hook in pods.hooks():
            left = pods.grace_s - hook.seconds
            if hook.does is Does.SLEEP and 0 < left < _DEFAULTS.app_stop_time_s:
                message = f"sleeps {hook.seconds:g}s of {pods.grace_s}s: {left:g}s are left for the app to stop"
                yield Hit(pods.resource, path, message)
