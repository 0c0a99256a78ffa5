"""What does a failure class mean, and what is its likely cause?

The meaning is what the client saw, and is certain. A cause is a guess, and only given together with its evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.tools.probe.verdict import (
    AFTER,
    BAD_REPLY,
    BEFORE,
    CUT,
    DNS,
    EMPTY,
    LOCAL,
    OTHER,
    REFUSED,
    RESET,
    STREAM_RESET,
    TIMEOUT,
    TLS,
    UNREACHABLE,
    WRONG_ECHO,
)

if TYPE_CHECKING:
    from drainproxy.tools.probe.verdict import FailureClass, Verdict

MEANING = {
    REFUSED: "the connection was refused",
    RESET: "the connection was reset before the first byte of the response",
    EMPTY: "the connection was closed before the first byte of the response",
    CUT: "the response began but was not complete",
    TIMEOUT: "there was no complete response in time",
    DNS: "the name did not resolve",
    UNREACHABLE: "there was no route to the address",
    TLS: "the TLS handshake failed",
    BAD_REPLY: "the answer was not a valid response",
    STREAM_RESET: "the server reset the HTTP/2 stream before the response was complete",
    WRONG_ECHO: "the answer was not an echo of the message",
    LOCAL: "this machine could not send: it has no more open files or local ports; lower --rate or raise `ulimit -n`",
    OTHER: "another error: see the example",
    "close 1001": "the server said that it was going away while an answer was due",
    "close 1006": "the WebSocket ended without a close frame",
    "UNAVAILABLE": "the gRPC connection broke or could not be made",
    "NOT_SERVING": "the gRPC health service reported NOT_SERVING",
}

_LATE = frozenset({REFUSED, UNREACHABLE})
_INTERRUPTED = frozenset({RESET, EMPTY, CUT, STREAM_RESET, "close 1001", "close 1006", "UNAVAILABLE"})
_GATEWAY = {
    "502": "a proxy in front could not reach the app, or the app closed the connection on it",
    "503": "a proxy in front had no endpoint for the request",
    "504": "a proxy in front waited for the app, and no answer came",
}


def meaning(name: str) -> str:
    """What the client saw, in one clause. Certain."""
    return MEANING.get(name, "the server answered with an error")


def likely_cause(each: FailureClass, verdict: Verdict) -> str:
    """One sentence, cause and evidence; empty where nothing but guessing is left.

    Evidence is what the run itself shows: a command was measured, the class did not occur before it, and most requests
    of the same phase were answered.
    """
    if each.phases.get(BEFORE):
        return ""
    measured = any(latency.phase == AFTER for latency in verdict.latency)
    answered = verdict.sent - verdict.failed
    if not measured or answered <= verdict.failed:
        return ""
    evidence = f"none of these before the command started, and {answered} other requests were answered"
    if each.name in _LATE:
        return f"traffic still went to a Pod that had closed its port ({evidence})"
    if each.name in _INTERRUPTED:
        return _interrupted(each, evidence)
    if each.name in _GATEWAY:
        return f"{_GATEWAY[each.name]} ({evidence})"
    return ""


def seen_before(each: FailureClass) -> str:
    """A clause if the class also occurred before the command started; else empty."""
    count = each.phases.get(BEFORE, 0)
    return f"{count} of them before the command started: the rollout is not the only cause" if count else ""


def _interrupted(each: FailureClass, evidence: str) -> str:
    if each.name in (RESET, EMPTY) and each.reused == each.count:
        return (
            "the server closed idle keep-alive connections at the moment a request came (all of these were on a "
            f"connection that had carried a request before; {evidence})"
        )
    return f"the app was stopped while it worked on the request ({evidence})"
