"""Does every name and selector lead somewhere? Rules on what refers to something else in the input.

What a name leads to may be applied elsewhere, so a reference into nothing is only advice, unless there is something in
the input that was most likely meant. What is found and does not fit is an error.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import (
    TEMPLATES,
    Path,
    Resource,
    mapping,
    mappings,
    same_namespace,
    selector_labels,
)
from drainproxy.tools.manifest.rules.base import DECLARED, IGNORE, Hit, Severity, ignored_by, rule
from drainproxy.tools.manifest.rules.view import SELECTORS, Manifests, Pods

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALIKE = 0.7
"""Two texts that are this much alike (difflib) may be one text, mistyped."""
_GOOD_SELECTOR = """
kind: Service
spec:
  selector: {app: web}     # as in the Pod template's labels
"""


@rule(
    "DP411",
    "selects-nothing",
    Severity.WARNING,
    "a selector matches no Pod of the input",
    why="A Service without Pods refuses every connection; a PodDisruptionBudget or NetworkPolicy without Pods has no "
    "effect, and Kubernetes does not report it. Usually a label was changed in one place only.",
    fix="Write the labels of the Pod template into the selector. If the Pods come from elsewhere (an operator), ignore "
    "this on the object.",
    example=_GOOD_SELECTOR,
)
def selects_nothing(manifests: Manifests) -> Iterator[Hit]:
    for kind in SELECTORS:
        for each in manifests.of(kind):
            labels = selector_labels(each)
            if not labels or manifests.behind(each):
                continue
            there = [pods for pods in manifests.pods if same_namespace(pods.resource, each)]
            meant = next((pods for pods in there if _is_nearly(labels, pods, each)), None)
            path: Path = ("spec", "podSelector" if kind == "NetworkPolicy" else "selector")
            asked = ", ".join(f"{key}: {value}" for key, value in labels.items())
            if meant is not None:
                has = ", ".join(f"{key}: {meant.workload.labels.get(key, '(none)')}" for key in labels)
                yield Hit(each, path, f"nothing has {asked}; {meant.resource} has {has}")
            elif there:
                yield Hit(each, path, f"nothing in the input has {asked}", Severity.INFO)


def _is_nearly(labels: dict[str, Any], pods: Pods, selecting: Resource) -> bool:
    """Whether these Pods were most likely meant: all labels fit but one, and that one nearly, or by the name."""
    own = pods.workload.labels
    wrong = [key for key, value in labels.items() if own.get(key) != value]
    if len(wrong) != 1:
        return False
    return _is_typo(str(labels[wrong[0]]), str(own.get(wrong[0], ""))) or pods.resource.name == selecting.name


def _is_typo(one: str, other: str) -> bool:
    """Whether two texts are one, mistyped. Names that differ by their number, or by a part, are two."""
    if abs(len(one) - len(other)) > 1 or re.sub(r"\d", "", one) == re.sub(r"\d", "", other):
        return False
    return SequenceMatcher(None, one, other).ratio() >= _ALIKE


@rule(
    "DP412",
    "target-missing",
    Severity.WARNING,
    "this object refers to something that is not in the input",
    why="An Ingress or route without its Service answers 503; an autoscaler without its workload scales nothing. This "
    "is correct if the target is applied from elsewhere, and a mistake if its name was changed in one place only.",
    fix="Write the target's name.",
    example="""
kind: HorizontalPodAutoscaler
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
""",
)
def target_missing(manifests: Manifests) -> Iterator[Hit]:
    for each in manifests.of("HorizontalPodAutoscaler"):
        target = mapping(each.spec.get("scaleTargetRef"))
        if target.get("kind") in TEMPLATES:
            found = [pods.resource for pods in manifests.pods]
            yield from _missing(
                each, ("spec", "scaleTargetRef", "name"), str(target["kind"]), target.get("name"), found
            )
    for each, path, name, _ in _backends(manifests):
        yield from _missing(each, path, "Service", name, manifests.of("Service"))


def _missing(source: Resource, path: Path, kind: str, name: Any, found: list[Resource]) -> Iterator[Hit]:
    near = [each for each in found if same_namespace(each, source)]
    if not near or not isinstance(name, str) or any(each.kind == kind and each.name == name for each in near):
        return
    meant = next((each for each in near if _is_meant(each, kind, name, source)), None)
    if meant is not None:
        yield Hit(source, path, f"there is no {kind}/{name}; there is {meant}")
    else:
        yield Hit(source, path, f"no {kind}/{name} in the input", Severity.INFO)


def _is_meant(each: Resource, kind: str, name: str, source: Resource) -> bool:
    """The same name in another kind, a name mistyped, or what has the name of whoever aims."""
    return each.name == name or (each.kind == kind and (_is_typo(each.name, name) or each.name == source.name))


@rule(
    "DP413",
    "target-port-missing",
    Severity.ERROR,
    "an Ingress or route names a port that the Service does not have",
    why="The controller finds no endpoints for it: every request is answered 503.",
    fix="Write the Service's port: the number under `port` or its name, not the container's.",
    example="""
