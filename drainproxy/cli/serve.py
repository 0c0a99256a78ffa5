"""`drainproxy serve`: every option is a flag, an environment variable and a key of a file, from one declaration."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.config.loading import NAMES, load
from drainproxy.config.options import ENV_PREFIX, Config, env_of, flag_of, options
from drainproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CONFIG_ENV = ENV_PREFIX + "CONFIG"


class ServeCommand(click.Command):
    """Help by group, as the table in docs/configuration.md."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"General": []}
        declared = {flag_of(each): opt for each, opt in options()}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                opt = declared.get(param.opts[-1].lstrip("-"))
                groups.setdefault(opt.group if opt else "General", []).append(record)
        for title, records in sorted(groups.items(), key=lambda item: item[0] == "General"):
            with formatter.section(title):
                formatter.write_dl(records)


def serve_options() -> list[click.Parameter]:
    """A click option for every field of Config; values stay text until `load` reads them."""
    parameters: list[click.Parameter] = []
    for each, opt in options():
        text = f"{opt.help[0].upper()}{opt.help[1:]}. [default: {opt.default or opt.unset}]"
        parameters.append(
            click.Option([f"--{flag_of(each)}"], metavar=opt.kind.metavar, help=text, multiple=opt.repeatable)
        )
    parameters.append(click.Option(["--config"], metavar="FILE", help="TOML file that sets options by name."))
    return parameters


def load_from(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """The configuration from flags, environment and file. Raises ConfigError, BudgetError."""
    path = flags.get("config") or environ.get(CONFIG_ENV)
    return load({key.replace("_", "-"): value for key, value in flags.items()}, environ, _read(path) if path else {})


def _read(path: str) -> dict[str, object]:
    import tomllib  # noqa: PLC0415 - most sidecars have no file

    try:
        text = Path(path).read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise ConfigError("--config", path, f"a file that can be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", path, f"a TOML file ({error})") from error
    for key in found:
        if key not in NAMES:
            close = _close(key, NAMES)
            hint = f": did you mean {close}?" if close else ", see --help"
            raise ConfigError(f"{path}:{_line_of(key, text)}", key, f"the name of an option{hint}")
    return found


def _line_of(key: str, text: str) -> int:
    """The line that sets a key of the file's top level, or opens a table of that name."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[]=.]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _close(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The one that was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a message

    return next(iter(get_close_matches(name, known, 1, cutoff)), None)


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """One line for each variable that looks like an option of ours and is none. Kubernetes sets some of its own."""
    known = {env_of(each) for each, _ in options()} | {CONFIG_ENV}
    lines = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            close = _close(name, known, 0.85)
            if close:
                lines.append(f"{name} is not an option: did you mean {close}?")
    return lines


def _serve(**flags: Any) -> None:
    config = load_from(flags, os.environ)
    from drainproxy.app import run  # noqa: PLC0415 - a bad option must be told before anything heavy is loaded

    sys.exit(run(config, misspelt(os.environ), reread=partial(load_from, flags, os.environ)))


command = ServeCommand(
    "serve",
    params=serve_options(),
    callback=_serve,
    help="""Run the proxy: clients connect to --listen, the app is at --upstream, health checks are on --admin.

    Durations are written as 500ms, 5s, 1m30s or a number of seconds; sizes as 64KiB, 1MiB or a number of bytes. Every
    option is also an environment variable (DRAINPROXY_GRACE_PERIOD for --grace-period) and a key of the file that
    --config names. A flag wins over the variable, the variable over the file.

    Signals: SIGTERM drains and exits. A second SIGTERM, or Ctrl-C, skips the waiting and gives work in flight 5 s.
    A second Ctrl-C, or SIGQUIT, exits at once. SIGHUP reads the certificates, the drain token and the log level again.
    SIGUSR2 hands over to a new process with the same command line. All other signals are ignored, so that none ends the
    process without a drain.

    Exit code: 0 after a complete shutdown; 1 when an address cannot be bound; 2 when an option cannot be used.
    """,
)
