"""What is the sidecar to be? The options that `inject` and `webhook` share."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

new_token = partial(secrets.token_hex, 16)
"""A drain token: 16 random bytes as text."""


class _Setting(click.ParamType[tuple[str, str]]):
    """`OPTION=VALUE`: a pair of the option's name, without dashes in front, and its value."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"got {value!r}, expected OPTION=VALUE", param, ctx)
        return name.removeprefix("--"), text


_OPTIONS = (
    click.option(
        "--image",
        metavar="IMAGE",
        envvar="DRAINPROXY_IMAGE",
        help="The sidecar's image. [default: DRAINPROXY_IMAGE, else drainproxy:<this version>]",
    ),
    click.option(
        "--sidecar",
        "kind",
        type=click.Choice(["native", "classic"]),
        help="native (the default): an init container that keeps running; classic: for Kubernetes before 1.29.",
    ),
    click.option(
        "--set",
        "settings",
        type=_Setting(),
        multiple=True,
        metavar="OPTION=VALUE",
        help="Any option of `drainproxy serve`, for all Pods, such as propagation-delay=15s. Repeatable.",
    ),
    click.option(
        "--no-successor",
        is_flag=True,
        help="Hand no requests over to other Pods, unless an annotation names a Service. See docs/successor.md.",
    ),
    click.option("--no-scrape", is_flag=True, help="Do not write prometheus.io annotations."),
)


def sidecar_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets `image`, `kind`, `settings` (pairs), `no_successor` and `no_scrape`."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command
