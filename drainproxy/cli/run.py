"""`drainproxy run -- CMD …`: the app and its proxy in one container, or on a host."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import click

from drainproxy.cli.serve import ServeCommand, load_from, misspelt, serve_options


def _run(*, cmd: tuple[str, ...], **flags: Any) -> None:
    config = load_from(flags, os.environ)
    from drainproxy.app import run  # noqa: PLC0415 - a bad option must be told before anything heavy is loaded

    sys.exit(run(config, misspelt(os.environ), cmd, reread=partial(load_from, flags, os.environ)))


command = ServeCommand(
    "run",
    params=[*serve_options(), click.Argument(["cmd"], nargs=-1, required=True, metavar="-- CMD [ARG]…")],
    callback=_run,
    help="""Start the app, proxy to it, and drain before it gets SIGTERM.

    \b
        drainproxy run --listen :9080 --upstream 127.0.0.1:8080 -- python -m http.server 8080

    For one container without a sidecar, or a host without Kubernetes. SIGTERM drains first; then the app gets SIGTERM,
    and SIGKILL if it still runs an app-stop-time later. If the app ends by itself, so does drainproxy. What the app
    leaves behind is reaped, and killed when the app has ended. Options and signals are those of serve; a signal that
    has no meaning there is passed on to the app.

    Exit code: the app's (128 + n after signal n) if it ended by itself, else 0; 1 when an address cannot be bound; 2
    when an option cannot be used; 126 or 127 when CMD cannot be run or is not found.
    """,
)
