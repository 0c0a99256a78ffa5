"""`drainproxy drain`: is it safe to stop the app now? Waits until it is."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.cli._output import output_option
from drainproxy.errors import AdminError

CLEAN, ACCEPTED, FORCED, RESUMED = 200, 202, 504, 409


@click.command(
    "drain",
    help="""Start a drain, or join a running one, and wait until it ends.

    Prints one line: how the drain ended, and its numbers. As the preStop hook of drainproxy's own container:

    \b
        lifecycle:
          preStop:
            exec: {command: [drainproxy, drain]}

    This delays the SIGTERM of that container only. The app's container needs its own hook: httpGet /drain.

    Exit code: 0 when all work in flight was finished, even if requests still arrived (the line says so); 1 when work
    was cut at the deadline, the drain was called off, or there was no answer; 2 when an option cannot be used. The
    kubelet sends SIGTERM in any case; after a code other than 0 it records a FailedPreStopHook event. If this command
    is interrupted, the drain continues.
    """,
)
@click.option("--no-wait", is_flag=True, help="Return as soon as the drain has begun, with exit code 0.")
@output_option()
@admin_options(timeout=None)
def command(*, no_wait: bool, output: str, **flags: Any) -> None:
    answer = admin_of(flags, timeout=None).ask("POST", f"/drain?trigger=cli{'&wait=0' if no_wait else ''}")
    if answer.status not in (CLEAN, ACCEPTED, FORCED, RESUMED):
        raise AdminError(f"unexpected answer {answer.status}: {answer.text[:200]}")
    summary = answer.document()
    if output == "json":
        print(json.dumps(summary))
    elif answer.status == ACCEPTED:
        print(f"draining: at most {summary.get('deadline_in_s', 0):.1f}s; drainproxy status --watch shows it")
    else:
        print("\n".join(_lines(summary)))
        if summary.get("advice"):
            print(f"advice: {summary['advice']}")
    sys.exit(0 if answer.status in (CLEAN, ACCEPTED) else 1)


def _lines(summary: dict[str, Any]) -> list[str]:
    from drainproxy.observe.documents import loss_lines, sentence  # noqa: PLC0415 - loaded while nothing waits for it

    try:
        return [sentence(summary), *loss_lines(summary)]  # type: ignore[arg-type]  # what /drain answers is a Summary
    except (KeyError, TypeError, ValueError) as error:
        raise AdminError("the answer comes from another version of drainproxy: use --json to see it") from error
