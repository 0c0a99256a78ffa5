"""Where frames end is found for every length, mask and cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.protocol.websocket import GOING_AWAY, Frames, close_frame, frame_size


def test_our_close() -> None:
    assert close_frame(GOING_AWAY, "bye") == b"\x88\x05\x03\xe9bye"


@pytest.mark.parametrize("mask", [0, 0x80])
@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x82\0"),
        (125, b"\x82\x7d"),
        (126, struct.pack(">BBH", 0x82, 126, 126)),
        (65_535, struct.pack(">BBH", 0x82, 126, 65_535)),
        (65_536, struct.pack(">BBQ", 0x82, 127, 65_536)),
        (1 << 40, struct.pack(">BBQ", 0x82, 127, 1 << 40)),
    ],
)
def test_a_frames_size(length: int, header: bytes, mask: int) -> None:
    header = header[:1] + bytes((header[1] | mask,)) + header[2:]
    size = len(header) + (4 if mask else 0) + length
    assert frame_size(b"before" + header, 6) == size
    assert all(frame_size(header[:cut], 0) == 0 for cut in range(len(header)))


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=4), st.lists(st.integers(0, 300_000), max_size=20))
def test_boundaries_are_found_however_frames_are_cut(lengths: list[int], at: list[int]) -> None:
    data = b""
    ends = {0}
    for length in lengths:
        data += struct.pack(">BBQ", 0x82, 127, length) + bytes(length)
        ends.add(len(data))
    frames = Frames()
    places = sorted({place % (len(data) + 1) for place in at} | {len(data)})
    before = 0
    for place in places:
        frames.follow(data[before:place])
        assert frames.at_boundary == (place in ends)
        before = place


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_end_of_the_frame_under_way_is_found(first: int, second: int) -> None:
    one, two = struct.pack(">BBH", 0x82, 126, 40) + bytes(40), b"\x81\x05hello"
    data = one + two
    first %= len(one)
    frames = Frames()
    frames.follow(data[:first])
    if first:
        rest = data[first : first + second]
        passed = frames.end_of_frame(rest)
        assert passed == min(len(rest), len(one) - first)
        assert frames.at_boundary == (first + len(rest) >= len(one))


def test_a_close_is_noticed_by_its_first_byte() -> None:
    frames = Frames()
    frames.follow(b"\x81\x02hi\x88")
    assert frames.closing


def test_a_piece_of_a_payload_that_looks_like_a_whole_frame_is_none() -> None:
    frames = Frames()
    frames.follow(b"\x82\x0a")
    frames.follow(b"\x81\x02hi")
    assert not frames.at_boundary
    frames.follow(b"\x81\x04four")
    assert frames.at_boundary
