"""What came of the run? Rows as cases end, and from them docs/cluster.md and cluster.json: nothing by hand."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from drainproxy.tools.docs.contents import with_contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TOP = """# On a real cluster

Every case runs on a Kubernetes cluster while clients send requests, and each request is counted. `make cluster` runs
them on the cluster of your kubeconfig and writes this page; `tests/cluster/README.md` says how. The apps in the Pods do
not handle SIGTERM and end at once.

- **lost**: requests that were not answered in full: refused, reset, cut, a 5xx, a gRPC error, or a WebSocket that ended
  without a reason. The clients repeat no request, except for the automatic retries of grpcio.
- **Pod**: seconds from a Pod's deletion until it was gone: the median of the case, and the longest.
- **promise**: what the case must show. If a row does not keep it, the row says so, and the run fails.
"""

GROUPS = (
    "Baselines: without drainproxy",
    "Rollouts",
    "Other ends",
    "Accidents",
    "Too little time",
    "Handed over to other Pods",
    "The admission webhook",
    "Manifests and commands",
)
"""Of cases, in the order of the page."""
BASELINES, ROLLOUTS, ENDS, ACCIDENTS, BUDGETS, HANDOVER, WEBHOOK, MANIFESTS = GROUPS


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `losses`: how many of each class; `pods_s`: how long each Pod took that ended."""

    group: str
    case: str
    sidecar: str
    traffic: str
    requests: int
    lost: int
    losses: dict[str, int]
    pods_s: list[float]
    promise: str
    note: str = ""
    kept: bool = True
    commit: str = ""

    @property
    def played(self) -> tuple[str, str, str]:
        """What was played: a case, in one way to wire it. It has a row for each kind of traffic."""
        return (self.group, self.case, self.sidecar)


@dataclass
class Table:
    facts: dict[str, str]
    commit: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def read(self, data: Path) -> None:
        """Rows of earlier runs, as `write` left them: they stay until their case is played again."""
        if data.exists():
            self.rows = [Row(**row) for row in json.loads(data.read_text(encoding="utf-8"))["rows"]]

    def take(self, rows: Sequence[Row]) -> None:
        """The rows of one case, in the place of those it had."""
        now = {row.played for row in rows}
        at = next((at for at, row in enumerate(self.rows) if row.played in now), len(self.rows))
        others = [row for row in self.rows if row.played not in now]
        self.rows = [*others[:at], *rows, *others[at:]]

    def write(self, page: Path, data: Path) -> None:
        page.write_text(with_contents(self.markdown()), encoding="utf-8")
        told = {"facts": self.facts, "rows": [asdict(row) for row in self.rows], "not_played": self.skipped}
        data.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def markdown(self) -> str:
        parts = [TOP]
        for group in GROUPS:
            if rows := [row for row in self.rows if row.group == group]:
                parts += [f"## {group}\n\n{_rows(rows)}"]
        if self.skipped:
            parts.append("## Not played\n\n" + "".join(f"- {case}: {why}\n" for case, why in self.skipped))
        commits = Counter(row.commit for row in self.rows)
        played = ", ".join(f"{count} rows of commit {commit}" for commit, count in commits.items())
        facts = "".join(_line(pair) for pair in [*self.facts.items(), ("played", played)])
        parts.append("## The run\n\n| | |\n|---|---|\n" + facts)
        return "\n".join(parts)


def _rows(rows: Sequence[Row]) -> str:
    head = _line(("case", "sidecar", "traffic", "requests", "lost", "Pod", "promise"))
    return head + "|---|---|---|--:|--:|--:|---|\n" + "".join(_line(_cells(row)) for row in rows)


def _cells(row: Row) -> Iterable[str]:
    lost = str(row.lost)
    if row.losses:
        lost += " (" + ", ".join(f"{count} {name}" for name, count in row.losses.items()) + ")"
    pods = f"{median(row.pods_s):.1f} s, {max(row.pods_s):.1f} s" if row.pods_s else "-"
    promise = row.promise + (f"; {row.note}" if row.note else "")
    return (
        row.case,
        row.sidecar,
        row.traffic or "-",
        str(row.requests) if row.traffic else "-",
        lost if row.traffic else "-",
        pods,
        promise if row.kept else f"**broken:** {promise}",
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|").replace("\n", " ") for each in cells) + " |\n"
