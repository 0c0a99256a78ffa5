"""What does `traceparent` say, and how is it written? W3C Trace Context, level 1: https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(rb"\n(?i:traceparent):[ \t]*+([^\r\n]*+)\r(?=\n)")
_VALUE = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.S)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which trace a request belongs to, the span it comes from, and whether somebody records it. Hexadecimal digits."""

    trace_id: bytes
    span_id: bytes
    sampled: bool

    def value(self) -> bytes:
        """As it stands in the field, in the version we know."""
        return b"00-%b-%b-%02x" % (self.trace_id, self.span_id, self.sampled)


def read(value: bytes) -> TraceContext | None:
    """What a field says; None: nothing that is valid (§3.2.2), and a new trace begins.

    Of a later version the first four parts are read (§4.3).
    """
    match = _VALUE.fullmatch(value.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if (
        version == b"ff"
        or (version == b"00" and more is not None)
        or not trace_id.strip(b"0")
        or not span_id.strip(b"0")
    ):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def fields(head: bytes, end: int) -> list[tuple[int, int, bytes]]:
    """Where in a head the field stands, from the start of its line to behind it, and its value."""
    return [(match.start() + 1, match.end() + 1, match[1]) for match in _FIELD.finditer(head, 0, end)]
