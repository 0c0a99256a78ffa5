"""How does a command say what it found: to people or to scripts? One option, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def output_option(*more: str, former: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-o text|json`, or one of `more`, and `--json` for short; the command gets `output`.

    `former` are names under which the same option was known.
    """
    choice = click.Choice(["text", "json", *more])
    whole = click.option(
        "-o", "--output", *former, "output", type=choice, default="text", help="What to print.  [default: text]"
    )
    short = click.option("--json", "output", flag_value="json", help="The same as -o json.")
    return lambda function: whole(short(function))
