"""Which Pods are there, which have gone? What is remembered from one look to the next. Pure; `now` in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from drainproxy.drain.phase import State
from drainproxy.tools.top.rows import GONE, SILENT, Row

if TYPE_CHECKING:
    from collections.abc import Iterable

REMEMBERED_S = 60.0
"""A Pod that has gone is shown this long, with what it said last."""


class View:
    """All Pods that were seen lately."""

    def __init__(self) -> None:
        self._there: dict[tuple[str, str], Row] = {}
        self._gone: dict[tuple[str, str], tuple[float, Row]] = {}

    def update(self, rows: Iterable[Row], now: float) -> list[Row]:
        """What to show after this look: the Pods that are there, and those that went a short while ago."""
        seen = {(each.namespace, each.pod): each for each in rows}
        for key, last in self._there.items():
            if key not in seen:
                self._gone[key] = (now, replace(last, state=GONE, phase="", error="", deadline_in_s=None, in_flight=0))
        self._there = {key: self._kept(key, each) for key, each in seen.items()}
        self._gone = {
            key: (since, each)
            for key, (since, each) in self._gone.items()
            if key not in seen and now - since < REMEMBERED_S
        }
        return [*self._there.values(), *(each for _, each in self._gone.values())]

    def _kept(self, key: tuple[str, str], each: Row) -> Row:
        """A Pod that drained and answers no more has ended as it said; the API will notice."""
        before = self._there.get(key)
        ended = (State.DRAINED.value, State.DRAINING.value, SILENT)
        if each.state != SILENT or before is None or before.state not in ended:
            return each
        return replace(before, state=SILENT, error=each.error, in_flight=None, oldest_s=None, deadline_in_s=None)
