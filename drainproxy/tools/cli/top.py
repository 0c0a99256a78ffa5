"""`drainproxy top`: what do all Pods of a rollout do right now?"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import termios
import tty
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.cli._output import output_option
from drainproxy.errors import ConfigError
from drainproxy.tools.cli._kinds import Duration
from drainproxy.tools.cli._scope import scope_options
from drainproxy.tools.live.scope import Scope
from drainproxy.tools.top.rows import SORTS, as_data, lines, ordered, summed
from drainproxy.tools.top.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from drainproxy.tools.top.rows import Row
    from drainproxy.tools.top.sources import Look

COLORS = {"draining": "blue", "drained": "green", "no answer": "red", "unready": "yellow", "starting": "yellow"}
KEYS = {name[0]: name for name in SORTS}
HELP = "sort: " + ", ".join(f"{key} {name}" for key, name in KEYS.items()) + "; q quits"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("addresses", nargs=-1, metavar="[HOST:PORT]…")
@scope_options
@click.option("--api", "url", metavar="URL", help="Ask this API server instead of kubectl.")
@click.option(
    "--token-file", metavar="FILE", type=click.Path(dir_okay=False), help="With --api: file with a bearer token."
)
@click.option(
    "--ca-file", metavar="FILE", type=click.Path(dir_okay=False), help="With --api: certificate authorities to trust."
)
@click.option("--sort", type=click.Choice(list(SORTS)), default="state", show_default=True, help="Order of the Pods.")
@click.option("--every", type=Duration(), default="1s", show_default=True, help="Time between two looks.")
@click.option("--once", is_flag=True, help="Look once and exit.")
@output_option()
def command(addresses: tuple[str, ...], *, sort: str, every: float, once: bool, output: str, **asked: Any) -> None:
    """Show all Pods that have drainproxy, live: state, phase, work in flight, the oldest work, the deadline.

    Finds the Pods with kubectl, or asks the admin ports that you name. Pods that are gone stay on the screen for a
    minute, with their last values. -o json prints one JSON document per look, each on its own line.

    \b
      drainproxy top -n shop -l app=web      # during: kubectl rollout restart deploy/web
      drainproxy top -A --once --sort oldest
      drainproxy top 10.0.0.5:9081 10.0.0.6:9081 --json

    Exit code: 0 on success; 1 when the cluster did not answer; 2 bad usage.
    """
    shown = _Shown(sort, as_json=output == "json")
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(_source(addresses, **asked), shown, None if once else every))


def _source(
    addresses: tuple[str, ...], *, url: str | None, token_file: str | None, ca_file: str | None, **asked: Any
) -> AbstractAsyncContextManager[Look]:
    from drainproxy.tools.top import sources  # noqa: PLC0415 - `--help` must not wait for aiohttp

    scope = Scope(**asked)
    if scope.namespace and scope.all_namespaces:
        raise click.UsageError("give either -n or -A, not both")
    if addresses:
        if url or scope != Scope():
            raise click.UsageError("give either HOST:PORT or a cluster, not both")
        return sources.at_addresses(addresses)
    if not url:
        return sources.through_kubectl(scope)
    if not url.startswith(("http://", "https://")):
        raise ConfigError("--api", url, "http://… or https://…")
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else None
    except OSError as error:
        raise ConfigError("--token-file", token_file, f"a file that can be read ({error.strerror})") from error
    return sources.through_api(url, scope, token, ca_file)


async def _run(source: AbstractAsyncContextManager[Look], shown: _Shown, pause_s: float | None) -> None:
    """Look, and look again every `pause_s` (None: once) or when a key asks for another order."""
    view, loop = View(), asyncio.get_running_loop()
    async with source as look:
        if pause_s is None:
            shown.show(view.update(await look(), loop.time()))
            return
        with _keys(shown) as pressed:
            while not shown.is_over:
                shown.show(view.update(await look(), loop.time()))
                next_at = loop.time() + pause_s
                while not shown.is_over and loop.time() < next_at:
                    try:
                        async with asyncio.timeout_at(next_at):
                            await pressed.wait()
                        pressed.clear()
                        shown.again()
                    except TimeoutError:
                        break


class _Shown:
    """What is on the screen, and in which order."""

    def __init__(self, sort: str, *, as_json: bool) -> None:
        self.is_over = False
        self._sort = sort
        self._as_json = as_json
        self._rows: list[Row] = []
        self._in_place = sys.stdout.isatty() and not as_json
        self._up = ""

    def show(self, rows: list[Row]) -> None:
        """These, now."""
        self._rows = rows
        self.again()

    def again(self) -> None:
        """The same, in the order that was chosen meanwhile."""
        rows = ordered(self._rows, self._sort)
        if self._as_json:
            print(json.dumps({"pods": [as_data(each) for each in rows]}), flush=True)
            return
        text = [summed(rows), *map(_safe, lines(rows))]
        if not self._in_place:
            print("\n".join(text), flush=True)
            return
        size = shutil.get_terminal_size()
        text = [line[: size.columns - 1] for line in [*text[: size.lines - 3], HELP]]
        colors = ["", "", *(COLORS.get(each.state, "") for each in rows)]
        styled = [click.style(line, fg=color) if color else line for line, color in zip(text, colors, strict=False)]
        click.echo(self._up + "\n".join([*styled, *text[len(styled) :]]))
        self._up = f"\x1b[{len(text)}F\x1b[J"  # back to the first line, and erase from there (ECMA-48 CPL, ED)

    def press(self, key: str) -> None:
        """A key of the reader's."""
        self._sort = KEYS.get(key, self._sort)
        self.is_over |= key == "q"


@contextmanager
def _keys(shown: _Shown) -> Iterator[asyncio.Event]:
    """Keys count at once, without Enter, while this lasts; where there is no terminal there are none."""
    pressed, loop = asyncio.Event(), asyncio.get_running_loop()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield pressed
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def read() -> None:
        for key in os.read(fd, 64).decode(errors="replace"):
            shown.press(key)
        pressed.set()

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield pressed
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _safe(line: str) -> str:
    """What a Pod has sent must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in line)
