"""What do we call what a library or the system raised? A failure class and one line in our own words.

The words are the same whatever version of the library is installed.
"""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp

from drainproxy.tools.probe import verdict

_ERRNO = {
    errno.ECONNREFUSED: verdict.REFUSED,
    errno.ECONNRESET: verdict.RESET,
    errno.ECONNABORTED: verdict.RESET,
    errno.EPIPE: verdict.RESET,
    errno.ETIMEDOUT: verdict.TIMEOUT,
    errno.EHOSTUNREACH: verdict.UNREACHABLE,
    errno.ENETUNREACH: verdict.UNREACHABLE,
    errno.EMFILE: verdict.LOCAL,
    errno.ENFILE: verdict.LOCAL,
    errno.EADDRNOTAVAIL: verdict.LOCAL,
}

_WORDS = {
    errno.ECONNREFUSED: "no program listens on that port",
    errno.ECONNRESET: "the other side reset the connection",
    errno.ECONNABORTED: "the connection was aborted",
    errno.EPIPE: "the other side had closed the connection before the request was sent",
    errno.ETIMEDOUT: "the system gave up connecting",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
    errno.EMFILE: "this process has no more open files",
    errno.ENFILE: "this machine has no more open files",
    errno.EADDRNOTAVAIL: "this machine has no more local ports",
}

_CERTIFICATE = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: "comes from an authority that is not trusted here",
    20: "comes from an authority that is not trusted here",
    21: "comes without the certificates between it and its authority",
    62: "is for a different name",
    64: "is for a different address",
}
"""OpenSSL's verify results (X509_V_ERR_…), as `the certificate …`."""

_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS",
    "HTTP_REQUEST": "the server does not speak TLS",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the server does not speak TLS",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server asks for a client certificate (--cert)",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust the authority of our client certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the server does not know this name (--sni)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server and this machine have no TLS settings in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server and this machine have no TLS version in common",
    "UNEXPECTED_EOF_WHILE_READING": "the connection was closed during the handshake",
}

_UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def classify(error: BaseException) -> tuple[str, str]:
    """Failure class and one line of detail for what was raised before the head of a response was complete."""
    cause = _tls_error(error)
    if cause is not None:
        return verdict.TLS, _tls_words(cause)
    return _of_aiohttp(error) or _of_the_system(error)


def _of_aiohttp(error: BaseException) -> tuple[str, str] | None:
    """None: aiohttp only passes on what the system said."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return verdict.DNS, _dns_words(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        if isinstance(error.message, str):
            return verdict.EMPTY, "the connection was closed without a response"
        return verdict.CUT, "the connection was closed inside the response's head"
    if isinstance(error, aiohttp.ClientResponseError):
        return verdict.BAD_REPLY, "the response's head is not valid HTTP/1.1"
    if isinstance(error, aiohttp.ClientConnectionResetError):
        return verdict.RESET, _WORDS[errno.ECONNRESET]
    return None


def _of_the_system(error: BaseException) -> tuple[str, str]:
    number = (error.errno if isinstance(error, OSError) else None) or 0
    if number in _ERRNO:
        return _ERRNO[number], _WORDS[number]
    return verdict.OTHER, f"an unknown error ({type(error).__name__}{f' {number}' if number else ''})"


def how_it_ended(error: BaseException) -> str:
    """How a body ended that did not end well: `the connection was closed`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionResetError):
            return "the connection was reset"
        seen = seen.__cause__ or seen.__context__
    return "the connection was closed"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """OpenSSL's error that is behind this one, if any."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError) and not isinstance(seen, aiohttp.ClientError):
            return seen
        seen = getattr(seen, "certificate_error", None) or seen.__cause__
    return None


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE.get(error.verify_code, f"was refused (OpenSSL's code {error.verify_code})")
        return f"the certificate {fault}"
    reason = str(error.reason or "")
    return _HANDSHAKE.get(reason, f"the handshake failed ({reason.lower().replace('_', ' ') or 'no reason given'})")


def _dns_words(error: aiohttp.ClientConnectorDNSError) -> str:
    number = error.os_error.errno
    why = "there is no such name" if number in _UNKNOWN_NAME else "the name server did not answer"
    return f"{error.host}: {why}"
