"""Which certificates does a client of ours believe? One TLS context for everything that asks others."""

from __future__ import annotations

import ssl


def trusting(ca_file: str | None = None) -> ssl.SSLContext:
    """Checks certificate and host name, by the system's authorities or by those of a PEM file.

    Raises OSError (ssl.SSLError is one) for a file that cannot be used. Reads files: not for the event loop.
    """
    return as_others(ssl.create_default_context(cafile=ca_file))


def as_others(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, as strict as curl and Go are.

    From 3.13 on Python also demands extensions that the authorities of older clusters, and home-made ones, do not have
    (VERIFY_X509_STRICT: an authority's key usage, RFC 5280 section 4.2.1.3; the issuer's key identifier, 4.2.1.1).
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
