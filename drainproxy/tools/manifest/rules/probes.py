"""Do the probes tell the truth? Rules on readiness, liveness and start-up, of the app and of drainproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drainproxy.config.options import Config
from drainproxy.tools.manifest.objects import mapping, mappings, tcp_ports
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.rules.view import Manifests
    from drainproxy.tools.manifest.sidecar import Sidecar

_ADMIN = Config().admin.port
_DEFAULT_PERIOD_S, _DEFAULT_FAILURES = 10, 3
"""What the API server fills in for a probe (Kubernetes API reference, Probe)."""
TIGHT_S = 10
"""A liveness probe that gives up sooner than this mistakes a slow moment for death."""

_SIDECAR_PROBES = f"""
initContainers:
- name: drainproxy
  restartPolicy: Always
  startupProbe: {{httpGet: {{path: /livez, port: {_ADMIN}}}, periodSeconds: 1, failureThreshold: 30}}
  readinessProbe: {{httpGet: {{path: /readyz, port: {_ADMIN}}}, periodSeconds: 2}}
  livenessProbe: {{httpGet: {{path: /livez, port: {_ADMIN}}}}}
"""


def _probes_admin(sidecar: Sidecar, probe: dict[str, Any], *paths: str) -> bool:
    """Whether a probe asks one of these paths on drainproxy's admin port, by number or by the port's name."""
    http = mapping(probe.get("httpGet"))
    names = {port.get("name"): port["containerPort"] for _, port in tcp_ports(sidecar.container)}
    port = http.get("port")
    port = names.get(port, port) if isinstance(port, str) else port
    return port == sidecar.admin_port and str(http.get("path", "/")).split("?")[0] in paths


@rule(
    "DP301",
    "no-readiness",
    Severity.ERROR,
    "no container has a readiness probe",
    why="Without one, a Pod counts as ready as soon as its containers run. It gets traffic before the app listens, and "
    "the rollout already removes an old Pod.",
    fix="Give the app a readinessProbe; drainproxy's /readyz knows whether the app answers.",
    example=_SIDECAR_PROBES,
)
def no_readiness(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        containers = [*pods.workload.containers, *pods.workload.init_containers]
        if pods.sidecar is None and not any(each.get("readinessProbe") for each in containers):
            yield Hit(pods.resource, pods.at("spec", "containers"), "the Pod is ready before the app listens")


@rule(
    "DP302",
    "readiness-past-proxy",
    Severity.ERROR,
    "the readiness probe does not ask drainproxy",
    why="Requests go through drainproxy, so the Pod is ready when drainproxy is. A probe of the app alone succeeds "
    "while drainproxy is still starting, and also while it drains.",
    fix="Give drainproxy's container a readinessProbe on /readyz of its admin port.",
    example=_SIDECAR_PROBES,
)
def readiness_past_proxy(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        probe = mapping(sidecar.container.get("readinessProbe"))
        if pods.workload.runs_to_completion and not probe:
            continue
        if not probe:
            yield Hit(pods.resource, pods.at_sidecar(), "drainproxy has no readinessProbe")
        elif not _probes_admin(sidecar, probe, "/readyz"):
            message = f"drainproxy's readiness is /readyz on port {sidecar.admin_port}"
            yield Hit(pods.resource, pods.at_sidecar("readinessProbe"), message)


@rule(
    "DP303",
    "liveness-is-readiness",
    Severity.WARNING,
    "liveness and readiness ask the same question",
    why="A readiness probe may fail for a while, when the app is busy or a dependency is down. If the liveness probe "
    "fails for the same reason, the kubelet restarts the container and all requests in flight are lost: a short "
    "problem becomes an outage.",
    fix="Let the liveness probe ask for something that only depends on the process (a /livez, a TCP connect), and "
    "allow more failures.",
    example="""
