"""What is shown of each Pod, in which order? Status documents in, rows and lines out. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.drain.advice import many
from drainproxy.drain.phase import Phase, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GONE = "gone"
SILENT = "no answer"
STATES = (
    *(State.DRAINING.value, State.DRAINED.value, SILENT, State.STARTING.value, State.UNREADY.value),
    *(State.READY.value, GONE),
)
"""In the order in which they are of interest during a rollout."""
HEAD = ("NAMESPACE", "POD", "STATE", "PHASE", "IN FLIGHT", "OLDEST", "DRAIN", "DEADLINE", "LATE", "OUTCOME", "VERSION")
RIGHT = frozenset({"IN FLIGHT", "OLDEST", "DRAIN", "DEADLINE", "LATE"})


@dataclass(frozen=True, slots=True)
class Row:
    """One Pod. Seconds; None: does not apply. `error`: why there is no status."""

    namespace: str
    pod: str
    workload: str
    state: str
    phase: str = ""
    in_flight: int | None = None
    oldest_s: float | None = None
    drain_s: float | None = None
    deadline_in_s: float | None = None
    late: int | None = None
    outcome: str | None = None
    version: str = ""
    error: str = ""


def row(namespace: str, pod: str, workload: str, status: dict[str, Any]) -> Row:
    """A Pod that has answered. Raises KeyError or TypeError for a document that is not a status."""
    drain, oldest = status["drain"], status["oldest"]
    runs = status["state"] == State.DRAINING.value
    return Row(
        namespace=namespace,
        pod=pod,
        workload=workload,
        state=status["state"],
        phase="" if status["phase"] == Phase.SERVING.value else status["phase"],
        in_flight=sum(status["in_flight"].values()),
        oldest_s=max((work["age_s"] for work in oldest), default=None),
        drain_s=drain["elapsed_s"] if drain else None,
        deadline_in_s=drain["deadline_in_s"] if drain and runs else None,
        late=drain["late"] if drain else None,
        outcome=drain["outcome"] if drain else None,
        version=status["version"],
    )


def _last(value: float | None) -> tuple[bool, float]:
    """What does not apply comes last."""
    return value is None, value or 0.0


def _most_first(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0.0)


def _by_state(each: Row) -> tuple[int, tuple[bool, float]]:
    return STATES.index(each.state) if each.state in STATES else len(STATES), _last(each.deadline_in_s)


SORTS: dict[str, Callable[[Row], Any]] = {
    "state": _by_state,
    "pod": lambda each: (each.namespace, each.pod),
    "in-flight": lambda each: _most_first(each.in_flight),
    "oldest": lambda each: _most_first(each.oldest_s),
    "deadline": lambda each: _last(each.deadline_in_s),
}
"""What can be sorted by; each key's first letter chooses it while it runs."""


def ordered(rows: Iterable[Row], by: str) -> list[Row]:
    """Sorted; equal ones by name."""
    return sorted(rows, key=lambda each: (SORTS[by](each), each.namespace, each.pod))


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """A table, head first. A column that is empty in every row is left out."""
    cells = [_cells(each) for each in rows]
    shown = [
        number
        for number, title in enumerate(HEAD)
        if title in ("POD", "STATE") or any(each[number] not in ("", "-") for each in cells)
    ]
    widths = [max(len(row[number]) for row in [HEAD, *cells]) for number in shown]
    for each in [HEAD, *cells]:
        padded = (
            each[number].rjust(width) if HEAD[number] in RIGHT else each[number].ljust(width)
            for number, width in zip(shown, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def summed(rows: Sequence[Row]) -> str:
    """How many Pods are in which state, and what is in flight in all."""
    counts = [(state, sum(each.state == state for each in rows)) for state in STATES]
    told = ", ".join(f"{count} {state}" for state, count in counts if count)
    return f"{many(len(rows), 'Pod')}: {told or 'none'}; {sum(each.in_flight or 0 for each in rows)} in flight"


def as_data(each: Row) -> dict[str, Any]:
    """For scripts: API."""
    return asdict(each)


def _cells(each: Row) -> tuple[str, ...]:
    return (
        each.namespace,
        each.pod,
        f"{each.state}: {each.error}" if each.error else each.state,
        each.phase,
        _number(each.in_flight),
        _seconds(each.oldest_s),
        _seconds(each.drain_s),
        _seconds(each.deadline_in_s),
        _number(each.late),
        each.outcome or "-",
        each.version,
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}s"
