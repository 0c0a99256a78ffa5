"""How do the commands become man pages? From their help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click_man.core import write_man_pages

from drainproxy import __version__
from drainproxy.cli import cli, verbs

if TYPE_CHECKING:
    from pathlib import Path


def write_all(folder: Path) -> None:
    """One page for drainproxy and one for each of its commands."""
    folder.mkdir(parents=True, exist_ok=True)
    context = click.Context(cli)
    for verb in verbs():  # the commands are loaded when they are called, and so unknown to who only looks
        command = cli.get_command(context, verb)
        assert command is not None, f"{verb} is a command"
        cli.add_command(command, verb)
    write_man_pages("drainproxy", cli, version=__version__, target_dir=str(folder))
