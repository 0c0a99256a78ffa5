"""`drainproxy status`: what is it doing right now? One screen for people, JSON for scripts."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from drainproxy.cli._admin import admin_of, admin_options
from drainproxy.cli._output import output_option
from drainproxy.errors import AdminError
from drainproxy.observe.documents import brief, loss_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drainproxy.cli._admin import Admin

OK = 200
EVERY_S = 1.0
BAR = 40
HEAD_LINES = 15
"""What stands above the list of work, at most."""
COLORS = {"ready": "green", "draining": "blue", "drained": "green", "starting": "yellow", "unready": "yellow"}


@click.command(
    "status",
    help="""Show what a running drainproxy is doing: state, drain, budget, work in flight, the app.

    -o json prints the document of /status; with --watch, one document per line.

    Exit code: 0 when it answered, in any state; 1 when it did not; 2 when an option cannot be used.
    """,
)
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@output_option()
@admin_options(timeout="5s", token=False)
def command(*, watch: bool, output: str, **flags: Any) -> None:
    admin = admin_of(flags, timeout="5s")
    as_json = output == "json"
    if as_json:
        show: Callable[[Look], None] = _show_json if watch else _show_json_indented
    else:
        show = _show_text
    if not watch:
        show(_look(admin))
    elif as_json or not sys.stdout.isatty():
        _refresh(admin, show)
    else:
        _live(admin)


@dataclass(frozen=True, slots=True)
class Look:
    """One `/status` document, and when it came."""

    document: dict[str, Any]
    at: float
    wall: float


def _look(admin: Admin) -> Look:
    answer = admin.ask("GET", "/status?totals=1")
    if answer.status != OK:
        raise AdminError(f"unexpected answer {answer.status}: {answer.text[:200]}")
    return Look(answer.document(), time.monotonic(), time.time())


def _looks(admin: Admin) -> Iterator[Look]:
    while True:
        yield _look(admin)
        time.sleep(EVERY_S)


def _refresh(admin: Admin, show: Callable[[Look], None]) -> None:
    """For pipes and files: one after the other."""
    try:
        for look in _looks(admin):
            show(look)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass


def _live(admin: Admin) -> None:
    """For terminals: one screen that stays in place."""
    last: Look | None = None
    up = ""
    try:
        for look in _looks(admin):
            size = shutil.get_terminal_size()
            first, *rest = [line[: size.columns - 1] for line in screen(look, last, rows=size.lines - HEAD_LINES - 1)]
            colored = click.style(first, bold=True, fg=COLORS.get(str(look.document["state"]), "red"))
            click.echo(up + "\n".join([colored, *rest]))
            up = f"\x1b[{1 + len(rest)}F\x1b[J"  # back to the first line, and erase from there (ECMA-48 CPL, ED)
            last = look
    except KeyboardInterrupt:
        pass


def _show_json(look: Look) -> None:
    print(json.dumps(_without_totals(look.document)))


def _show_json_indented(look: Look) -> None:
    print(json.dumps(_without_totals(look.document), indent=2))


def _without_totals(document: dict[str, Any]) -> dict[str, Any]:
    """As `/status` documents it: the totals are asked for to show rates."""
    return {name: value for name, value in document.items() if name != "totals"}


def _show_text(look: Look) -> None:
    print("\n".join(screen(look, None, rows=20)))


def screen(look: Look, last: Look | None, rows: int) -> list[str]:
    """The document as lines of plain text; `rows` of the list of work at most. Raises AdminError if it is not ours."""
    try:
        return [_safe(line) for line in _lines(look, last, rows)]
    except (KeyError, TypeError, AttributeError) as error:
        raise AdminError("the answer comes from another version of drainproxy: use --json to see it") from error


def _lines(look: Look, last: Look | None, rows: int) -> Iterator[str]:
    document = look.document
    state, connections = document["state"], document["connections"]
    phase = f", {document['phase']}" if state == "draining" else ""
    since = brief(max(0.0, look.wall - document["since"]))
    yield f"{state} for {since}{phase}   drainproxy {document['version']}{_generation(document)}"
    yield ""
    for listen, upstream, health, reason in _apps(document):
        yield f"app          {listen} -> {upstream}   {health}: {reason}"
    for child in document.get("children", []):
        yield f"process      {child['number']} of the app, pid {child['pid']}, on {child['address']}: {child['state']}"
    if "hold" in document:
        hold = document["hold"]
        yield f"hold         {hold['waiting']} requests wait; it ends in {brief(hold['ends_in_s'])} at the latest"
    flying = {kind: count for kind, count in document["in_flight"].items() if count}
    kinds = ", ".join(f"{count} {kind}" for kind, count in flying.items())
    yield f"in flight    {sum(flying.values())}" + (f"   {kinds}" if kinds else "")
    idle, busy = connections["upstream_idle"], connections["upstream_busy"]
    yield f"connections  {connections['client']} from clients, {busy} busy and {idle} idle to the app"
    if last is not None:
        yield f"rates        {_rates(look, last)}"
    if document["drain"] is not None:
        yield from _drain(document["drain"], document["state"])
    yield from _oldest(document["oldest"], rows)


def _generation(document: dict[str, Any]) -> str:
    number = document.get("generation", 1)
    return f", generation {number}" if number > 1 else ""


def _apps(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    routes = document.get("routes")
    if routes is None and document["upstream"] is not None:
        upstream = document["upstream"]
        routes = [{"listen": document["config"]["listen"], "upstream": upstream["address"], **upstream}]
    for route in routes or []:
        health = "healthy" if route["healthy"] else "NOT healthy"
        yield route["listen"], route["upstream"], health, route["reason"]


def _rates(look: Look, last: Look) -> str:
    passed = max(0.001, look.at - last.at)
    now, then = look.document["totals"], last.document["totals"]
    requests, received, sent = (
        max(0.0, now[name] - then[name]) / passed for name in ("requests", "bytes_in", "bytes_out")
    )
    return f"{requests:.1f} requests/s, {received / 1024:.1f} KiB/s in, {sent / 1024:.1f} KiB/s out"


def _drain(drain: dict[str, Any], state: str) -> Iterator[str]:
    elapsed_s, left_s = drain["elapsed_s"], drain["deadline_in_s"]
    if state == "draining":
        floor = f"floor in {brief(drain['floor_in_s'])}, " if drain["floor_in_s"] else "past the floor, "
        bar = _bar(elapsed_s, elapsed_s + left_s)
        yield f"drain        {bar} {brief(elapsed_s)}, {floor}deadline in {brief(left_s)}"
    else:
        yield f"drain        {drain['outcome']} after {brief(elapsed_s)}"
    last = drain["last_arrival_s"]
    arrival = "none" if last is None else f"the last {brief(last)} after the trigger"
    yield f"             trigger {drain['trigger']}; {drain['arrivals']} arrivals, {arrival}; {drain['late']} late"
    counts = {"completed": "completed", "cut_total": "cut", "departed": "left by clients", "broken": "broken off"}
    yield "             " + ", ".join(f"{drain[name]} {word}" for name, word in counts.items())
    yield from (f"             {line}" for line in loss_lines(drain))  # type: ignore[arg-type]  # a DrainBlock


def _bar(used: float, whole: float) -> str:
    full = min(BAR, round(BAR * used / whole)) if whole > 0 else BAR
    return f"[{'#' * full}{'.' * (BAR - full)}]"


def _oldest(oldest: list[dict[str, Any]], rows: int) -> Iterator[str]:
    if not oldest:
        return
    yield ""
    for work in oldest[: max(1, rows)]:
        request = f"{work['method']} {work['target']}" if work["method"] else "connection"
        left = ", which has left" if work["client_left"] else ""
        yield f"{brief(work['age_s']):>9}  {work['kind']:<9}  {request}   from {work['client']}{left}"


def _safe(line: str) -> str:
    """What clients have sent must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in line)
