"""What is a Pod in the miniature cluster? The part of the Pod spec that decides how Pods start and end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HttpGet:
    """An httpGet of a probe or hook. A named `port` is looked up among the ports of the container that has it."""

    path: str
    port: int | str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exec:
    """A command run beside the container, in its network."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """A hook that waits. Seconds."""

    seconds: float


Hook = HttpGet | Exec | Sleep


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe with Kubernetes' defaults, but for the period: tests have no ten seconds."""

    check: HttpGet
    period_s: float = 10.0
    timeout_s: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    initial_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Container:
    """One container. In `command`, `$(NAME)` stands for a variable of the Pod's environment, as in a manifest.

    `native_sidecar`: an init container with `restartPolicy: Always`.
    """

    name: str
    command: tuple[str, ...]
    ports: Mapping[str, int] = field(default_factory=dict)
    pre_stop: Hook | None = None
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    native_sidecar: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A Pod template. `service_port` is the name of the port that its Service sends traffic to."""

    containers: tuple[Container, ...]
    service_port: str
    grace_period_s: float = 30.0

    @property
    def sidecars(self) -> tuple[Container, ...]:
        """Native sidecars, in order of start."""
        return tuple(each for each in self.containers if each.native_sidecar)

    @property
    def mains(self) -> tuple[Container, ...]:
        """Main containers, classic sidecars among them."""
        return tuple(each for each in self.containers if not each.native_sidecar)


_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value; an unknown name stays as it is, as in Kubernetes."""
    return _REFERENCE.sub(lambda match: env.get(match[1], match[0]), text)
