"""What do the boards ask? Every query of every panel, with Grafana's variables filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.tools.monitoring.boards import BOARDS, Board, Look, Panel

if TYPE_CHECKING:
    from tests.oncall.prometheus import Prometheus, Row

INSTANT = (Look.NUMBER, Look.GAUGES, Look.TABLE)
SINCE_S = 300
VARIABLES = {
    "$__rate_interval": "10s",
    "$__range": "10m",
    "$namespace": ".*",
    "$workload": ".*",
    "$pod": ".*",
}


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    board: Board
    panel: Panel
    number: int

    @property
    def text(self) -> str:
        """As Grafana sends it for all workloads."""
        return filled(self.panel.queries[self.number][0])

    def rows(self, watch: Prometheus) -> list[Row]:
        """What the panel shows."""
        return watch.ask(self.text) if self.panel.look in INSTANT else watch.ask_range(self.text, SINCE_S, 1)

    def __str__(self) -> str:
        return f"{self.board.uid}: {self.panel.title} {self.number}"


def filled(query: str) -> str:
    """The query without variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


QUERIES = [
    Query(board, panel, number)
    for board in BOARDS
    for _, panels in board.rows
    for panel in panels
    for number in range(len(panel.queries))
]
