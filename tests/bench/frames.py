"""How do HTTP/2 frames look to our own client and server of streams? RFC 9113, section 4.1; no HPACK is decoded."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
ACK = END_STREAM = 0x1
HEAD = struct.Struct(">HBBBL")
"""Length (two fields: 24 bits), type, flags, stream."""
INITIAL_WINDOW_SIZE = 0x4
LARGEST_WINDOW = (1 << 31) - 1

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


CREDIT = frame(SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)) + frame(
    WINDOW_UPDATE, 0, 0, struct.pack(">L", LARGEST_WINDOW - 0xFFFF)
)
"""What either end says first: flow control never stops the other one during a measurement of seconds."""


def frames(data: bytes) -> tuple[list[Frame], bytes]:
    """All whole frames in it, and what is left."""
    whole: list[Frame] = []
    at, size = 0, len(data)
    while at + HEAD.size <= size:
        high, low, kind, flags, stream = HEAD.unpack_from(data, at)
        end = at + HEAD.size + (high << 8 | low)
        if end > size:
            break
        whole.append((kind, flags, stream, data[at + HEAD.size : end]))
        at = end
    return whole, data[at:]
