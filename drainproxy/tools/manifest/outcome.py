"""What became of each workload, and why? The table that `inject` prints, and the list of what it could not decide."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.manifest.objects import Resource
    from drainproxy.tools.manifest.plan import Plan


@dataclass(frozen=True, slots=True)
class Row:
    """One port of one workload; or the workload, where nothing is done: `protocol` is then `-` or `undecided`."""

    workload: str
    namespace: str
    place: str
    container: str
    service_ports: tuple[str, ...]
    proxy_port: int | None
    app_port: int | None
    protocol: str
    why: str
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """A workload that cannot be decided: `why`, and the line for its Pod template's annotations that decides it."""

    workload: str
    namespace: str
    place: str
    why: str
    decide: str

    @property
    def row(self) -> Row:
        """Its line in the table."""
        why = self.why.removeprefix(f"{self.workload}: ")
        return Row(self.workload, self.namespace, self.place, "-", (), None, None, "undecided", why)


def place_of(resource: Resource) -> str:
    """File and line, as far as the object has them."""
    if not resource.source.name:
        return ""
    return f"{resource.source.name}:{resource.source.line_of(resource.node.start)}"


def rows_of(resource: Resource, plan: Plan) -> list[Row]:
    """A row for each port that goes through drainproxy."""
    return [
        Row(
            str(resource),
            resource.namespace,
            place_of(resource),
            port.container,
            port.via,
            route.listen,
            route.upstream,
            route.protocol,
            port.verdict.why,
            port.verdict.guess,
        )
        for port, route in zip(plan.ports, plan.routes, strict=True)
    ]


def passed_over(resource: Resource, why: str) -> Row:
    """The row of a workload that nothing is done to."""
    return Row(str(resource), resource.namespace, place_of(resource), "-", (), None, None, "-", why)


_HEAD = ("WORKLOAD", "CONTAINER", "SERVICE PORT", "PROXY", "APP", "PROTOCOL", "WHY")


def table(rows: Sequence[Row]) -> str:
    """The rows for people. A guess has a question mark."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD) - 1)]
    text = ""
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        text += "  ".join([*padded, line[-1]]) + "\n"
    return text


def _cells(row: Row) -> tuple[str, ...]:
    name = f"{row.namespace}/{row.workload}" if row.namespace else row.workload
    return (
        name,
        row.container,
        ", ".join(row.service_ports) or "-",
        str(row.proxy_port or "-"),
        str(row.app_port or "-"),
        row.protocol + ("?" if row.guess else ""),
        f"a guess: {row.why}" if row.guess else row.why,
    )


def told(left: Sequence[Left], *, others: int = 0, skipped: bool = False) -> str:
    """What could not be decided, of all workloads at once, each with the annotation that decides it.

    `others`: how many could be. `skipped`: those are written.
    """
    count = f"{len(left)} workloads are" if len(left) > 1 else "one workload is"
    rest = f"; --skip-ambiguous writes the other {others}" if others else ""
    head = f"{count} left out" if skipped else f"nothing is written, {count} not clear{rest}"
    return f"{head}:" + "".join(f"\n  {line}" for each in left for line in _lines(each))


def _lines(each: Left) -> list[str]:
    decide = [f"    annotation on its Pod template that decides: {each.decide}"] if each.decide else []
    return [f"{each.place}: {each.why}", *decide]


def as_json(rows: Sequence[Row], left: Sequence[Left], notes: Sequence[str]) -> dict[str, Any]:
    """The same for machines."""
    return {
        "ports": [asdict(row) for row in rows if row.app_port is not None],
        "skipped": [
            {"workload": row.workload, "namespace": row.namespace, "place": row.place, "why": row.why}
            for row in rows
            if row.protocol == "-"
        ],
        "undecided": [asdict(each) for each in left],
        "notes": list(notes),
    }
