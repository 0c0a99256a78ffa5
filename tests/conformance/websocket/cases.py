"""What may a WebSocket client send, right and wrong? Each case is one way to use or break the frames of RFC 6455.

The groups follow the chapters of the well-known suite of the Autobahn project, which runs on Python 2 only.
"""

from __future__ import annotations

import struct
from itertools import product

MASK = b"\x37\xfa\x21\x3d"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK, wide: int = 0
) -> bytes:
    """A client's frame. `wide`: 2 or 8 length bytes although fewer would do."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    masked = 0x80 if mask else 0
    if wide == 8 or size >= 1 << 16:
        head = struct.pack(">BBQ", first, masked | 127, size)
    elif wide == 2 or size >= 126:
        head = struct.pack(">BBH", first, masked | 126, size)
    else:
        head = bytes((first, masked | size))
    if not mask:
        return head + payload
    repeated = (mask * (size // 4 + 1))[:size]
    scrambled = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
    return head + mask + scrambled


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


BYE = close()
LENGTHS = (0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1 << 20)
GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
BAD_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
BAD_UTF8 = {
    "a lone continuation byte": b"\x80",
    "a surrogate": b"\xed\xa0\x80",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "an overlong slash": b"\xc0\xaf",
    "a cut character": b"\xce\xba\xe1\xbd",
    "bytes that never occur": b"\xfe\xff",
}
CASES: dict[str, bytes] = {}
"""What is sent, by name. A `BYE` at the end is sent when everything before has been answered."""

for length in LENGTHS:
    CASES[f"text of {length}"] = frame(TEXT, b"*" * length) + BYE
    CASES[f"binary of {length}"] = frame(BINARY, bytes(range(256)) * (length // 256) + bytes(length % 256)) + BYE
for length, wide in product((0, 125), (2, 8)):
    CASES[f"{length} in {wide} length bytes"] = frame(BINARY, bytes(length), wide=wide) + BYE
CASES["300 in 8 length bytes"] = frame(BINARY, bytes(300), wide=8) + BYE
for length in (0, 1, 125, 126):
    CASES[f"ping of {length}"] = frame(PING, b"p" * length) + BYE
    CASES[f"pong of {length}"] = frame(PONG, b"p" * length) + frame(TEXT, b"after") + BYE
CASES["ten pings"] = b"".join(frame(PING, b"%d" % number) for number in range(10)) + BYE
for rsv in range(1, 8):
    CASES[f"reserved bits {rsv}"] = frame(TEXT, b"x", rsv=rsv) + BYE
for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    CASES[f"reserved opcode {opcode}"] = frame(opcode, b"x") + frame(PING) + BYE
for opcode in (CLOSE, PING, PONG):
    CASES[f"control frame {opcode} in pieces"] = frame(opcode, b"", fin=False) + frame(CONTINUATION, b"x") + BYE
PIECES = frame(TEXT, b"one ", fin=False), frame(CONTINUATION, b"two ", fin=False), frame(CONTINUATION, b"three")
CASES["a message in three pieces"] = b"".join(PIECES) + BYE
CASES["pieces with pings between"] = PIECES[0] + frame(PING, b"1") + PIECES[1] + frame(PING, b"2") + PIECES[2] + BYE
CASES["pieces with pongs between"] = PIECES[0] + frame(PONG, b"1") + PIECES[1] + PIECES[2] + BYE
CASES["a close between pieces"] = PIECES[0] + BYE + PIECES[1] + PIECES[2]
CASES["empty pieces"] = frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION) + BYE
CASES["a continuation of nothing"] = frame(CONTINUATION, b"x") + frame(TEXT, b"y") + BYE
CASES["an open continuation of nothing"] = frame(CONTINUATION, b"x", fin=False) + frame(TEXT, b"y") + BYE
CASES["a text within a message"] = PIECES[0] + frame(TEXT, b"y") + BYE
CASES["a binary within a message"] = PIECES[0] + frame(BINARY, b"y") + BYE
CASES["a message byte by byte"] = (
    b"".join(frame(TEXT if n == 0 else CONTINUATION, b"x", fin=n == 99) for n in range(100)) + BYE
)
CASES["a message of 1 MiB in 64 pieces"] = (
    b"".join(frame(BINARY if n == 0 else CONTINUATION, bytes(16_384), fin=n == 63) for n in range(64)) + BYE
)
CASES["a thousand small messages"] = b"".join(frame(TEXT, b"%d" % number) for number in range(1000)) + BYE
CASES["no mask"] = frame(TEXT, b"x", mask=b"") + BYE
CASES["a mask of zeros"] = frame(TEXT, b"x", mask=bytes(4)) + BYE
CASES["many languages"] = frame(TEXT, "κόσμε, 漢字, 🌍".encode()) + BYE
CASES["a character in two pieces"] = frame(TEXT, b"\xce", fin=False) + frame(CONTINUATION, b"\xba") + BYE
for name, text in BAD_UTF8.items():
    CASES[f"bad UTF-8: {name}"] = frame(TEXT, text) + BYE
    CASES[f"bad UTF-8 in a close: {name}"] = close(1000, text)
    CASES[f"bad UTF-8 as binary: {name}"] = frame(BINARY, text) + BYE
for code in GOOD_CODES + BAD_CODES:
    CASES[f"close {code}"] = close(code, b"why")
CASES["close without a code"] = close(None)
CASES["close with half a code"] = frame(CLOSE, b"\x03")
CASES["close with the longest reason"] = close(1000, b"x" * 123)
CASES["close with a reason too long"] = close(1000, b"x" * 124)
CASES["two closes"] = BYE + close(1001)
CASES["a text behind the close"] = BYE + frame(TEXT, b"x")
CASES["a ping behind the close"] = BYE + frame(PING, b"x")
CASES["nothing"] = b""
CASES["half a header"] = b"\x82"
CASES["half a payload"] = frame(BINARY, bytes(100))[:50]
CASES["a length beyond reason"] = struct.pack(">BBQ", 0x82, 0x80 | 127, 1 << 63) + MASK
