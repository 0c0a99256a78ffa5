"""Who may drain and resume, and under which names may the admin port be asked at all?

Without a token everything else can be read by whoever reaches the port; but not by a web page of another site that a
browser shows to someone who can (a forwarded port is enough for that).
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drainproxy.errors import ConfigError
from drainproxy.observe.log import Log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drainproxy.config.options import Config

MAX_TOKEN_BYTES = 4096


class Access:
    """The rule of `--drain-access`, with the token. Constructed, it has read nothing; `load` must come first."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = Log(config)
        self._token = b""
        self._names = {name.lower() for name in (*config.admin_host, config.admin.host) if name}

    def load(self) -> None:
        """Read the token. Raises ConfigError if there should be one and is none."""
        if self._config.drain_token is not None:
            self._token = self._config.drain_token.strip().encode()
            if not self._token:
                raise ConfigError("--drain-token", "", "a token that is not empty")
        elif self._config.drain_token_file is not None:
            self._token = read_token(self._config.drain_token_file)

    def misdirected(self, headers: Mapping[str, str]) -> str | None:
        """Why a request to this Host is refused, else None (RFC 9110 §7.4: misdirected requests).

        A page whose name is made to resolve to our address (DNS rebinding) is of our own site to the browser, and gives
        itself away by nothing but that name.
        """
        host = headers.get("Host")
        if host is None or self._config.admin.path or self._is_ours(host):
            return None
        return f"{host} is not a name of the admin port: use its IP address, or start drainproxy with --admin-host"

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or name in self._names or _is_address(name)

    def refusal(self, peer: object, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason if this caller may not drain, else None. `peer`: the socket's peername."""
        if _from_another_site(headers):
            return 403, "web pages of other sites must not do this"
        if self._config.access == "any" or self._is_local(peer):
            return None
        if self._config.access == "loopback":
            return 403, "only processes in this Pod may do this (--drain-access loopback)"
        if not self._is_token(_token_in(headers)):
            return 401, "send the token as `Authorization: Bearer TOKEN` or `X-Drain-Token: TOKEN`"
        return None

    def refusal_to_run(self, peer: object, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason if this caller may not name a program to be run, else None.

        Whoever may do that can do whatever this process can: being on this machine is not enough.
        """
        if not self._is_local(peer):
            return 403, "only a process on this machine may name a program"
        if not self._token:
            return 403, "naming a program needs the drain token, and none is set: start with --drain-token-file"
        if not self._is_token(_token_in(headers)):
            return 401, "send the token as `Authorization: Bearer TOKEN` or `X-Drain-Token: TOKEN`"
        return None

    def _is_local(self, peer: object) -> bool:
        """On a unix socket everyone is. On TCP a peer that cannot be told is not."""
        if self._config.admin.path:
            return True
        if not isinstance(peer, tuple) or not peer:
            return False
        return ipaddress.ip_address(str(peer[0]).partition("%")[0].removeprefix("::ffff:")).is_loopback

    def _is_token(self, sent: bytes) -> bool:
        if self._config.drain_token_file is not None:
            self._reload(self._config.drain_token_file)
        return hmac.compare_digest(sent, self._token)

    def _reload(self, path: str) -> None:
        """A Secret that was rotated counts at once. One that cannot be read leaves the last one in force."""
        try:
            self._token = read_token(path)
        except ConfigError as error:
            self._log.warning("drain token could not be read again: the previous one stays valid", reason=str(error))


def read_token(path: str) -> bytes:
    """The token in a file, without the blanks around it. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise ConfigError("--drain-token-file", path, f"a file that can be read ({error.strerror})") from error
    if not token or len(token) > MAX_TOKEN_BYTES:
        raise ConfigError("--drain-token-file", path, f"a file that holds a token of 1 to {MAX_TOKEN_BYTES} bytes")
    return token


def _token_in(headers: Mapping[str, str]) -> bytes:
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    sent = credentials if scheme.lower() == "bearer" else headers.get("X-Drain-Token", "")
    return sent.strip().encode("utf-8", "surrogateescape")


def _from_another_site(headers: Mapping[str, str]) -> bool:
    """A browser says so. Through `kubectl port-forward` a page from elsewhere would otherwise come from loopback."""
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    said = (headers.get(name) for name in ("Origin", "Referer"))
    return any(_netloc(url) != headers.get("Host") for url in said if url is not None)


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:  # such as http://[::1
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
