"""How does a command say what it found: to people or to scripts? One option, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`-o text|json`, and `--json` for short; the command gets `output`."""
    short = click.option("--json", "output", flag_value="json", help="the same as -o json")
    whole = click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="what goes to stdout  [text]"
    )
    return whole(short(function))
