"""`drainproxy upgrade`: how does a new version take over without a connection lost?"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.errors import AdminError

OK = 200


@click.command(
    "upgrade",
    help="""Replace the running drainproxy with a new one, which takes over its ports.

    The running process starts its own command line again, or PATH with the same arguments, and passes its listening
    sockets on. When the new process is ready, it accepts clients, and the old one drains. No connection is refused in
    between. If the new process does not become ready (--upgrade-timeout of serve), the old one keeps serving. SIGUSR2
    does the same.

    Exit code: 0 when the new process serves; 1 when the upgrade was refused or failed, and the old one keeps
    serving; 2 when an option cannot be used.
    """,
)
@click.option(
    "--exec",
    "program",
    metavar="PATH",
    help="The new program, such as bin/drainproxy of another installation. Needs the drain token.",
)
@admin_options(timeout=None)
def command(*, program: str | None, **flags: Any) -> None:
    target = "/upgrade" + (f"?exec={quote(os.path.abspath(program))}" if program else "")  # noqa: PTH100 - pathlib takes longer to import than this to run
    answer = admin_of(flags, timeout=None).ask("POST", target)
    if answer.status != OK:
        raise AdminError(answer.text[:300])
    upgraded = answer.document()
    print(f"upgraded: generation {upgraded.get('generation')} serves, pid {upgraded.get('pid')}; the old one drains")
