"""`drainproxy resume`: how does a Pod that was drained get its traffic back?"""

from __future__ import annotations

from typing import Any

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.errors import AdminError

OK = 200


@click.command(
    "resume",
    help="""Call a drain off and go back to ready.

    All callers that wait for the drain learn that it was called off. After SIGTERM this is not possible, because the
    process will end.

    Exit code: 0 when no drain is running now; 1 when the drain could not be called off; 2 when an option cannot be
    used.
    """,
)
@admin_options(timeout="5s")
def command(**flags: Any) -> None:
    answer = admin_of(flags, timeout="5s").ask("POST", "/resume")
    if answer.status != OK:
        raise AdminError(answer.text[:200])
    print(answer.text)
