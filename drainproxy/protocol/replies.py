"""What does drainproxy itself say to an HTTP/1 client? One line of plain text, and why, in `X-Drainproxy`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from drainproxy.protocol.reasons import Counted

if TYPE_CHECKING:
    from drainproxy.protocol.reasons import Reason

RETRY_AFTER_S: Final = 1
"""Sent with every 503: another replica, or this one in a moment, will answer."""


def reply(reason: Reason, *, head_only: bool = False) -> bytes:
    """A whole response that ends the connection."""
    assert reason.status is not None, f"{reason} is never said in HTTP/1"
    status = HTTPStatus(reason.status)
    malformed = status is HTTPStatus.BAD_REQUEST and reason.counted is Counted.BOTH
    text = f"{'malformed request: ' if malformed else ''}{reason.text}\n".encode()
    retry = f"Retry-After: {RETRY_AFTER_S}\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
    allow = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\n{retry}{allow}X-Drainproxy: {reason.label}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else text)
