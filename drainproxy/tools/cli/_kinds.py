"""How are values written on the command line of the tools? Durations, shares, statuses, rates."""

from __future__ import annotations

from typing import Any

import click

from drainproxy.config.values import parse_duration
from drainproxy.tools.probe.outcome import Allowance


class Duration(click.ParamType[float]):
    """`500ms`, `5s`, `1m30s` or a bare number of seconds, as everywhere in drainproxy."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(f"got {value!r}, expected a duration such as 500ms, 5s or 1m30s", param, ctx)


class Share(click.ParamType[float]):
    """`50%` or `0.5`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"got {value!r}, expected a share such as 50% or 0.5", param, ctx)
        return share


class Statuses(click.ParamType[frozenset[int]]):
    """`200-399` or `200,404`."""

    name = "statuses"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        if isinstance(value, frozenset):
            return value
        try:
            pairs = [part.split("-") for part in value.split(",")]
            return frozenset(n for pair in pairs for n in range(int(pair[0]), int(pair[-1]) + 1))
        except ValueError:
            self.fail(f"got {value!r}, expected statuses such as 200-399 or 200,404", param, ctx)


class Failures(click.ParamType[Allowance]):
    """`3`, or a share of all requests: `0.1%`."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Allowance:
        if isinstance(value, Allowance):
            return value
        text = str(value)
        if text.isdecimal():
            return Allowance(int(text))
        try:
            share = float(text.removesuffix("%")) / 100 if text.endswith("%") else -1.0
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"got {value!r}, expected a number of requests such as 3, or a share such as 0.1%", param, ctx)
        return Allowance(share=share)


class Rate(click.ParamType[float]):
    """Requests a second, above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= MOST_PER_S:
            self.fail(f"got {value!r}, expected requests per second, above 0 and at most {MOST_PER_S:g}", param, ctx)
        return rate


MOST_PER_S = 1e6
