"""How does the client check the server, and show who it is? One TLS context from the options."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from drainproxy.errors import ConfigError
from drainproxy.trust import trusting


@dataclass(frozen=True, slots=True)
class Tls:
    """`ca`: a file of authorities instead of the system's. `name`: for SNI and the certificate, instead of the URL's
    host. `cert`, `key`: files of our own certificate; the key may be in the first."""

    insecure: bool = False
    ca: str | None = None
    name: str | None = None
    cert: str | None = None
    key: str | None = None

    def context(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Raises ConfigError for files that cannot be used."""
        try:
            context = trusting(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("--cacert", self.ca, f"a file of PEM certificates ({_why(error)})") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                expected = f"PEM files of a certificate and its key ({_why(error)})"
                raise ConfigError("--cert, --key", f"{self.cert}, {self.key or self.cert}", expected) from error
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def _why(error: OSError) -> str:
    """SSLError is an OSError whose strerror is the library's own text."""
    if isinstance(error, ssl.SSLError):
        return "not PEM, or the two do not belong together"
    return error.strerror or "cannot be read"