readinessProbe: {httpGet: {path: /ready, port: 8080}}
livenessProbe: {httpGet: {path: /alive, port: 8080}, failureThreshold: 6}
""",
)
def liveness_is_readiness(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        for index, app in pods.traffic:
            liveness, readiness = mapping(app.get("livenessProbe")), mapping(app.get("readinessProbe"))
            for how in ("httpGet", "exec", "grpc"):
                if liveness.get(how) and liveness.get(how) == readiness.get(how):
                    where = pods.at("spec", "containers", index, "livenessProbe", how)
                    yield Hit(pods.resource, where, f"container {app.get('name')!r} is restarted when it is not ready")


@rule(
    "DP304",
    "liveness-tight",
    Severity.WARNING,
    "the liveness probe fails too soon",
    why="When a liveness probe fails, the container is restarted and its requests are cut. Its preStop hook runs too, "
    "so the Pod drains because of a restart. An app that is only slow under the load of a rollout should not be "
    "restarted.",
    fix=f"Make periodSeconds x failureThreshold at least {TIGHT_S} s, and allow a slow answer (timeoutSeconds). For a "
    "slow start there is startupProbe.",
    example="""
livenessProbe:
  httpGet: {path: /alive, port: 8080}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
""",
)
def liveness_tight(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        for where in ("containers", "initContainers"):
            for index, each in enumerate(mappings(pods.workload.pod.get(where))):
                probe = mapping(each.get("livenessProbe"))
                period = probe.get("periodSeconds", _DEFAULT_PERIOD_S)
                failures = probe.get("failureThreshold", _DEFAULT_FAILURES)
                if not probe or not isinstance(period, int) or not isinstance(failures, int):
                    continue
                if period * failures < TIGHT_S:
                    path = pods.at("spec", where, index, "livenessProbe")
                    message = (
                        f"container {each.get('name')!r} is restarted after {period * failures}s without an answer"
                    )
                    yield Hit(pods.resource, path, message)


@rule(
    "DP305",
    "startup-deadlock",
    Severity.ERROR,
    "the native sidecar's start-up probe waits for the app, which waits for the sidecar",
    why="The kubelet starts the app's container when the native sidecar before it has started, that is when its "
    "startupProbe has passed. But /startupz and /readyz succeed only when the app answers, so neither container ever "
    "starts.",
    fix="Ask /livez in the start-up probe of a native sidecar.",
    example=_SIDECAR_PROBES,
    always=True,
)
def startup_deadlock(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        probe = mapping(sidecar.container.get("startupProbe"))
        if sidecar.native and _probes_admin(sidecar, probe, "/startupz", "/readyz"):
            path = pods.at_sidecar("startupProbe", "httpGet", "path")
            yield Hit(pods.resource, path, "it passes when the app answers, and the app is started after it has passed")


@rule(
    "DP306",
    "proxy-liveness",
    Severity.ERROR,
    "drainproxy's liveness probe does not ask /livez",
    why="/readyz says no during a drain and while the app is away. As a liveness probe that restarts the proxy in the "
    "middle of its work.",
    fix="Ask /livez on the admin port: it stays 200 while draining.",
    example=_SIDECAR_PROBES,
)
def proxy_liveness(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        probe = mapping(sidecar.container.get("livenessProbe"))
        if probe.get("httpGet") and not _probes_admin(sidecar, probe, "/livez", "/healthz"):
            path = pods.at_sidecar("livenessProbe", "httpGet")
            yield Hit(pods.resource, path, f"drainproxy's liveness is /livez on port {sidecar.admin_port}")


_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")


@rule(
    "DP307",
    "probe-unknown-port",
    Severity.ERROR,
    "a probe names a port that its container does not have",
    why="The kubelet looks the name up in the probe's own container. If it is not there, the probe always fails. With "
    "a failing readiness probe the Pod gets no traffic, with the others the container is restarted, and the rollout "
    "hangs.",
    fix="Write the port's number, or give the container's port that name.",
    example="""
containers:
- name: app
  ports: [{name: http, containerPort: 8080}]
  readinessProbe: {httpGet: {path: /ready, port: http}}
""",
    always=True,
)
def probe_unknown_port(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for where in ("containers", "initContainers"):
            for index, each in enumerate(mappings(pods.workload.pod.get(where))):
                names = {str(port.get("name")) for port in mappings(each.get("ports"))}
                for probe in _PROBES:
                    for how in ("httpGet", "tcpSocket"):
                        port = mapping(mapping(each.get(probe)).get(how)).get("port")
                        if isinstance(port, str) and not port.isdigit() and port not in names:
                            path = pods.at("spec", where, index, probe, how, "port")
                            message = f"container {each.get('name')!r} has no port named {port!r}"
                            yield Hit(pods.resource, path, message)
