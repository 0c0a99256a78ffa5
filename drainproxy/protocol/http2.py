"""What does an HTTP/2 frame say without its payload? Headers of frames, the rules they obey, and frames of our own.

RFC 9113. One `FrameReader` follows the frames of one direction. It knows where a frame of ours may stand, and which
frames break the protocol so that they must not be let through. HPACK is never read: it stays between the two ends.
"""

from __future__ import annotations

import struct
from typing import Final

from drainproxy.protocol.reasons import BadFrame, ErrorCode, Reason

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
MAX_STREAM_ID: Final = (1 << 31) - 1
DEFAULT_FRAME_SIZE: Final = 16 * 1024
MAX_FRAME_SIZE: Final = (1 << 24) - 1
MAX_CONTINUATIONS: Final = 64
"""CONTINUATION frames of one header block (CVE-2024-27316: a block that never ends)."""
EMPTY_FRAMES: Final = (10_000, 1_000.0)
"""Frames of one end that carry nothing: at once, and a second (CVE-2019-9512, -9515, -9518)."""
WINDOW_UPDATES: Final = (50_000, 20_000.0)
"""As EMPTY_FRAMES. Some receivers send two for each small frame that they read, so there are more of them."""

unpack_header = struct.Struct(">IBi").unpack_from
"""(length << 8 | type, flags, stream) of the frame header at an offset. A negative stream: the reserved bit is set."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4

SETTINGS_MAX_FRAME_SIZE: Final = 5

_OF_A_STREAM: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_OF_THE_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})
_EXACT_SIZE: Final = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">II")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def goaway(last: int, reason: Reason) -> bytes:
    """No stream above `last` was or will be served on this connection. The reason's label is for people."""
    assert reason.code is not None, f"{reason} is never said in HTTP/2"
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, reason.code) + reason.label.encode())


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """This stream ends here."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(opaque: bytes) -> bytes:
    """Answer with the same eight bytes, once everything before has been read."""
    return frame(PING, 0, 0, opaque)


EMPTY_SETTINGS: Final = frame(SETTINGS, 0, 0, b"")
"""What a server must have sent before anything else."""


def max_frame_size(payload: bytes) -> int | None:
    """What a SETTINGS frame says of the frames that its sender accepts; None: nothing. Raises BadFrame."""
    found = None
    for identifier, value in _SETTING.iter_unpack(payload):
        if identifier == SETTINGS_MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_SIZE <= value <= MAX_FRAME_SIZE:
                raise BadFrame(Reason.BAD_SETTING)
            found = value
    return found


def ends_at_goaway(payload: bytes) -> bool:
    """Whether these are the first SETTINGS of a client that takes every GOAWAY for the end of the connection.

    Python's h2, and with it httpx, does: it fails streams that are open and every later frame (python-hyper/h2#1181).
    It is known by four settings at the beginning, in this order, two of which only repeat the default. Another client
    that is taken for it loses nothing: it is told to go when nothing is open.
    """
    settings = list(_SETTING.iter_unpack(payload))[:4]
    return (
        [identifier for identifier, _ in settings] == [1, 2, 4, 5] and (1, 4096) in settings and (5, 16384) in settings
    )


def read_goaway(data: bytes, at: int) -> tuple[int, int]:
    """The last stream that its sender serves, and the error code, of the whole GOAWAY frame at this index."""
    last, code = _GOAWAY.unpack_from(data, at + HEADER_SIZE)
    return last & MAX_STREAM_ID, code


class TokenBucket:
    """How often may something happen? `burst` times at once, `per_s` times a second in the long run."""

    __slots__ = ("_burst", "_left", "_per_s", "_seen_at")

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._seen_at = 0.0

    def take(self, now: float) -> bool:
        """It happens (`now`: seconds on the caller's clock). False: too often."""
        self._left = min(self._burst, self._left + (now - self._seen_at) * self._per_s) - 1
        self._seen_at = now
        return self._left >= 0


class FrameReader:
    """The frames of one direction, whole or cut anywhere. The reader of the frames keeps the fields.

    `skip`: bytes of a begun frame's payload that are still to come. `held`: the beginning of a frame that is not passed
    on before it is complete. `block`: the stream whose header block is open: nothing else may stand in between.
    `ending`: the stream that ends with what is under way, a frame or a header block.
    """

    __slots__ = (
        "_block_size", "_continuations", "_frame_size", "_max_block", "begun", "block", "empty_frames", "ending",
        "held", "skip", "usual", "window_updates",
    )  # fmt: skip

    def __init__(self, max_block: int) -> None:
        self._max_block = max_block
        self._frame_size = DEFAULT_FRAME_SIZE
        self._block_size = 0
        self._continuations = 0
        self.skip = 0
        self.held = b""
        self.block = 0
        self.ending = 0
        self.begun = False  # SETTINGS, which is the first frame of either end, has passed
        self.empty_frames = TokenBucket(*EMPTY_FRAMES)
        self.window_updates = TokenBucket(*WINDOW_UPDATES)
        self.usual = -1  # frames with a larger first word, (length << 8 | type), need a closer look

    @property
    def at_boundary(self) -> bool:
        """A frame of ours may stand here."""
        return not self.skip and not self.block and self.begun

    def begin(self) -> None:
        """The first SETTINGS have passed."""
        self.begun = True
        self.allow(DEFAULT_FRAME_SIZE)

    def allow(self, size: int) -> None:
        """The receiver takes frames up to this size. What it once allowed may still be under way, so never less."""
        self._frame_size = max(self._frame_size, size)
        if self.begun:
            self.usual = min(self._frame_size, self._max_block) << 8 | 0xFF

    def check(self, kind: int, flags: int, stream: int, length: int) -> None:
        """A frame that is not the usual DATA or HEADERS: may it stand here? Raises BadFrame."""
        if length > self._frame_size:
            raise BadFrame(Reason.FRAME_TOO_LARGE)
        if not self.begun and (kind != SETTINGS or flags & ACK):
            raise BadFrame(Reason.NO_SETTINGS)
        if self.block:
            self._check_continuation(kind, flags, stream, length)
        elif kind == CONTINUATION:
            raise BadFrame(Reason.STRAY_CONTINUATION)
        if (stream == 0 and kind in _OF_A_STREAM) or (stream > 0 and kind in _OF_THE_CONNECTION):
            raise BadFrame(Reason.BAD_STREAM_ID)
        if _EXACT_SIZE.get(kind, length) != length:
            raise BadFrame(Reason.BAD_FRAME_SIZE)
        self._check_size(kind, flags, length)

    def _check_size(self, kind: int, flags: int, length: int) -> None:
        if kind == SETTINGS and length % _SETTING.size | (length if flags & ACK else 0):
            raise BadFrame(Reason.BAD_FRAME_SIZE)
        if kind in (SETTINGS, GOAWAY) and length > DEFAULT_FRAME_SIZE:
            raise BadFrame(Reason.FRAME_TOO_LARGE)
        if kind == GOAWAY and length < 8:  # noqa: PLR2004 - a stream and a code
            raise BadFrame(Reason.BAD_FRAME_SIZE)
        if kind in (HEADERS, PUSH_PROMISE) and length > self._max_block:
            raise BadFrame(Reason.HEADER_TOO_LARGE)

    def take_ending(self) -> int:
        """The stream that has ended by now."""
        stream, self.ending = self.ending, 0
        return stream

    def open_block(self, stream: int, length: int) -> None:
        """A header block goes on in CONTINUATION frames."""
        self.block = stream
        self._block_size = length
        self._continuations = 0

    def _check_continuation(self, kind: int, flags: int, stream: int, length: int) -> None:
        if kind != CONTINUATION or stream != self.block:
            raise BadFrame(Reason.BROKEN_HEADER_BLOCK)
        self._block_size += length
        self._continuations += 1
        if self._block_size > self._max_block or self._continuations > MAX_CONTINUATIONS:
            raise BadFrame(Reason.HEADER_TOO_LARGE)
        if flags & END_HEADERS:
            self.block = 0
