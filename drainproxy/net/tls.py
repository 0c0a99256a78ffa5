"""Which certificate do clients get to see, and which one siblings? What the files say now: they are read again.

Kubernetes replaces a mounted Secret by swapping a symbolic link, so both files change at once, and their inodes with
them. A context is made whole and then exchanged: open connections keep theirs, new ones get the new one, and a
certificate that cannot be used never replaces one that can. Tickets stay good, for their keys are the listener's.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.errors import ConfigError
from drainproxy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.values import RouteProtocol

LOOK_S = 2.0
"""Between two looks at the files: two system calls each."""

ALPN: dict[RouteProtocol, tuple[str, ...]] = {
    "auto": ("http/1.1",),
    "http1": ("http/1.1",),
    "http2": ("h2",),
    "tcp": (),
    "any": ("http/1.1",),
}
"""What a route offers. `auto` offers HTTP/1 only: a client that could choose would get what the app may not speak."""

TICKETS = 1
"""Session tickets that a client of TLS 1.3 gets on each connection, to resume a session with the next one. OpenSSL
would give it two; each was measured to cost about a tenth of a handshake."""

Stamp = tuple[tuple[int, int, int], ...]


class Tls:
    """The certificate and key of the process. Constructed, it touches nothing; `load` reads the files."""

    def __init__(self, cert: str, key: str) -> None:
        self._cert = cert
        self._key = key
        self._stamp: Stamp = ()
        self._current: dict[RouteProtocol, ssl.SSLContext] = {}

    def load(self) -> None:
        """Read the files. Raises ConfigError, and then what was there before stays."""
        for _ in range(3):
            stamp = self._look()
            fresh = {protocol: self._read(protocol) for protocol in ALPN}
            if stamp == self._look():  # else they were swapped meanwhile: certificate and key may be of two pairs
                self._stamp = stamp
                self._current = fresh
                return
        raise ConfigError("--tls-cert", self._cert, "a file that is not being written all the time")

    def context(self, protocol: RouteProtocol) -> ssl.SSLContext:
        """What a listener needs for a route of this protocol. Every connection gets the newest certificate."""
        front = self._read(protocol)

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _front: ssl.SSLContext) -> None:
            connection.context = self._current[protocol]

        front.sni_callback = choose
        return front

    async def watch(self, reloaded: Callable[[str | None], None]) -> None:
        """Read the files again when they change, until cancelled. Tells each time: None, or why the old one stays."""
        while True:
            await asyncio.sleep(LOOK_S)
            refused = ""
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    continue
                self._stamp = stamp  # what is there now is judged once, not at every look
                self.load()
            except ConfigError as error:
                refused = str(error)
            reloaded(refused or None)

    def _look(self) -> Stamp:
        found = []
        for option, path in (("--tls-cert", self._cert), ("--tls-key", self._key)):
            try:
                stat = Path(path).stat()
            except OSError as error:
                raise ConfigError(option, path, f"a file that can be read ({error.strerror})") from error
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _read(self, protocol: RouteProtocol) -> ssl.SSLContext:
        self._check("--tls-cert", self._cert, "CERTIFICATE-----")
        self._check("--tls-key", self._key, "PRIVATE KEY-----")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.num_tickets = min(context.num_tickets, TICKETS)  # fewer if the system's configuration says so
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if ALPN[protocol]:
            context.set_alpn_protocols(list(ALPN[protocol]))
        try:
            context.load_cert_chain(self._cert, self._key, self._no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError("--tls-key", self._key, f"the private key of {self._cert}") from error
            reason = error.reason or error
            raise ConfigError("--tls-cert", self._cert, f"a certificate that can be used ({reason})") from error
        except OSError as error:  # it was there a moment ago
            raise ConfigError("--tls-cert", self._cert, f"a file that can be read ({error.strerror})") from error
        return context

    def _check(self, option: str, path: str, mark: str) -> None:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(option, path, f"a file that can be read ({error.strerror})") from error
        if mark.encode() not in content:
            raise ConfigError(option, path, f"a PEM file with a line that ends in {mark}")

    def _no_password(self) -> str:
        raise ConfigError("--tls-key", self._key, "a key without a password")


class Trust:
    """Whom we take for a sibling on a route with TLS: whoever has a certificate that `ca` vouches for.

    `ca`: a PEM file, None for what the system trusts. `name`: the name in the certificate, None for the host that was
    dialled. Constructed, it touches nothing.
    """

    def __init__(self, ca: str | None, name: str | None) -> None:
        self.name = name
        self._ca = ca
        self._stamp: tuple[int, int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def load(self) -> None:
        """Read the file. Raises ConfigError, and then what was there before stays."""
        try:
            self._stamp = self._look()
            context = trusting(self._ca)
        except ssl.SSLError as error:
            raise ConfigError("--successor-ca", self._ca, "a PEM file with certificates") from error
        except OSError as error:
            raise ConfigError("--successor-ca", self._ca, f"a file that can be read ({error.strerror})") from error
        self._context = context

    def context(self) -> ssl.SSLContext:
        """For a new connection: the file is read again if it has changed."""
        with suppress(OSError, ConfigError):
            if self._look() != self._stamp:
                self.load()
        assert self._context is not None, "loaded at the start"
        return self._context

    def _look(self) -> tuple[int, int, int] | None:
        if self._ca is None:
            return None
        stat = Path(self._ca).stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
