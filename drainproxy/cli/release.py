"""`drainproxy release`: how do requests go on that were held?"""

from __future__ import annotations

from typing import Any

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.errors import AdminError

OK = 200


@click.command(
    "release",
    help="""Let the requests continue that `drainproxy hold` keeps waiting.

    Exit code: 0, also when nothing was held; 1 when there was no answer; 2 when an option cannot be used.
    """,
)
@admin_options(timeout="5s")
def command(**flags: Any) -> None:
    answer = admin_of(flags, timeout="5s").ask("POST", "/release")
    if answer.status != OK:
        raise AdminError(answer.text[:300])
    print(answer.text)
