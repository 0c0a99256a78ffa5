"""Do the proxies of a service mesh let the drain happen? Rules on Pods that have a mesh's sidecar, or get one.

Facts: Istio's agent takes over HTTP probes and hooks of the app and stops 5 s after SIGTERM by default
(`terminationDrainDuration`), unless it waits for connections (`EXIT_ON_ZERO_ACTIVE_CONNECTIONS`) or is a native
sidecar; Linkerd's proxy stops at SIGTERM, unless it waits (`proxy-wait-before-exit-seconds`) or is a native sidecar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.config.values import parse_duration, show_duration
from drainproxy.tools.manifest.hooks import Does, read_hook
from drainproxy.tools.manifest.mesh import LINKERD, Mesh, mesh_of
from drainproxy.tools.manifest.objects import Path, is_native_sidecar, label_selector_matches, mapping, mappings
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.rules.view import Manifests, Pods

_ISTIO_DRAIN_S = 5.0
"""What Istio's agent waits after SIGTERM by default (MeshConfig, ProxyConfig.terminationDrainDuration)."""
_LINKERD_POLICY = "config.linkerd.io/default-inbound-policy"
_REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"
_DRAIN_DURATION = re.compile(r"terminationDrainDuration[\"']?\s*:\s*[\"']?([\w.]+)")
_ZERO_CONNECTIONS = re.compile(r"EXIT_ON_ZERO_ACTIVE_CONNECTIONS[\"']?\s*:\s*[\"']?true", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Joined:
    """The mesh that a Pod is in, and its proxy where the manifest has it already: the container and its path."""

    mesh: Mesh
    proxy: dict[str, Any]
    path: Path


def _joined(pods: Pods) -> _Joined | None:
    mesh = mesh_of(pods.workload, pods.manifests.of("Namespace"))
    if mesh is None:
        return None
    for where in ("initContainers", "containers"):
        for index, each in enumerate(mappings(pods.workload.pod.get(where))):
            if each.get("name") == mesh.proxy:
                return _Joined(mesh, each, pods.at("spec", where, index))
    return _Joined(mesh, {}, pods.at("metadata"))


@rule(
    "DP801",
    "mesh-proxy-stops-first",
    Severity.ERROR,
    "the mesh's proxy stops while requests still come in through it",
    why="Every request passes through the mesh's proxy. As an ordinary container, it gets SIGTERM when the Pod is "
    "deleted, and ends long before the hook. Requests in flight are cut, and no more requests reach the Pod while it "
    "drains.",
    fix="Let the mesh use native sidecars (the default of recent versions). Otherwise Istio: "
    "EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true' in proxyMetadata, or a terminationDrainDuration as long as the drain; "
    "Linkerd: config.alpha.linkerd.io/proxy-wait-before-exit-seconds.",
    example="""
metadata:
  annotations:
    proxy.istio.io/config: '{"proxyMetadata": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"}}'
""",
)
def mesh_proxy_stops_first(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        joined = _joined(pods)
        hooks = [hook for _, _, hook in pods.hooks() if hook.does in (Does.DRAIN, Does.SLEEP)]
        if joined is None or not hooks or _is_native(joined, pods):
            continue
        needed_s = max(_hook_s(pods, hook.seconds) for hook in hooks)
        stays_s = _stays_s(joined, pods)
        if stays_s >= needed_s:
            continue
        message = f"{joined.mesh.name}'s proxy stays {show_duration(stays_s)} after SIGTERM, the hook at least "
        message += show_duration(needed_s)
        known = bool(joined.proxy) or pods.workload.annotations.get("sidecar.istio.io/nativeSidecar") == "false"
        yield Hit(pods.resource, joined.path, message, None if known else Severity.INFO)


def _hook_s(pods: Pods, slept_s: float) -> float:
    if pods.sidecar is None:
        return slept_s
    config = pods.sidecar.settings.config
    return config.propagation_delay_s + config.quiet_period_s


def _is_native(joined: _Joined, pods: Pods) -> bool:
    wished = pods.workload.annotations.get("sidecar.istio.io/nativeSidecar")
    return is_native_sidecar(joined.proxy) or (not joined.proxy and str(wished) == "true")


def _stays_s(joined: _Joined, pods: Pods) -> float:
    """How long the proxy serves after the Pod's deletion."""
    if read_hook(joined.proxy).does is Does.DRAIN:
        return float("inf")  # it waits for the drain itself
    if joined.mesh is LINKERD:
        wait = pods.workload.annotations.get("config.alpha.linkerd.io/proxy-wait-before-exit-seconds", 0)
        return _seconds(wait) or max((h.seconds for _, each, h in pods.hooks() if each is joined.proxy), default=0.0)
    env = {str(each.get("name")): str(each.get("value")) for each in mappings(joined.proxy.get("env"))}
    told = " ".join([str(pods.workload.annotations.get("proxy.istio.io/config", "")), env.get("PROXY_CONFIG", "")])
    if env.get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "").lower() == "true" or _ZERO_CONNECTIONS.search(told):
        return float("inf")
    found = _DRAIN_DURATION.search(told)
    return _seconds(found[1]) if found else _ISTIO_DRAIN_S


def _seconds(written: Any) -> float:
    try:
        return parse_duration(str(written))
    except ValueError:
        return 0.0


@rule(
    "DP802",
    "mesh-refuses-hook",
    Severity.ERROR,
    "the mesh blocks the kubelet's calls to drainproxy's admin port",
    why="The kubelet has no certificate of the mesh. If the mesh requires one (as with mTLS mode STRICT), the hook's "
    "call is refused, the kubelet records an event, and SIGTERM follows at once.",
    fix="Exclude the admin port from the mesh: traffic.sidecar.istio.io/excludeInboundPorts or "
    "config.linkerd.io/skip-inbound-ports on the Pod template.",
    example="""
metadata:
  annotations:
    traffic.sidecar.istio.io/excludeInboundPorts: "9081"
""",
)
def mesh_refuses_hook(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        joined = _joined(pods)
        calls = any(hook.does is Does.DRAIN and hook.http is not None for _, _, hook in pods.hooks())
        if joined is None or not calls or not sidecar.settings.knows("admin"):
            continue
        if not _lists(pods.workload.annotations.get(joined.mesh.exclude), sidecar.admin_port):
            refused = _demands_certificate(joined.mesh, pods)
            message = f"port {sidecar.admin_port} is not in {joined.mesh.exclude}"
            yield Hit(pods.resource, joined.path, message, Severity.ERROR if refused else Severity.WARNING)


def _lists(ports: Any, number: int) -> bool:
    """Whether a list such as `"15020,9000-9100"` has a port in it; `*` is all of them."""
    for each in str(ports or "").split(","):
        first, _, last = each.strip().partition("-")
        if first == "*" or (first.isdigit() and int(first) <= number <= int(last if last.isdigit() else first)):
            return True
    return False


def _demands_certificate(mesh: Mesh, pods: Pods) -> bool:
    """Whether a caller without a certificate is refused, as far as the input tells.

    Istio's agent makes the call itself where it has rewritten the hook; then there is nobody to refuse.
    """
    if mesh is LINKERD:
        policy = {**_linkerd_policy(pods), **pods.workload.annotations}.get(_LINKERD_POLICY, "all-unauthenticated")
        return str(policy) in ("deny", "all-authenticated", "cluster-authenticated")
    if str(pods.workload.annotations.get(_REWRITE, "true")).lower() != "false":
        return False
    return any(
        mapping(each.spec.get("mtls")).get("mode") == "STRICT"
        and each.namespace in (pods.resource.namespace, "istio-system")
        and label_selector_matches(each.spec.get("selector"), pods.workload.labels)
        for each in pods.manifests.of("PeerAuthentication")
    )


def _linkerd_policy(pods: Pods) -> dict[str, Any]:
    return next((e.annotations for e in pods.manifests.of("Namespace") if e.name == pods.resource.namespace), {})
