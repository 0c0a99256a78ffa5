"""What is a rule, and what does it look at? Each rule is one function from the input (`Manifests`) to its hits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.hooks import Hook, read_hook
from drainproxy.tools.manifest.objects import (
    DEFAULT_GRACE_S,
    Path,
    Resource,
    Workload,
    label_selector_matches,
    mapping,
    mappings,
    resources,
    same_namespace,
    service_selects,
    tcp_ports,
    workloads,
)
from drainproxy.tools.manifest.sidecar import Sidecar, find, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from drainproxy.tools.manifest.source import Source


class Severity(Enum):
    """How bad: an error loses requests, a warning does so on a bad day, info is advice."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault: the object, the path in it that the finding points at, and what is wrong there."""

    resource: Resource
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `title`: what it finds; `why`: how that loses requests; `fix`: what to do; `example`: the result."""

    id: str
    slug: str
    severity: Severity
    title: str
    why: str
    fix: str
    example: str
    find: Callable[[Manifests], Iterator[Hit]]


DECLARED: dict[str, Rule] = {}
"""Every rule by id, as the modules beside this one declare them."""


def rule(
    identifier: str, slug: str, severity: Severity, title: str, *, why: str, fix: str, example: str = ""
) -> Callable[[Callable[[Manifests], Iterator[Hit]]], Callable[[Manifests], Iterator[Hit]]]:
    """Register a function as a rule."""

    def register(function: Callable[[Manifests], Iterator[Hit]]) -> Callable[[Manifests], Iterator[Hit]]:
        assert identifier not in DECLARED, f"two rules called {identifier}"
        DECLARED[identifier] = Rule(identifier, slug, severity, title, why, fix, example.strip("\n"), function)
        return function

    return register


@dataclass(frozen=True, eq=False)
class Pods:
    """The Pods of one workload, with what belongs to them in the input."""

    workload: Workload
    manifests: Manifests = field(repr=False)

    @cached_property
    def sidecar(self) -> Sidecar | None:
        return find(self.workload, self.manifests.resources)

    @cached_property
    def services(self) -> list[Resource]:
        nearby = [each for label in self.workload.labels.items() for each in self.manifests.services_by_label(label)]
        return [each for each in dict.fromkeys(nearby) if service_selects(each, self.workload)]

    @property
    def resource(self) -> Resource:
        return self.workload.resource

    @property
    def grace_s(self) -> int:
        """The grace period in force."""
        return self.workload.grace_s if self.workload.grace_s is not None else DEFAULT_GRACE_S

    @property
    def served(self) -> bool:
        """Whether requests come in: a Service selects it, or a container says it listens. A Job's do not."""
        if self.workload.runs_to_completion:
            return False
        return bool(self.services) or any(tcp_ports(each) for _, each in self.apps)

    @cached_property
    def apps(self) -> list[tuple[int, dict[str, Any]]]:
        """The main containers other than drainproxy, with their index."""
        items = self.workload.pod.get("containers")
        found = enumerate(items if isinstance(items, list) else [])
        return [(index, each) for index, each in found if isinstance(each, dict) and not is_drainproxy(each)]

    @cached_property
    def traffic(self) -> list[tuple[int, dict[str, Any]]]:
        """Those that requests go to: behind drainproxy by their port, otherwise those that declare one."""
        if self.sidecar is not None:
            behind = set(self.sidecar.upstream_ports)
            declaring = [(i, c) for i, c in self.apps if any(p["containerPort"] in behind for _, p in tcp_ports(c))]
            return declaring or (self.apps if len(self.apps) == 1 else [])
        return [(index, each) for index, each in self.apps if tcp_ports(each)] or (
            self.apps if len(self.apps) == 1 and self.services else []
        )

    def hooks(self) -> Iterator[tuple[Path, dict[str, Any], Hook]]:
        """Every preStop of a main container or native sidecar: its path, the container, what it does."""
        for where in ("containers", "initContainers"):
            items = self.workload.pod.get(where)
            for index, each in enumerate(items if isinstance(items, list) else []):
                if isinstance(each, dict) and mapping(each.get("lifecycle")).get("preStop"):
                    yield self.at("spec", where, index, "lifecycle", "preStop"), each, read_hook(each)

    def at(self, *path: str | int) -> Path:
        """A path in the resource from one in the Pod template."""
        return (*self.workload.path, *path)

    def at_sidecar(self, *path: str | int) -> Path:
        """A path in the resource from one in drainproxy's container."""
        assert self.sidecar is not None, "asked for the place of a sidecar that is not there"
        return self.at(*self.sidecar.path, *path)

    def env_path(self, option: str) -> Path:
        """Where one of drainproxy's options is written; its container if it is not in `env`."""
        assert self.sidecar is not None, "asked for the option of a sidecar that is not there"
        name = "DRAINPROXY_" + option.upper().replace("-", "_")
        for index, each in enumerate(mappings(self.sidecar.container.get("env"))):
            if each.get("name") == name:
                return self.at_sidecar("env", index)
        return self.at_sidecar()

    @cached_property
    def replicas(self) -> int:
        """How many there are at least: the autoscaler's minimum, else what is written, else 1."""
        for each in self.manifests.autoscalers(self.resource):
            least = each.spec.get("minReplicas", 1)
            return least if isinstance(least, int) else 1
        written = self.resource.spec.get("replicas", 1)
        return written if isinstance(written, int) else 1

    @cached_property
    def budgets(self) -> list[Resource]:
        """The PodDisruptionBudgets that cover them."""
        return [
            each
            for each in self.manifests.of("PodDisruptionBudget")
            if same_namespace(each, self.resource)
            and label_selector_matches(each.spec.get("selector"), self.workload.labels)
        ]


