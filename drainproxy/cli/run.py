"""`drainproxy run -- CMD …`: the app and its proxy in one container, or on a host."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import click

from drainproxy.cli.serve import ServeCommand, load_from, misspelt, serve_options


def _run(*, cmd: tuple[str, ...], port_env: str | None, restart_on_hup: bool, **flags: Any) -> None:
    config = load_from(flags, os.environ)
    from drainproxy.app import run  # noqa: PLC0415 - a bad option must be told before anything heavy is loaded
    from drainproxy.process.command import AppCommand  # noqa: PLC0415 - as said

    app = AppCommand(cmd, port_env, restart_on_hup)
    app.check([route.upstream for route in config.routes])
    sys.exit(run(config, misspelt(os.environ), app, reread=partial(load_from, flags, os.environ)))


def _own_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--port-env"],
            metavar="NAME",
            envvar="DRAINPROXY_PORT_ENV",
            help="environment variable that tells the app its port",
        ),
        click.Option(
            ["--restart-on-hup"],
            is_flag=True,
            envvar="DRAINPROXY_RESTART_ON_HUP",
            help="SIGHUP restarts the app, as drainproxy restart does",
        ),
    ]


command = ServeCommand(
    "run",
    params=[
        *serve_options(),
        *_own_options(),
        click.Argument(["cmd"], nargs=-1, required=True, metavar="-- CMD [ARG]…"),
    ],
    callback=_run,
    help="""Start the app behind drainproxy, and drain before the app gets SIGTERM.

    \b
        drainproxy run --listen :9080 --upstream 127.0.0.1:8080 -- python -m http.server 8080

    For a container that has both, or for a host without Kubernetes. SIGTERM starts a drain. After it the app gets
    SIGTERM, and SIGKILL if it is still running after app-stop-time. If the app ends by itself, drainproxy ends too.
    Processes that the app leaves behind are killed. The options and signals are those of serve; signals that serve
    ignores are passed on to the app.

    `drainproxy restart` replaces the app's process with a new one. If CMD takes its port from drainproxy, both run side
    by side, and no request waits: {port} or {socket} in CMD is replaced by the port or path of --upstream, and by a
    free one for each later process. --port-env names a variable for the port.

    \b
        drainproxy run --upstream 127.0.0.1:8080 -- gunicorn -b 127.0.0.1:{port} app:app

    Exit code: that of the app (128 + n after signal n) if it ended by itself, else 0; 1 when an address cannot be
    bound; 2 when an option cannot be used; 126 when CMD cannot be run; 127 when it is not found.
    """,
)
