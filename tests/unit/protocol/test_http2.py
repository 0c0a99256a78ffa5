"""Frames of our own are what RFC 9113 says, and what is seen of others' is read right."""

from __future__ import annotations

import struct

import pytest

from drainproxy.protocol import http2
from drainproxy.protocol.http2 import FrameReader, TokenBucket
from drainproxy.protocol.reasons import BadFrame, ErrorCode, Reason


def test_frames_of_our_own() -> None:
    assert bytes.fromhex("000000 04 00 00000000") == http2.EMPTY_SETTINGS
    assert http2.rst_stream(5, ErrorCode.CANCEL) == bytes.fromhex("000004 03 00 00000005 00000008")
    assert http2.ping(b"12345678") == bytes.fromhex("000008 06 00 00000000") + b"12345678"
    assert (
        http2.goaway(http2.MAX_STREAM_ID, Reason.RAPID_RESET)
        == bytes.fromhex("000013 07 00 00000000 7fffffff 0000000b") + b"rapid-reset"
    )


def test_a_frame_header_is_read() -> None:
    word, flags, stream = http2.unpack_header(http2.frame(http2.DATA, 1, 7, b"x" * 300), 0)
    assert (word >> 8, word & 0xFF, flags, stream) == (300, http2.DATA, 1, 7)


def test_the_frame_size_that_an_end_accepts() -> None:
    other, size = struct.pack(">HI", 3, 100), struct.pack(">HI", 5, 32_768)
    assert http2.max_frame_size(other) is None
    assert http2.max_frame_size(other + size) == 32_768
    for wrong in (16_383, 1 << 24):
        with pytest.raises(BadFrame):
            http2.max_frame_size(struct.pack(">HI", 5, wrong))


def test_an_allowance_has_a_burst_and_a_pace() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(101.0)  # two more a second; one was overdrawn
    assert not bucket.take(101.0)


def test_a_receiver_never_takes_back_what_it_has_allowed() -> None:
    frames = FrameReader(64 * 1024)
    frames.begin()
    frames.allow(1 << 20)
    frames.allow(16_384)
    frames.check(http2.DATA, 0, 1, 1 << 20)
    with pytest.raises(BadFrame):
        frames.check(http2.DATA, 0, 1, (1 << 20) + 1)
