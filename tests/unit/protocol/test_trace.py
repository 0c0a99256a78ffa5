"""Is `traceparent` read and written as W3C Trace Context says, and put into a head in its place?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.protocol.http1 import Forwarding, RequestHead
from drainproxy.protocol.trace import TraceContext, read

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
VALID = b"00-%b-%b-01" % (TRACE, SPAN)


@pytest.mark.parametrize(
    ("value", "sampled"),
    [(VALID, True), (VALID[:-2] + b"00", False), (VALID[:-2] + b"03", True), (b"01" + VALID[2:] + b"-more", True)],
)
def test_what_is_valid_is_read(value: bytes, sampled: bool) -> None:
    assert read(b" " + value + b"\t") == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        VALID + b"-more",
        b"ff" + VALID[2:],
        VALID.upper(),
        VALID[:-1],
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        VALID.replace(b"-", b"_"),
        b"00-%b-%b-0g" % (TRACE, SPAN),
    ],
)
def test_what_is_not_valid_begins_a_new_trace(value: bytes) -> None:
    assert read(value) is None


@given(st.binary(max_size=80))
def test_whatever_comes_is_read_or_not_and_what_is_read_is_written_the_same(value: bytes) -> None:
    context = read(value)
    if context is not None:
        assert read(context.value()) == context


def forwarded(head: bytes, answer: bytes | None) -> tuple[bytes, list[list[bytes]]]:
    """What goes to the app, and what was asked for it."""
    asked: list[list[bytes]] = []

    def trace(given: list[bytes]) -> bytes | None:
        asked.append(given)
        return answer

    parsed = RequestHead.parse(head, 65536)
    assert parsed is not None
    to = Forwarding(b"10.0.0.9", b"http", True, lambda: b"id", trace)
    return parsed.forward(to, len(head)), asked


PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n%bAccept: */*\r\n\r\n"
ODD = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n%bAccept: */*\r\n\r\nbody"


@pytest.mark.parametrize("head", [PLAIN, ODD], ids=["plain", "general"])
def test_a_request_without_a_trace_gets_one(head: bytes) -> None:
    sent, asked = forwarded(head % b"", VALID)
    assert asked == [[]]
    assert sent.count(b"traceparent: " + VALID + b"\r\n") == 1


@pytest.mark.parametrize("head", [PLAIN, ODD], ids=["plain", "general"])
def test_another_value_takes_the_place_of_the_one_that_came(head: bytes) -> None:
    other = VALID.replace(SPAN, b"1" * 16)
    sent, asked = forwarded(head % (b"TraceParent: \t" + VALID + b"\r\ntracestate: a=1\r\n"), other)
    assert asked == [[VALID]]
    assert sent.lower().count(b"traceparent:") == 1
    assert other in sent
    assert b"tracestate: a=1\r\n" in sent
    assert b"X-Hop" not in sent


@pytest.mark.parametrize("head", [PLAIN, ODD], ids=["plain", "general"])
def test_what_is_left_alone_passes_as_it_came(head: bytes) -> None:
    line = b"traceparent: " + VALID + b"\r\n"
    sent, _ = forwarded(head % line, None)
    assert sent.count(line) == 1


def test_several_are_all_replaced() -> None:
    line = b"traceparent: " + VALID + b"\r\n"
    sent, asked = forwarded(PLAIN % (line + line), b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00")
    assert asked == [[VALID, VALID]]
    assert sent.lower().count(b"traceparent:") == 1


def test_one_that_connection_names_is_cut_once() -> None:
    line = b"traceparent: " + VALID + b"\r\n"
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: traceparent\r\n" + line + b"Accept: */*\r\n\r\n"
    sent, _ = forwarded(head, VALID)
    assert sent.count(b"traceparent: ") == 1
    assert b"Accept: */*\r\n" in sent


def test_a_head_that_is_sent_twice_says_the_same_and_no_more() -> None:
    head = PLAIN % (b"traceparent: " + VALID + b"\r\n")
    parsed = RequestHead.parse(head, 65536)
    assert parsed is not None
    to = Forwarding(b"10.0.0.9", b"http", True, lambda: b"id", lambda _: VALID)
    assert parsed.forward(to, len(head)) == parsed.forward(to, len(head))