kind: Ingress
spec:
  defaultBackend:
    service: {name: web, port: {number: 80}}
""",
)
def target_port_missing(manifests: Manifests) -> Iterator[Hit]:
    services = {(each.namespace, each.name): each for each in manifests.of("Service")}
    for each, path, name, port in _backends(manifests):
        service = services.get((each.namespace, str(name)))
        if service is None or port is None or service.spec.get("type") == "ExternalName":
            continue
        ports = mappings(service.spec.get("ports"))
        known = [*(one.get("port") for one in ports), *(one.get("name") for one in ports)]
        if port not in known:
            listed = ", ".join(str(one) for one in known if one is not None)
            yield Hit(each, path, f"{service} has no port {port}; it has {listed or 'none'}")


_ROUTES = ("HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")


def _backends(manifests: Manifests) -> Iterator[tuple[Resource, Path, Any, Any]]:
    """What every Ingress and Gateway route leads to: the object, the place, the Service's name, its port."""
    for each in manifests.of("Ingress"):
        yield from _backend(each, ("spec", "defaultBackend"), each.spec.get("defaultBackend"))
        yield from _backend(each, ("spec", "backend"), each.spec.get("backend"))
        for at, one in enumerate(mappings(each.spec.get("rules"))):
            for index, entry in enumerate(mappings(mapping(one.get("http")).get("paths"))):
                path: Path = ("spec", "rules", at, "http", "paths", index, "backend")
                yield from _backend(each, path, entry.get("backend"))
    for kind in _ROUTES:
        for each in manifests.of(kind):
            for at, one in enumerate(mappings(each.spec.get("rules"))):
                for index, entry in enumerate(mappings(one.get("backendRefs"))):
                    is_near = entry.get("namespace") in (None, each.namespace)
                    if entry.get("kind", "Service") == "Service" and is_near:
                        yield each, ("spec", "rules", at, "backendRefs", index), entry.get("name"), entry.get("port")


def _backend(each: Resource, path: Path, backend: Any) -> Iterator[tuple[Resource, Path, Any, Any]]:
    """As networking.k8s.io/v1 writes it, and as v1beta1 did."""
    service = mapping(mapping(backend).get("service"))
    if service:
        port = mapping(service.get("port"))
        yield each, (*path, "service", "name"), service.get("name"), port.get("number", port.get("name"))
    elif mapping(backend).get("serviceName"):
        old = mapping(backend)
        yield each, (*path, "serviceName"), old.get("serviceName"), old.get("servicePort")


@rule(
    "DP702",
    "unknown-rule",
    Severity.WARNING,
    "the ignore annotation names a rule that does not exist",
    why="It has no effect, and the rule that was meant is still applied.",
    fix="Write an id or a name from `drainproxy check --list`.",
    example=f"""
metadata:
  annotations:
    {IGNORE}: DP505, one-replica
""",
    always=True,
)
def unknown_rule(manifests: Manifests) -> Iterator[Hit]:
    known = {*DECLARED, *(each.slug for each in DECLARED.values())}
    for each in manifests.resources:
        if IGNORE.partition("/")[0] not in each.text:
            continue
        for name in ignored_by(each):
            if name not in known:
                alike = get_close_matches(name, sorted(known), 1)
                hint = f"; did you mean {alike[0]}?" if alike else ""
                yield Hit(each, ("metadata", "annotations", IGNORE), f"there is no rule {name!r}{hint}")
