"""`drainproxy hold`: how do requests wait for a maintenance instead of failing?"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.errors import AdminError

OK = 200


@click.command(
    "hold",
    help="""Keep new requests waiting during maintenance, such as that of the app's database.

    Requests in progress continue. New requests wait until `drainproxy release`, or until the time is over. A request
    that has waited for --hold-limit of serve gets 503 with Retry-After. A drain ends the waiting. Open WebSockets,
    HTTP/2 and TCP connections are not affected.

    Exit code: 0 when requests wait; 1 when they do not; 2 when an option cannot be used.
    """,
)
@click.option(
    "--for", "duration", metavar="DURATION", help="How long to hold requests. [default: --hold-limit of serve]"
)
@admin_options(timeout="5s")
def command(*, duration: str | None, **flags: Any) -> None:
    target = "/hold" + (f"?for={quote(duration)}" if duration else "")
    answer = admin_of(flags, timeout="5s").ask("POST", target)
    if answer.status != OK:
        raise AdminError(answer.text[:300])
    print(f"requests wait, for {answer.document().get('ends_in_s')}s at most: drainproxy release ends it")
