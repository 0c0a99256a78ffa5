"""What does drainproxy itself say to an HTTP/1 client? One line of plain text, and why, in `X-Drainproxy`."""

from __future__ import annotations

from http import HTTPStatus

RETRY_AFTER_S = 1
"""Sent with every 503: another replica, or this one in a moment, will answer."""

EXPLANATIONS = {
    "app-unavailable": "the app does not accept connections",
    "draining": "this instance is shutting down",
    "upstream-broke": "the app closed the connection before it answered",
    "upstream-bad-response": "the app's answer is not valid HTTP",
    "response-timeout": "the app did not answer in time",
    "header-timeout": "the request's head did not arrive in time",
    "body-timeout": "the request's body did not arrive in time",
    "connect-refused": "CONNECT is not served here",
    "not-http2": "only HTTP/2 with prior knowledge is served here",
    "body-too-large": "the request's body is larger than allowed",
    "header-too-large": "the request's head is larger than allowed",
    "incomplete-body": "the connection was closed before the body was complete",
}


def reply(status: int, reason: str, *, head_only: bool = False) -> bytes:
    """A whole response that ends the connection. `reason` is a token that becomes `X-Drainproxy`."""
    phrase = HTTPStatus(status).phrase
    text = f"{EXPLANATIONS.get(reason, f'malformed request: {reason}')}\n".encode()
    retry = f"Retry-After: {RETRY_AFTER_S}\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    allow = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        f"{retry}{allow}X-Drainproxy: {reason}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else text)
