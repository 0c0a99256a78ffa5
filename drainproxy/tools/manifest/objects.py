"""Which Kubernetes objects are in the input, and how do they refer to each other?

Workloads and their Pod templates, Services that select them, policies that let traffic in. Facts only; what to add is
`inject`'s, what to find fault with is `rules`'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.source import Document, Node, Source, data_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Path = tuple[str | int, ...]

TEMPLATES: dict[str, Path] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "DeploymentConfig": ("spec", "template"),
    "CloneSet": ("spec", "template"),
    "Rollout": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where each kind keeps its Pod template. A Pod is its own; Rollout is Argo's, CloneSet OpenKruise's."""

DEFAULT_GRACE_S = 30
"""What the API server fills in for terminationGracePeriodSeconds (Kubernetes API reference, PodSpec)."""


@dataclass(frozen=True, eq=False)
class Resource:
    """One object: where it stands, and what it says. What it says is read when it is first asked for."""

    source: Source
    document: int
    kind: str
    read: Callable[[], Node | None] = field(repr=False)

    @property
    def text(self) -> str:
        """The text of the document that it stands in."""
        return self.source.documents[self.document].text

    @cached_property
    def node(self) -> Node:
        node = self.read()
        assert node is not None, "a kind was read where nothing stands"
        return node

    @cached_property
    def data(self) -> dict[str, Any]:
        return mapping(data_of(self.node))

    @property
    def api_version(self) -> str:
        return str(self.data.get("apiVersion", ""))

    @property
    def name(self) -> str:
        metadata = mapping(self.data.get("metadata"))
        return str(metadata.get("name") or metadata.get("generateName") or "?")

    @property
    def namespace(self) -> str:
        return str(mapping(self.data.get("metadata")).get("namespace") or "")

    @property
    def annotations(self) -> dict[str, Any]:
        return mapping(mapping(self.data.get("metadata")).get("annotations"))

    @property
    def is_live(self) -> bool:
        """Whether it was read from a cluster: its defaults are written out, and controllers set numbers in it."""
        return "uid" in mapping(self.data.get("metadata"))

    @property
    def spec(self) -> dict[str, Any]:
        return mapping(self.data.get("spec"))

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, eq=False)
class Workload:
    """A resource that makes Pods, seen from its Pod template."""

    resource: Resource
    path: Path

    @cached_property
    def template(self) -> dict[str, Any]:
        return mapping(at_path(self.resource.data, self.path))

    @cached_property
    def pod(self) -> dict[str, Any]:
        """The PodSpec."""
        return mapping(self.template.get("spec"))

    @cached_property
    def labels(self) -> dict[str, Any]:
        return mapping(mapping(self.template.get("metadata")).get("labels"))

    @cached_property
    def annotations(self) -> dict[str, Any]:
        return mapping(mapping(self.template.get("metadata")).get("annotations"))

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        return mappings(self.pod.get("containers"))

    @cached_property
    def init_containers(self) -> list[dict[str, Any]]:
        return mappings(self.pod.get("initContainers"))

    @cached_property
    def grace_s(self) -> int | None:
        """terminationGracePeriodSeconds as written; None where it is not."""
        grace = self.pod.get("terminationGracePeriodSeconds")
        return grace if isinstance(grace, int) else None

    @property
    def runs_to_completion(self) -> bool:
        return self.resource.kind in ("Job", "CronJob")

    def __str__(self) -> str:
        return str(self.resource)


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a map, else an empty one: manifests in the wild have nulls where maps belong."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """The maps in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def at_path(data: Any, path: Iterable[str | int]) -> Any:
    """What lies at a path, or None."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def node_at(node: Node, path: Iterable[str | int]) -> Node:
    """The node at a path, or the nearest one above it that is written: a finding needs a line."""
    for step in path:
        inner = node.resolved
        if isinstance(step, int):
            below = inner.items[step] if inner.kind == "seq" and step < len(inner.items) else None
        else:
            below = _value_of(inner, step)
        if below is None:
            return node
        node = below
    return node


def key_position(node: Node, path: Path) -> int:
    """Where a finding points: the key of the last step that is written, or the list item."""
    position = node.start
    for depth, step in enumerate(path):
        parent = node_at(node, path[:depth]).resolved
        if isinstance(step, int):
            if parent.kind != "seq" or step >= len(parent.items):
                return position
            position = parent.items[step].start
        else:
            found = next((key for key, _ in parent.pairs if key.value == step), None)
            if found is None:
                return position
            position = found.start
    return position


def _value_of(node: Node, key: str) -> Node | None:
    own = node.get(key)
    if own is not None:
        return own
    for name, value in node.pairs:
        if name.value == "<<":
            merged = value.resolved.items if value.resolved.kind == "seq" else [value]
            for each in merged:
                brought = _value_of(each.resolved, key)
                if brought is not None:
                    return brought
    return None


def resources(sources: Iterable[Source]) -> list[Resource]:
    """Every object of the input, those inside a List too, in the order of the text."""
    return [found for source in sources for found in _resources_of(source)]


def _resources_of(source: Source) -> Iterator[Resource]:
    for document in source.documents:
        if document.kind and not document.kind.endswith("List"):
            yield Resource(source, document.index, document.kind, partial(_root_of, document))
        elif document.root is not None:
            yield from _objects(source, document.index, document.root)


def _root_of(document: Document) -> Node | None:
    return document.root


def _objects(source: Source, index: int, node: Node) -> Iterator[Resource]:
    kind = data_of(_value_of(node.resolved, "kind"))
    if not isinstance(kind, str):
        return
    items = node.resolved.get("items")
    if kind.endswith("List") and items is not None:
        for item in items.resolved.items:
            yield from _objects(source, index, item)
        return
    yield Resource(source, index, kind, partial(_same, node))


def _same(node: Node) -> Node:
    return node


def resource_of(data: dict[str, Any]) -> Resource:
    """An object that comes from an API and has no text: for those who only ask what it says."""
    resource = Resource(_NO_SOURCE, 0, str(data.get("kind", "")), _nowhere)
    vars(resource)["data"] = data
    return resource


def _nowhere() -> None:
    return None


_NO_SOURCE = Source("", "", (Document(0, "", "", _nowhere),))


def workloads(found: Iterable[Resource]) -> list[Workload]:
    """Those that make Pods; not what another of them, or a node, has made (as a cluster shows it)."""
    return [
        Workload(each, TEMPLATES[each.kind])
        for each in found
        if each.kind in TEMPLATES
        and isinstance(at_path(each.data, (*TEMPLATES[each.kind], "spec")), dict)
        and not _is_made(each)
    ]


def _is_made(resource: Resource) -> bool:
    return controller_of(resource.data).get("kind") in (*TEMPLATES, "Node")


def controller_of(data: dict[str, Any]) -> dict[str, Any]:
    """The reference to whose controller made this object; empty if somebody applied it."""
    owners = mappings(mapping(data.get("metadata")).get("ownerReferences"))
    return next((each for each in owners if each.get("controller") is True), {})


def why_not(resource: Resource) -> str:
    """Why an object that makes Pods cannot be given a sidecar; empty for those that can, and for all else."""
    if resource.kind == "Service" and resource.api_version.startswith("serving.knative.dev/"):
        return (
            "a Knative Service: its queue-proxy is in front of the app and drains already, and Knative does not "
            "allow lifecycle hooks or another grace period"
        )
    if resource.kind == "Rollout" and resource.spec.get("workloadRef"):
        reference = mapping(resource.spec["workloadRef"])
        return f"takes its Pod template from {reference.get('kind')}/{reference.get('name')}: inject that one"
    return ""


def same_namespace(one: Resource, other: Resource) -> bool:
    """In one namespace, as far as the text says: a missing one is filled in by `kubectl -n` or kustomize."""
    return not one.namespace or not other.namespace or one.namespace == other.namespace


def service_selects(service: Resource, workload: Workload) -> bool:
    """Whether a Service's traffic goes to this workload's Pods."""
    if service.kind != "Service" or service.api_version not in ("v1", ""):
        return False  # Knative's have the same kind
    selector = mapping(service.spec.get("selector"))
    return (
        bool(selector)
        and same_namespace(service, workload.resource)
        and all(_has_label(workload, key, value) for key, value in selector.items())
    )


GIVEN_LABELS = ("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index")
"""Labels that the StatefulSet controller gives to each Pod: a Service of one replica selects by them."""


def _has_label(workload: Workload, key: str, value: Any) -> bool:
    """Whether some Pod of the workload has this label."""
    if key not in GIVEN_LABELS or workload.resource.kind != "StatefulSet":
        return bool(workload.labels.get(key) == value)
    return key == GIVEN_LABELS[1] or re.fullmatch(re.escape(workload.resource.name) + r"-\d+", str(value)) is not None


def selector_labels(resource: Resource) -> dict[str, Any]:
    """The labels that a Service, PodDisruptionBudget or NetworkPolicy asks for; of the latter two, its matchLabels."""
    if resource.kind == "Service":
        return mapping(resource.spec.get("selector"))
    return mapping(mapping(_label_selector(resource)).get("matchLabels"))


def _label_selector(resource: Resource) -> Any:
    return resource.spec.get("podSelector" if resource.kind == "NetworkPolicy" else "selector")


def selects(resource: Resource, workload: Workload) -> bool:
    """Whether a Service, PodDisruptionBudget or NetworkPolicy selects a workload's Pods."""
    if resource.kind == "Service":
        return service_selects(resource, workload)
    return same_namespace(resource, workload.resource) and label_selector_matches(
        _label_selector(resource), workload.labels
    )