class Manifests:
    """The whole input, read once."""

    def __init__(self, sources: list[Source]) -> None:
        self.resources = tuple(resources(sources))
        self.pods = [Pods(each, self) for each in workloads(self.resources)]
        self._kinds: defaultdict[str, list[Resource]] = defaultdict(list)
        for each in self.resources:
            self._kinds[each.kind].append(each)

    def of(self, kind: str) -> list[Resource]:
        """The objects of one kind."""
        return self._kinds.get(kind, [])

    def services_by_label(self, label: tuple[str, Any]) -> list[Resource]:
        """The Services whose selector begins with this label: whoever they select has it."""
        return self._services.get(_hashable(label), [])

    @cached_property
    def _services(self) -> dict[Hashable, list[Resource]]:
        found: defaultdict[Hashable, list[Resource]] = defaultdict(list)
        for each in self.of("Service"):
            for label in list(mapping(each.spec.get("selector")).items())[:1]:
                found[_hashable(label)].append(each)
        return dict(found)

    def autoscalers(self, resource: Resource) -> list[Resource]:
        """The HorizontalPodAutoscalers of a workload."""
        found = self._autoscalers.get((resource.kind, resource.name), [])
        return [each for each in found if same_namespace(each, resource)]

    @cached_property
    def _autoscalers(self) -> dict[tuple[str, str], list[Resource]]:
        found: defaultdict[tuple[str, str], list[Resource]] = defaultdict(list)
        for each in self.of("HorizontalPodAutoscaler"):
            target = mapping(each.spec.get("scaleTargetRef"))
            found[str(target.get("kind")), str(target.get("name"))].append(each)
        return dict(found)

    def behind(self, service: Resource) -> list[Pods]:
        """The Pods that a Service selects."""
        return self._behind.get(service, [])

    @cached_property
    def _behind(self) -> dict[Resource, list[Pods]]:
        found: defaultdict[Resource, list[Pods]] = defaultdict(list)
        for pods in self.pods:
            for service in pods.services:
                found[service].append(pods)
        return dict(found)

    def proxied(self) -> Iterator[tuple[Pods, Sidecar]]:
        """The Pods that have drainproxy."""
        for each in self.pods:
            if each.sidecar is not None:
                yield each, each.sidecar

    def served(self) -> Iterator[Pods]:
        """The Pods that requests come in to."""
        return (each for each in self.pods if each.served)


def _hashable(label: tuple[str, Any]) -> Hashable:
    """A label as a key: manifests in the wild have lists where texts belong, and 1 is not true."""
    return label[0], type(label[1]), str(label[1])
