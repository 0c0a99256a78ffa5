"""Which bytes may stand in a header section? And why was one refused?"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.protocol import fields, framing, http1
from drainproxy.protocol.fields import SECTION, TOKEN, VALUE, content_length, explain, is_chunked
from drainproxy.protocol.reasons import BadMessage
from drainproxy.session import http1 as http1_session

TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_name_is_made_of_the_characters_of_rfc_9110_and_no_others() -> None:
    token = re.compile(TOKEN)
    for byte in range(256):
        assert bool(token.fullmatch(bytes([byte]))) is (byte in TCHAR)
    assert not token.fullmatch(b"")


def test_a_value_is_visible_ascii_white_space_or_obs_text() -> None:
    value = re.compile(VALUE)
    for byte in range(256):
        allowed = byte == 0x09 or 0x20 <= byte <= 0x7E or byte >= 0x80
        assert bool(value.fullmatch(bytes([byte]))) is allowed
    assert value.fullmatch(b"")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([b"a", b":", b" ", b"\r\n", b"\r", b"\n", b"\0"])).map(b"".join)
)
def test_every_section_that_is_refused_is_explained_by_what_is_wrong_with_it(section: bytes) -> None:
    head = b"GET / HTTP/1.1\r\n" + section + b"\r\n"
    reason = explain(head).label
    if re.fullmatch(SECTION, section + b"\r\n") or re.fullmatch(SECTION, section):
        assert reason == "bad-start-line"  # nothing else is left to blame
        return
    if b"\r\n\r\n" in section or section.startswith(b"\r\n"):
        return  # never asked: a section ends at its empty line
    evidence = {
        "nul": b"\0" in section,
        "bare-lf": re.search(rb"(?<!\r)\n", section) is not None,
        "bare-cr": re.search(rb"\r(?!\n)", section + b"\r\n") is not None,
        "obs-fold": re.search(rb"(?:^|\n)[ \t]", section) is not None,
        "space-before-colon": re.search(rb"[ \t\x0b\x0c]:", section) is not None,
        "bad-field": True,
    }
    assert evidence[reason], reason


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"42", 42), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_a_content_length_is_its_digits(value: bytes, length: int) -> None:
    assert content_length(value, None) == length
    assert content_length(value, length) == length


@pytest.mark.parametrize(
    "value", [b"", b"+1", b"-1", b"1,1", b"1 1", b" 1", b"1 ", b"1\n", b"0x1", b"1_0", b"1.0", b"\xb2", b"a", b"9" * 19]
)
def test_anything_but_digits_is_no_content_length(value: bytes) -> None:
    with pytest.raises(BadMessage, match="bad-content-length"):
        content_length(value, None)


def test_two_content_lengths_must_agree() -> None:
    with pytest.raises(BadMessage, match="different-content-lengths"):
        content_length(b"1", 2)
    with pytest.raises(BadMessage, match="different-content-lengths"):
        content_length(b"1", 0)


@pytest.mark.parametrize("value", [b"chunked", b"chunked ", b"\tchunked", b"gzip,chunked", b"gzip , deflate,\tchunked"])
def test_the_last_coding_must_be_chunked(value: bytes) -> None:
    assert is_chunked(value, before=False)
    with pytest.raises(BadMessage, match="bad-transfer-encoding"):
        is_chunked(value, before=True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b",",
        b"gzip",
        b"identity",
        b"chunked,gzip",
        b"chunked,chunked",
        b",chunked",
        b"chunked,",
        b"chunked;a",
    ],
)
def test_any_other_coding_is_refused(value: bytes) -> None:
    with pytest.raises(BadMessage, match="bad-transfer-encoding"):
        is_chunked(value, before=False)


def test_no_group_is_repeated_possessively() -> None:
    """CPython before 3.11.5 gets these wrong (cpython#106052): strictness would depend on the patch release."""
    for module in (fields, framing, http1, http1_session):
        patterns = [value.pattern for value in vars(module).values() if isinstance(value, re.Pattern)]
        assert patterns
        for pattern in patterns:
            text = re.sub(rb"\[(?:\\.|[^]\\])*\]", b"x", pattern)  # character classes as one character
            assert not re.search(rb"\)(?:[*+?]|\{\d+,?\d*\})\+", text), text
