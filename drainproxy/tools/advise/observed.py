"""What is a drain that somebody observed, and of which workload? What every source delivers. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.drain.advice import Drain, Times
from drainproxy.drain.phase import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUFFIX = re.compile(r"(-[a-z0-9]{6,10})?-[a-z0-9]{5}$|-\d+$")
"""What Kubernetes puts behind a workload's name to name its Pods: a hash and five characters, five, or a number."""


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """Whose Pods. `kind` is empty where the source does not tell it."""

    namespace: str
    name: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Observed:
    """One drain of one Pod. `at`: unix time of its beginning, to tell which is the latest."""

    workload: Workload
    at: float
    drain: Drain


def workload_of_pod(pod: str) -> str:
    """The workload's name, guessed from its Pod's."""
    return _SUFFIX.sub("", pod)


def read_summary(workload: Workload, facts: Mapping[str, Any]) -> Observed | None:
    """A drain from its summary, as log, termination message and `/drain` give it.

    None: it was called off, or is of a version that tells less.
    """
    if facts.get("outcome") in (None, Outcome.RESUMED.value):
        return None
    try:
        return Observed(workload, float(facts["started_at"]), _drain(facts))
    except (KeyError, TypeError, ValueError):
        return None


def _drain(facts: Mapping[str, Any]) -> Drain:
    return Drain(
        times=Times.read(facts["times"]),
        outcome=facts["outcome"],
        elapsed_s=float(facts["elapsed_s"]),
        late=int(facts["late"]),
        last_arrival_s=facts["last_arrival_s"],
        arrivals=int(facts["arrivals"]),
        cut=int(facts["cut_total"]),
        broken=int(facts["broken"]),
        released=facts.get("let_go_s") is not None,
        handed_over=int(facts.get("handed_over", 0)),
    )
