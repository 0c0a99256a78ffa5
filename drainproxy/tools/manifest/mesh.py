"""What does a Pod in a service mesh need besides, so that the mesh lets the drain work?

Read in the source of Istio (pkg/kube/inject) and Linkerd (pkg/inject, proxy-init):

- The mesh intercepts every port. The kubelet calls `/drain` in plain text and without the mesh's certificate, which
  mTLS STRICT refuses; the kubelet then kills the app at once. So the admin port is taken out of interception: by
  annotation, and in the arguments of a mesh that is in the manifest already. Istio rewrites HTTP hooks to its agent,
  which forwards them with their headers and without a time limit; with the port taken out, both ways work.
- The mesh's proxy carries the traffic that is being drained, so it must stop last. As a native sidecar it stands before
  drainproxy and stops after it. As a container it would get SIGTERM at once: it waits for the drain, as the app does.
- Linkerd detects protocols by the first bytes of the client, unless the port is listed as opaque. Behind drainproxy's
  port the server that speaks first (MySQL, SMTP) would stall there for ten seconds: such routes are listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drainproxy.tools.manifest.objects import Resource, Workload
    from drainproxy.tools.manifest.sidecar import PlannedRoute


@dataclass(frozen=True, slots=True)
class Mesh:
    """One mesh's names. Flags of its init container: `ignore_flag` the ports left alone, `include_flag` those taken."""

    name: str
    proxy: str
    init: str
    ignore_flag: str
    include_flag: str
    exclude: str
    include: str
    opaque: str


ISTIO = Mesh(
    name="Istio",
    proxy="istio-proxy",
    init="istio-init",
    ignore_flag="-d",
    include_flag="-b",
    exclude="traffic.sidecar.istio.io/excludeInboundPorts",
    include="traffic.sidecar.istio.io/includeInboundPorts",
    opaque="",
)
LINKERD = Mesh(
    name="Linkerd",
    proxy="linkerd-proxy",
    init="linkerd-init",
    ignore_flag="--inbound-ports-to-ignore",
    include_flag="",
    exclude="config.linkerd.io/skip-inbound-ports",
    include="",
    opaque="config.linkerd.io/opaque-ports",
)
_ALL = (ISTIO, LINKERD)


def is_mesh(container: Mapping[str, Any]) -> bool:
    """Whether this container is a mesh's."""
    return container.get("name") in [name for mesh in _ALL for name in (mesh.proxy, mesh.init)]


def mesh_of(workload: Workload, others: Iterable[Resource]) -> Mesh | None:
    """The mesh that the Pod is in, or will be: by its containers, its labels and annotations, or its namespace's."""
    names = [each.get("name") for each in [*workload.containers, *workload.init_containers]]  # whatever was written
    for mesh in _ALL:
        if mesh.proxy in names:
            return mesh
    marks = {**workload.annotations, **workload.labels}
    for each in others:
        if each.kind == "Namespace" and each.name == workload.resource.namespace:
            marks = {**each.annotations, **mapping(mapping(each.data.get("metadata")).get("labels")), **marks}
    if str(marks.get("linkerd.io/inject")) in ("enabled", "ingress"):
        return LINKERD
    wanted = str(marks.get("sidecar.istio.io/inject", marks.get("istio-injection", ""))).lower()
    if wanted in ("false", "disabled"):
        return None
    return ISTIO if wanted in ("true", "enabled") or marks.get("istio.io/rev") else None


def proxy_in_containers(workload: Workload) -> str | None:
    """The mesh's proxy that gets SIGTERM together with the app: one that is no native sidecar."""
    return next((str(each["name"]) for each in workload.containers if is_mesh(each)), None)


def annotations_for(mesh: Mesh, workload: Workload, routes: Sequence[PlannedRoute], admin: int) -> dict[str, str]:
    """What the Pod template's annotations have to say: lists of ports, those that are there kept."""
    there = workload.annotations
    wanted = {mesh.exclude: _joined(there.get(mesh.exclude), [admin])}
    if mesh.include and str(there.get(mesh.include, "*")) != "*":
        wanted[mesh.include] = _joined(there.get(mesh.include), [route.listen for route in routes])
    opaque = [route.listen for route in routes if route.protocol in ("tcp", "any")]
    if mesh.opaque and opaque:
        wanted[mesh.opaque] = _joined(there.get(mesh.opaque), opaque)
    return wanted


def init_overlay(
    mesh: Mesh, workload: Workload, routes: Sequence[PlannedRoute], admin: int
) -> tuple[int, dict[int, str]] | None:
    """Where the mesh's init container stands, and its arguments that list ports, with ours in them.

    None where it is not in the manifest: the mesh reads the annotations then.
    """
    listens = [route.listen for route in routes]
    for index, each in enumerate(workload.init_containers):
        args = each.get("args")
        if each.get("name") != mesh.init or not isinstance(args, list):
            continue
        changes: dict[int, str] = {}
        for flag, ports in ((mesh.ignore_flag, [admin]), (mesh.include_flag, listens)):
            at = args.index(flag) + 1 if flag in args else len(args)
            if at < len(args) and isinstance(args[at], str | int) and args[at] != "*":
                changes[at] = _joined(args[at], ports)
        return (index, changes) if changes else None
    return None


def _joined(there: object, ports: Iterable[int]) -> str:
    """A list of ports as text, with these in it."""
    listed = [word for word in re.split(r"[,\s]+", str(there if there is not None else "")) if word]
    return ",".join([*listed, *(str(port) for port in ports if str(port) not in listed)])
