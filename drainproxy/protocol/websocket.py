"""Where do WebSocket frames end? Their lengths, nothing else; and the one frame that we send: Close 1001.

RFC 6455 §5.2. Payloads stay as they are: compressed, fragmented, masked or not.
"""

from __future__ import annotations

import struct
from typing import Final

CLOSE_OPCODE: Final = 0x8
GOING_AWAY: Final = 1001
_FIN: Final = 0x80
_MASKED: Final = 0x80
_MASK_SIZE: Final = 4
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_MIN_HEADER: Final = 2
_MAX_SHORT: Final = _MIN_HEADER + _LENGTH_16 - 1
"""Bytes of the longest unmasked frame whose length fits into the shortest header."""
MAX_HEADER_SIZE: Final = 14


def close_frame(code: int, why: str) -> bytes:
    """A server's Close. `why` is for people, at most 123 bytes."""
    payload = struct.pack(">H", code) + why.encode()
    return bytes((_FIN | CLOSE_OPCODE, len(payload))) + payload


def frame_size(data: bytes, at: int) -> int:
    """Bytes of the frame that begins at this index, header included; 0: more of the header must come first."""
    left = len(data) - at
    if left < _MIN_HEADER:
        return 0
    second = data[at + 1]
    length = second & 0x7F
    size = 2 if second < _MASKED else 2 + _MASK_SIZE
    if length < _LENGTH_16:
        return size + length
    extended = 2 if length == _LENGTH_16 else 8
    if left < 2 + extended:
        return 0
    return size + extended + int.from_bytes(data[at + 2 : at + 2 + extended])


def carries_data(data: bytes) -> bool:
    """Whether a frame that begins here is part of a message, and no Close, Ping or Pong (RFC 6455 §5.5)."""
    return data[:1] != b"" and data[0] & 0x0F < CLOSE_OPCODE


class Frames:
    """The frames of one direction, cut anywhere. `closing`: a Close has begun, so no frame of ours may follow."""

    __slots__ = ("_partial", "_skip", "closing")

    def __init__(self) -> None:
        self._skip = 0
        self._partial = b""
        self.closing = False

    @property
    def at_boundary(self) -> bool:
        """One frame has ended and the next has not begun."""
        return not self._skip and not self._partial

    def follow(self, data: bytes) -> None:
        """These bytes pass. Mostly they are one short frame, unmasked and whole: then nothing changes."""
        position = self._skip
        size = len(data)
        if self._partial:
            position = self._complete(data)
        elif (
            not position
            and _MIN_HEADER <= size <= _MAX_SHORT
            and data[1] == size - _MIN_HEADER
            and data[0] & 0x0F != CLOSE_OPCODE
        ):
            return
        while position < size:
            whole = frame_size(data, position)
            if data[position] & 0x0F == CLOSE_OPCODE:
                self.closing = True
            if not whole:
                self._partial = data[position:]
                break
            position += whole
        self._skip = max(0, position - size)

    def end_of_frame(self, data: bytes) -> int:
        """Index in `data` behind the frame that is under way, or its length if that goes on; those bytes pass."""
        end = self._complete(data) if self._partial else self._skip
        self._skip = 0
        if self._partial or end > len(data):
            self._skip = max(0, end - len(data))
            return len(data)
        return end

    def _complete(self, data: bytes) -> int:
        """Index in `data` behind the frame whose header is cut."""
        before = len(self._partial)
        header = self._partial + data[:MAX_HEADER_SIZE]
        whole = frame_size(header, 0)
        self._partial = b"" if whole else header
        return whole - before if whole else len(data)