def label_selector_matches(selector: Any, labels: dict[str, Any]) -> bool:
    """A LabelSelector (matchLabels and matchExpressions); an empty one matches everything."""
    selector = mapping(selector)
    if any(labels.get(key) != value for key, value in mapping(selector.get("matchLabels")).items()):
        return False
    return all(_expression_matches(each, labels) for each in mappings(selector.get("matchExpressions")))


def _expression_matches(expression: dict[str, Any], labels: dict[str, Any]) -> bool:
    key, written = str(expression.get("key")), expression.get("values")
    values = written if isinstance(written, list) else []
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def is_native_sidecar(container: dict[str, Any]) -> bool:
    """An init container that stays: `restartPolicy: Always`."""
    return container.get("restartPolicy") == "Always"


def tcp_ports(container: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The declared TCP ports with their index in the list."""
    ports = container.get("ports")
    return [
        (index, port)
        for index, port in enumerate(ports if isinstance(ports, list) else [])
        if isinstance(port, dict)
        and port.get("protocol", "TCP") == "TCP"
        and isinstance(port.get("containerPort"), int)
        and isinstance(port.get("name", ""), str | None)
    ]


def port_by_name(workload: Workload, name: str) -> int | None:
    """The number a Service's named targetPort leads to: main containers first, then native sidecars.

    As the EndpointSlice controller does it since Kubernetes 1.32 (kubernetes#128850); before, only main containers.
    """
    native = [each for each in workload.init_containers if is_native_sidecar(each)]
    for container in [*workload.containers, *native]:
        for _, port in tcp_ports(container):
            if port.get("name") == name:
                return int(port["containerPort"])
    return None
