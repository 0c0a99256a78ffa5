"""`drainproxy restart`: how does a new version of the app take over without a request lost?"""

from __future__ import annotations

from typing import Any

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.errors import AdminError

OK = 200


@click.command(
    "restart",
    help="""Replace the app's process with a new one (only under run).

    If CMD takes its port or path from drainproxy ({port}, {socket}, --port-env), both processes run side by side: the
    new one gets the new requests when it is healthy, and the old one is stopped when it has finished its work. If the
    new one is not healthy within --restart-timeout, or ends within --restart-trial, the old one keeps serving.

    Otherwise requests wait while the old process finishes and the new one starts, each for at most --hold-limit.

    Exit code: 0 when the new process serves; 1 when the restart was refused or failed; 2 when an option cannot be
    used.
    """,
)
@admin_options(timeout=None)
def command(**flags: Any) -> None:
    answer = admin_of(flags, timeout=None).ask("POST", "/restart")
    if answer.status != OK:
        raise AdminError(answer.text[:300])
    restarted = answer.document()
    print(f"restarted: process {restarted.get('number')} of the app serves, pid {restarted.get('pid')}")
