"""Which Pods are compared? The same app bare, with `preStop: sleep`, and with drainproxy beside it.

`$(APP_PORT)` and the like are the Pod's ports: the miniature cluster sets a variable for each port name.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

from drainproxy.config.values import show_duration
from drainproxy.tools.cluster.pod import Container, HttpGet, PodSpec, Probe, Sleep

APP, HTTP, ADMIN = "app", "http", "drain-admin"
APP_PORT, HTTP_PORT, ADMIN_PORT = 8080, 9080, 9081
PLAIN_APP = (sys.executable, "-m", "drainproxy.tools.cluster.plain_app", "$(APP_PORT)")


@dataclass(frozen=True, slots=True)
class Times:
    """The durations of a variant. Seconds; short, for people and tests do not wait for real clouds."""

    grace_s: float = 20.0
    sleep_s: float = 4.0
    floor_s: float = 2.0
    quiet_s: float = 0.5
    spread_s: float = 1.0
    app_stop_s: float = 1.0
    probe_period_s: float = 0.5


@dataclass(frozen=True, slots=True)
class App:
    """The app under test and where it says that it is ready."""

    command: tuple[str, ...] = PLAIN_APP
    ready_path: str = "/healthz"
    env: dict[str, str] = field(default_factory=dict)


def bare(app: App, times: Times) -> PodSpec:
    """No hook, no sidecar: what most Deployments are."""
    return PodSpec((_app(app, times),), APP, times.grace_s)


def sleeping(app: App, times: Times) -> PodSpec:
    """The usual advice: `preStop: sleep`."""
    return PodSpec((replace(_app(app, times), pre_stop=Sleep(times.sleep_s)),), APP, times.grace_s)


def drained(app: App, times: Times, *, native: bool = True, options: tuple[str, ...] = ()) -> PodSpec:
    """drainproxy as a sidecar, the app's preStop at its /drain. `options` are added to `drainproxy serve`."""
    hook = HttpGet("/drain?event=1", ADMIN_PORT)
    behind = replace(_app(app, times), pre_stop=hook, readiness=None)
    return PodSpec((behind, sidecar(times, native=native, options=options)), HTTP, times.grace_s)


def sidecar(times: Times, *, native: bool = True, options: tuple[str, ...] = ()) -> Container:
    """The drainproxy container, as `drainproxy inject` writes it but for the durations."""
    command = (
        *(sys.executable, "-m", "drainproxy", "serve"),
        *("--listen", "$(POD_IP):$(HTTP_PORT)", "--upstream", "$(POD_IP):$(APP_PORT)"),
        *("--admin", "$(POD_IP):$(DRAIN_ADMIN_PORT)"),
        *("--grace-period", show_duration(times.grace_s), "--app-stop-time", show_duration(times.app_stop_s)),
        *("--propagation-delay", show_duration(times.floor_s), "--quiet-period", show_duration(times.quiet_s)),
        *("--close-spread", show_duration(times.spread_s), "--drain-access", "any", *options),
    )
    return Container(
        "drainproxy",
        command,
        ports={HTTP: HTTP_PORT, ADMIN: ADMIN_PORT},
        startup=Probe(HttpGet("/livez", ADMIN_PORT), period_s=0.1, failure_threshold=300),
        readiness=Probe(HttpGet("/readyz", ADMIN_PORT), period_s=times.probe_period_s),
        native_sidecar=native,
    )


def _app(app: App, times: Times) -> Container:
    return Container(
        "app",
        app.command,
        ports={APP: APP_PORT},
        startup=Probe(HttpGet(app.ready_path, APP_PORT), period_s=0.1, failure_threshold=300),
        readiness=Probe(HttpGet(app.ready_path, APP_PORT), period_s=times.probe_period_s),
        env=app.env,
    )
