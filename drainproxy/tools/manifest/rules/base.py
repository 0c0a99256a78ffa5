"""What is a rule? A function from the input to its hits, with what a reader needs to know about the fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drainproxy.tools.manifest.objects import Path, Resource
    from drainproxy.tools.manifest.rules.view import Manifests


class Severity(Enum):
    """How bad. The order is from worst to mildest."""

    ERROR = "error"
    """Requests are lost at every rollout of a workload that a Service selects; or it cannot be rolled out at all."""
    WARNING = "warning"
    """Requests are lost on a bad day."""
    INFO = "info"
    """Advice; and any fault of Pods that no requests come in to."""

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault: the object, the path in it that the finding points at, and what is wrong there.

    `severity`: milder than the rule's, where this case is.
    """

    resource: Resource
    path: Path
    message: str
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `title`: what it finds; `why`: how that loses requests; `fix`: what to do; `example`: the result.

    `severity` is that of its worst case. `always`: it does not depend on whether requests come in to the Pods.
    """

    id: str
    slug: str
    severity: Severity
    title: str
    why: str
    fix: str
    example: str
    always: bool
    find: Callable[[Manifests], Iterator[Hit]]


IGNORE = "drainproxy.io/ignore"
"""An annotation on an object: rule ids or names, separated by commas, that do not apply to it."""

DECLARED: dict[str, Rule] = {}
"""Every rule by id, as the modules beside this one declare them."""


def rule(
    identifier: str,
    slug: str,
    severity: Severity,
    title: str,
    *,
    why: str,
    fix: str,
    example: str = "",
    always: bool = False,
) -> Callable[[Callable[[Manifests], Iterator[Hit]]], Callable[[Manifests], Iterator[Hit]]]:
    """Register a function as a rule."""

    def register(function: Callable[[Manifests], Iterator[Hit]]) -> Callable[[Manifests], Iterator[Hit]]:
        assert identifier not in DECLARED, f"two rules called {identifier}"
        text = example.strip("\n")
        DECLARED[identifier] = Rule(identifier, slug, severity, title, why, fix, text, always, function)
        return function

    return register


def ignored_by(resource: Resource) -> list[str]:
    """The rules that an object's annotation leaves out, as written."""
    return [name for each in str(resource.annotations.get(IGNORE, "")).split(",") if (name := each.strip())]
