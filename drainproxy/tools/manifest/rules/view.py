"""What does the input look like to a rule? Pods with what belongs to them; objects by kind, label and target."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.hooks import Hook, read_hook
from drainproxy.tools.manifest.objects import (
    DEFAULT_GRACE_S,
    GIVEN_LABELS,
    Path,
    Resource,
    Workload,
    mapping,
    mappings,
    resources,
    same_namespace,
    selector_labels,
    selects,
    tcp_ports,
    workloads,
)
from drainproxy.tools.manifest.protocols import is_aside
from drainproxy.tools.manifest.sidecar import Sidecar, find, is_drainproxy

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from drainproxy.tools.manifest.source import Source

SELECTORS = ("Service", "PodDisruptionBudget", "NetworkPolicy")
"""The kinds that select Pods by label."""
_EXPORTER = re.compile(r"(?:.*-)?(?:metrics|exporter)")
"""Names of Services that only monitoring asks."""
_NOT_ROLLED_OUT = ("Pod", "ReplicaSet", "ReplicationController")
"""Kinds whose Pods no change of the template replaces."""


class Traffic(Enum):
    """Whether requests come in to Pods, as far as the input tells."""

    YES = "yes"
    PERHAPS = "perhaps"
    NO = "no"


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
        """The Services that select them."""
        return self.manifests.selecting("Service", self.workload)

    @cached_property
    def budgets(self) -> list[Resource]:
        """The PodDisruptionBudgets that cover them."""
        return self.manifests.selecting("PodDisruptionBudget", self.workload)

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
        if self.workload.runs_to_completion or self._only_sleep:
            return False
        return bool(self.services) or any(tcp_ports(each) for _, each in self.apps)

    @cached_property
    def _only_sleep(self) -> bool:
        return all(_only_sleeps(app) for _, app in self.apps)

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
    def requests(self) -> Traffic:
        """Whether requests come in: what loses them is no error where there are none.

        A Service with ports for monitoring only brings none. Without any Service in the input a declared port may have
        one elsewhere; not that of a bare Pod. What is not rolled out loses nothing at every rollout.
        """
        if self.sidecar is not None:
            return Traffic.YES
        if self.workload.runs_to_completion or self._only_sleep:
            return Traffic.NO
        ports = [port for _, app in self.apps for _, port in tcp_ports(app)]
        if any(brings_requests(each) for each in self.services) or any(port.get("hostPort") for port in ports):
            return Traffic.PERHAPS if self.resource.kind in _NOT_ROLLED_OUT else Traffic.YES
        if self.resource.kind in _NOT_ROLLED_OUT:
            return Traffic.NO
        declared = any(not is_aside(str(port.get("name") or "")) for port in ports)
        return Traffic.PERHAPS if declared and not self.manifests.has_services_near(self.resource) else Traffic.NO

    @cached_property
    def has_own_volume(self) -> bool:
        """Whether they keep data on a volume that one node mounts: a single writer, most likely.

        A claim that is not in the input is taken for one: ReadWriteOnce is what nearly all of them are.
        """
        claims = [mapping(each.get("spec")) for each in mappings(self.resource.spec.get("volumeClaimTemplates"))]
        for volume in mappings(self.workload.pod.get("volumes")):
            name = mapping(volume.get("persistentVolumeClaim")).get("claimName")
            if name:
                there = [each.spec for each in self.manifests.of("PersistentVolumeClaim") if each.name == name]
                claims.append(there[0] if there else {})
        return any("ReadWriteMany" not in (each.get("accessModes") or []) for each in claims)


def brings_requests(service: Resource) -> bool:
    """Whether a Service has a port that is not for monitoring only."""
    return not _EXPORTER.fullmatch(service.name) and any(
        not any(is_aside(str(port.get(key) or "")) for key in ("name", "targetPort"))
        for port in mappings(service.spec.get("ports"))
    )


def _only_sleeps(container: dict[str, Any]) -> bool:
    """Whether a container waits for somebody to log in, and serves nobody."""
    words = [str(word) for key in ("command", "args") for word in (container.get(key) or [])]
    return bool(words) and words[0].rsplit("/", 1)[-1] == "sleep"


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

    def selecting(self, kind: str, workload: Workload) -> list[Resource]:
        """The objects of a kind (one of SELECTORS) that select a workload's Pods."""
        nearby = [
            each
            for label in (None, *workload.labels.items())
            for each in self._by_label.get((kind, _hashable(label)), [])
        ]
        return [each for each in dict.fromkeys(nearby) if selects(each, workload)]

    @cached_property
    def _by_label(self) -> dict[tuple[str, Hashable], list[Resource]]:
        """Each under one label that whoever it selects has; under None, where it asks for none."""
        found: defaultdict[tuple[str, Hashable], list[Resource]] = defaultdict(list)
        for kind in SELECTORS:
            for each in self.of(kind):
                asked = (item for item in selector_labels(each).items() if item[0] not in GIVEN_LABELS)
                label = next(asked, None)
                found[kind, _hashable(label)].append(each)
        return dict(found)

    def has_services_near(self, resource: Resource) -> bool:
        """Whether the input holds any Service of this namespace."""
        spaces = self._service_namespaces
        return bool(spaces) and (not resource.namespace or "" in spaces or resource.namespace in spaces)

    @cached_property
    def _service_namespaces(self) -> set[str]:
        return {each.namespace for each in self.of("Service")}

    def made_by(self, resource: Resource) -> Pods | None:
        """The Pods of a workload; None if it is none."""
        return self._made_by.get(resource)

    @cached_property
    def _made_by(self) -> dict[Resource, Pods]:
        return {each.resource: each for each in self.pods}

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

    def behind(self, selector: Resource) -> list[Pods]:
        """The Pods that an object (of one of SELECTORS) selects."""
        return self._behind.get(selector, [])

    @cached_property
    def _behind(self) -> dict[Resource, list[Pods]]:
        found: defaultdict[Resource, list[Pods]] = defaultdict(list)
        for pods in self.pods:
            for kind in SELECTORS:
                for each in self.selecting(kind, pods.workload):
                    found[each].append(pods)
        return dict(found)

    def proxied(self) -> Iterator[tuple[Pods, Sidecar]]:
        """The Pods that have drainproxy."""
        for each in self.pods:
            if each.sidecar is not None:
                yield each, each.sidecar

    def served(self) -> Iterator[Pods]:
        """The Pods that requests come in to."""
        return (each for each in self.pods if each.served)


def _hashable(label: tuple[str, Any] | None) -> Hashable:
    """A label as a key: manifests in the wild have lists where texts belong, and 1 is not true."""
    return label and (label[0], type(label[1]), str(label[1]))
