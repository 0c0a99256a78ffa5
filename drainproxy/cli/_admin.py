"""Which options do the commands share that talk to a running drainproxy?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from drainproxy.admin.client import Answer, ask
from drainproxy.config.options import ENV_PREFIX
from drainproxy.config.values import parse_address, parse_duration
from drainproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.values import Address


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin port of a running drainproxy."""

    address: Address
    token: str | None
    timeout_s: float | None

    def ask(self, method: str, target: str) -> Answer:
        """One request. Raises AdminError."""
        return ask(self.address, method, target, token=self.token, timeout_s=self.timeout_s)


def admin_options(timeout: str | None, *, token: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that reach an admin port; `admin_of` reads them. `timeout`: the default, None for no limit."""
    described = "as long as it takes" if timeout is None else timeout
    tokens = (
        click.option(
            "--drain-token",
            metavar="TEXT",
            help="The token, if this is not the same Pod. The variable is safer. [default: $DRAINPROXY_DRAIN_TOKEN]",
        ),
        click.option(
            "--drain-token-file", metavar="FILE", help="File with the token. [default: $DRAINPROXY_DRAIN_TOKEN_FILE]"
        ),
    )
    declared = (
        click.option(
            "--admin",
            metavar="ADDRESS",
            help="The admin port. :9081 means port 9081 on loopback. [default: $DRAINPROXY_ADMIN or :9081]",
        ),
        *(tokens if token else ()),
        click.option("--timeout", metavar="DURATION", help=f"How long to wait for the answer. [default: {described}]"),
    )

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(declared):
            function = each(function)
        return function

    return declare


def admin_of(flags: dict[str, Any], timeout: str | None) -> Admin:
    """The admin port that flags and environment name; a flag wins. Raises ConfigError."""
    where = _chosen(flags, "admin") or ":9081"
    try:
        address = parse_address(where)
    except ValueError:
        raise ConfigError("--admin", where, "host:port, :port, [v6]:port or unix:/path.sock") from None
    token = _token(flags) if "drain_token" in flags else None
    limit = flags["timeout"] or timeout
    try:
        return Admin(address, token, None if limit is None else parse_duration(limit))
    except ValueError:
        raise ConfigError("--timeout", limit, "a duration such as 500ms, 5s, 1m30s or a number of seconds") from None


def _chosen(flags: dict[str, Any], name: str) -> str | None:
    return flags[name] or os.environ.get(f"{ENV_PREFIX}{name.upper()}") or None


def _token(flags: dict[str, Any]) -> str | None:
    """A flag of either name wins over the environment."""
    path = flags["drain_token_file"]
    token = None if path else _chosen(flags, "drain_token")
    if token is None and (path := _chosen(flags, "drain_token_file")):
        token = _read(path)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ConfigError("--drain-token", "…", "one line of printable ASCII text")
    return token


def _read(path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:  # noqa: PTH123 - pathlib takes longer to import than this to run
            return file.read().strip()
    except OSError as error:
        raise ConfigError("--drain-token-file", path, f"a file that can be read ({error.strerror})") from error
