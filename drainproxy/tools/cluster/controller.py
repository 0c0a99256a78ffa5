"""What does a Deployment do next? How many Pods to create and which to delete during a rolling update.

Pure. As in the Deployment controller (kubernetes pkg/controller/deployment/rolling.go): terminating Pods do not count,
new Pods come as far as `max_surge` allows, old ones go as far as `max_unavailable` allows, broken ones first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Strategy:
    """`spec.replicas`, `spec.strategy.rollingUpdate` and `spec.minReadySeconds`, as absolute numbers."""

    replicas: int
    max_surge: int = 1
    max_unavailable: int = 0
    min_ready_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PodFact:
    """What the controller knows of a Pod. `ready_since_s`: since when without a break; None if it is not ready."""

    name: str
    revision: int
    terminating: bool
    ready_since_s: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """Create so many Pods of the current revision, delete these. `look_again_s`: when a Pod becomes available by time
    alone, at the earliest; None if nothing is to be expected from time."""

    create: int
    delete: tuple[str, ...]
    look_again_s: float | None
    done: bool


def next_step(strategy: Strategy, revision: int, pods: Sequence[PodFact], now_s: float) -> Step:
    """The controller's answer to the Pods as they are. `done`: only available Pods of `revision` are left to run."""
    alive = [pod for pod in pods if not pod.terminating]
    new = [pod for pod in alive if pod.revision == revision]
    old = [pod for pod in alive if pod.revision != revision]
    available = {pod.name for pod in alive if _available(pod, strategy, now_s)}
    room = strategy.replicas + strategy.max_surge - len(alive)
    create = max(min(room, strategy.replicas - len(new)), 0)
    surplus = max(len(new) - strategy.replicas, 0)
    delete = tuple(pod.name for pod in _worst_first(new, available)[:surplus])
    delete += _scale_down(strategy, new, old, available)
    done = not old and not create and not surplus and all(pod.name in available for pod in new)
    return Step(create, delete, _look_again(alive, strategy, now_s), done)


def _available(pod: PodFact, strategy: Strategy, now_s: float) -> bool:
    return pod.ready_since_s is not None and now_s - pod.ready_since_s >= strategy.min_ready_s


def _scale_down(
    strategy: Strategy, new: Sequence[PodFact], old: Sequence[PodFact], available: set[str]
) -> tuple[str, ...]:
    """Old Pods to delete: unavailable ones cost nobody anything, of the others as many as the minimum leaves."""
    minimum = strategy.replicas - strategy.max_unavailable
    new_unavailable = sum(pod.name not in available for pod in new)
    most = max(len(new) + len(old) - minimum - new_unavailable, 0)
    broken = [pod.name for pod in old if pod.name not in available][:most]
    healthy = [pod.name for pod in old if pod.name in available]
    spare = max(len(available) - minimum, 0)
    return (*broken, *healthy[: min(spare, most - len(broken))])


def _worst_first(pods: Sequence[PodFact], available: set[str]) -> list[PodFact]:
    """Unavailable Pods go before available ones (rank by readiness, ReplicaSet)."""
    return sorted(pods, key=lambda pod: pod.name in available)


def _look_again(alive: Sequence[PodFact], strategy: Strategy, now_s: float) -> float | None:
    waits = [
        pod.ready_since_s + strategy.min_ready_s - now_s
        for pod in alive
        if pod.ready_since_s is not None and now_s - pod.ready_since_s < strategy.min_ready_s
    ]
    return min(waits, default=None)
