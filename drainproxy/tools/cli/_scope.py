"""Where in a cluster does `--live` look? The options, which mean what kubectl's of the same names mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from drainproxy.tools.live.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS = (
    click.option("--live", is_flag=True, help="Read from the cluster that kubectl's config names, instead of files."),
    click.option("-n", "--namespace", metavar="NAME", help="With --live: this namespace. [default: kubectl's]"),
    click.option("-A", "--all-namespaces", is_flag=True, help="With --live: all namespaces."),
    click.option(
        "-l", "--selector", metavar="LABELS", help="With --live: workloads with these labels, such as app=web."
    ),
    click.option("--context", metavar="NAME", help="With --live: this context of kubectl's config."),
)


def live_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets `live`, `namespace`, `all_namespaces`, `selector` and `context`."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


def scope_of(asked: dict[str, Any], has_files: bool) -> Scope | None:
    """Takes the options out of `asked`. None without --live; the others are refused then, and files with it."""
    live = asked.pop("live")
    scope = Scope(**{name: asked.pop(name) for name in ("namespace", "all_namespaces", "selector", "context")})
    if not live and scope != Scope():
        raise click.UsageError("-n, -A, -l and --context go with --live")
    if live and has_files:
        raise click.UsageError("either --live or files, not both")
    if scope.namespace and scope.all_namespaces:
        raise click.UsageError("either -n or -A, not both")
    return scope if live else None
