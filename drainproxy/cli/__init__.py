"""Which commands are there? Each verb is a file of its own, imported when it is called: `drain` must start at once.

The image leaves `drainproxy.tools` out, and so does the help there.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

import click

from drainproxy import __version__, compiled
from drainproxy.errors import DrainproxyError

SIDECAR = "drainproxy.cli"
TOOLS = "drainproxy.tools.cli"

VERBS = {
    "serve": (SIDECAR, "run the proxy"),
    "drain": (SIDECAR, "start a drain, or join a running one, and wait until it ends"),
    "resume": (SIDECAR, "call a drain off and go back to ready"),
    "restart": (SIDECAR, "replace the app's process with a new one (under run)"),
    "hold": (SIDECAR, "keep new requests waiting during maintenance"),
    "release": (SIDECAR, "let held requests continue"),
    "upgrade": (SIDECAR, "replace a running drainproxy with a new one, which takes over its ports"),
    "status": (SIDECAR, "show what a running drainproxy is doing"),
    "inject": (TOOLS, "add drainproxy to Kubernetes manifests"),
    "check": (TOOLS, "find mistakes in manifests that lose requests"),
    "webhook": (TOOLS, "add drainproxy to Pods as the cluster creates them"),
    "run": (SIDECAR, "start the app behind drainproxy, and drain before stopping it"),
    "probe": (TOOLS, "send steady traffic during a rollout and report what failed"),
    "advise": (TOOLS, "recommend the floor and the grace period for each workload"),
    "top": (TOOLS, "show all Pods of a rollout, live"),
    "demo": (TOOLS, "show a rolling update on this machine, without and with drainproxy"),
    "completion": (TOOLS, "print the completion script for bash, zsh or fish"),
    "version": (SIDECAR, "show the versions of drainproxy, Python and packages"),
}
"""Each verb's package, in which `<verb>.py` holds one click command named `command`, and its line of help."""


def verbs() -> dict[str, str]:
    """The verbs that work here, each with its line of help."""
    here = {SIDECAR} if find_spec("drainproxy.tools") is None else {SIDECAR, TOOLS}
    return {verb: text for verb, (package, text) in VERBS.items() if package in here}


class _Verbs(click.Group):
    """Loads a verb when it is called, and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(verbs())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        if cmd_name not in verbs():
            raise click.UsageError(f"{cmd_name} is not in this image: run it where drainproxy was installed with pip")
        package, _ = VERBS[cmd_name]
        command = import_module(f"{package}.{cmd_name}").command
        assert isinstance(command, click.Command), f"{package}.{cmd_name} has no click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command that is not there: say which one may be meant. Raises UsageError."""
        if args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - only for this message

            close = get_close_matches(args[0], verbs(), 1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Written from VERBS: help of the whole must not import every verb."""
        with formatter.section("Commands"):
            formatter.write_dl(list(verbs().items()))


def _version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"drainproxy {__version__} ({'compiled' if compiled() else 'pure Python'})")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit."
)
def cli() -> None:
    """Graceful shutdown for apps you cannot change: a sidecar reverse proxy that drains.

    Let the preStop hook of the app's container call drainproxy's /drain. It answers when the app may be stopped.

    Exit code: 2 for an option or command that cannot be used; the help of each command lists the others. If NO_COLOR is
    set, the output has no colours.
    """


def _program(path: str) -> str | None:
    """What help calls this command; None leaves it to click. kubectl runs a program `kubectl-X` as `kubectl X`."""
    name = path.rpartition("/")[2]
    return name.replace("-", " ", 1) if name.startswith("kubectl-") else None


def main() -> NoReturn:
    """The console script: expected failures are one line on stderr and an exit code of their own."""
    try:
        plain = False if os.environ.get("NO_COLOR") else None  # no-color.org: set, and not empty
        result = cli(standalone_mode=False, prog_name=_program(sys.argv[0]), color=plain)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except DrainproxyError as error:
        print(f"drainproxy: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(result if isinstance(result, int) else 0)  # an int: what a verb gave to ctx.exit
