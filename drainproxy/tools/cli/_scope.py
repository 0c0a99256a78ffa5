"""Which part of a cluster does a command look at? The options, which mean what kubectl's of the same names mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from drainproxy.tools.live.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

_LIVE = click.option(
    "--live",
    is_flag=True,
    help="Read from the cluster of kubectl's config instead of files. -n, -A, -l and --context select what to read.",
)
_SCOPE = (
    click.option("-n", "--namespace", metavar="NAME", help="Only this namespace. [default: kubectl's]"),
    click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."),
    click.option("-l", "--selector", metavar="LABELS", help="Only objects with these labels, such as app=web."),
    click.option("--context", metavar="NAME", help="Use this context of kubectl's config."),
)


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets `namespace`, `all_namespaces`, `selector` and `context`."""
    for each in reversed(_SCOPE):
        command = each(command)
    return command


def live_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same with `--live` before them, which they need; the command gets `live`, too."""
    return _LIVE(scope_options(command))


def scope_of(asked: dict[str, Any], has_files: bool) -> Scope | None:
    """Takes the options out of `asked`. None without --live; the others are refused then, and files with it."""
    live = asked.pop("live")
    scope = Scope(**{name: asked.pop(name) for name in ("namespace", "all_namespaces", "selector", "context")})
    if not live and scope != Scope():
        raise click.UsageError("-n, -A, -l and --context need --live")
    if live and has_files:
        raise click.UsageError("give either --live or files, not both")
    if scope.namespace and scope.all_namespaces:
        raise click.UsageError("give either -n or -A, not both")
    return scope if live else None
