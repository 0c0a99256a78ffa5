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
    help="""Keep new requests waiting during a maintenance of what is behind the app.

    What is under way goes on. New requests wait until drainproxy release, or until the time is over, each for
    --hold-limit of serve at most: then it gets 503 with Retry-After. A drain lets them go on. Open WebSockets,
    HTTP/2 and TCP connections stay as they are.

    Exit code: 0 when requests wait; 1 when they do not; 2 when an option cannot be used.
    """,
)
@click.option("--for", "duration", metavar="DURATION", help="how long  [the --hold-limit of serve]")
@admin_options(timeout="5s")
def command(*, duration: str | None, **flags: Any) -> None:
    target = "/hold" + (f"?for={quote(duration)}" if duration else "")
    answer = admin_of(flags, timeout="5s").ask("POST", target)
    if answer.status != OK:
        raise AdminError(answer.text[:300])
    print(f"requests wait, for {answer.document().get('ends_in_s')}s at most: drainproxy release ends it")
