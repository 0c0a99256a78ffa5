"""Where does a body end? Every byte is the body's or what follows it, in whatever pieces they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.protocol.framing import MAX_EXTENSIONS, MAX_LINE, Chunked, Length, UntilClose
from drainproxy.protocol.reasons import BadMessage, Reason

if TYPE_CHECKING:
    from drainproxy.protocol.framing import Framing

LIMIT = 4096
NEXT = b"GET / HTTP/1.1\r\n"


def feed(framing: Framing, *pieces: bytes) -> bytes:
    """What of the pieces belongs to the body; feeding stops at its end, as its owner does."""
    taken = b""
    for piece in pieces:
        if framing.done:
            break
        stop = framing.feed(piece, 0)
        assert 0 <= stop <= len(piece)
        assert stop == len(piece) or framing.done
        taken += piece[:stop]
    return taken


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


# --- lengths ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=50), st.lists(st.integers(1, 20), max_size=5))
def test_a_length_takes_as_many_bytes_and_no_more(body: bytes, sizes: list[int]) -> None:
    framing = Length(len(body))
    assert feed(framing, *cut(body + NEXT, sizes)) == body
    assert (framing.payload, framing.done, framing.end()) == (len(body), True, True)


def test_what_passes_unread_counts_as_much_as_what_is_fed() -> None:
    framing = Length(10)
    assert framing.feed(b"abc", 0) == 3
    framing.skip(5)
    assert (framing.payload, framing.left, framing.done) == (8, 2, False)
    framing.skip(2)
    assert (framing.payload, framing.left, framing.done) == (10, 0, True)


def test_a_length_that_is_not_reached_is_no_end() -> None:
    framing = Length(3)
    feed(framing, b"ab")
    assert (framing.payload, framing.done, framing.end()) == (2, False, False)
    assert Length(0).done


def test_a_body_until_close_takes_everything_and_the_close_is_its_end() -> None:
    framing = UntilClose()
    assert feed(framing, b"ab", NEXT) == b"ab" + NEXT
    assert (framing.payload, framing.done) == (2 + len(NEXT), False)
    assert framing.end()
    assert framing.done


@pytest.mark.parametrize("framing", [Length(5), UntilClose(), Chunked(LIMIT)], ids=["length", "until close", "chunked"])
def test_a_body_may_begin_within_the_data(framing: Framing) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    body = b"5\r\nabcde\r\n0\r\n\r\n" if isinstance(framing, Chunked) else b"abcde"
    assert framing.feed(head + body, len(head)) == len(head + body)
    assert framing.payload == 5


# --- chunks -----------------------------------------------------------------------------------------------------------

CHUNKS = st.lists(st.binary(min_size=1, max_size=30), max_size=5)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b;c\\"\xe4"', b';a="";b;c=d'])
TRAILERS = st.sampled_from([b"", b"A: b\r\n", b"Digest:\r\nX-B: \xff \t\r\n"])
SIZES = st.lists(st.integers(1, 12), max_size=20)


def chunked(chunks: list[bytes], extension: bytes = b"", trailers: bytes = b"", *, size: str = "%x") -> bytes:
    parts = [size.encode() % len(chunk) + extension + b"\r\n" + chunk + b"\r\n" for chunk in chunks]
    return b"".join(parts) + b"0" + extension + b"\r\n" + trailers + b"\r\n"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(CHUNKS, EXTENSIONS, TRAILERS, SIZES, st.sampled_from(["%x", "%X", "%04x"]), st.booleans())
def test_chunks_in_any_pieces_end_where_they_end_and_every_byte_of_data_is_counted(
    chunks: list[bytes], extension: bytes, trailers: bytes, sizes: list[int], size: str, decode: bool
) -> None:
    body = chunked(chunks, extension, trailers, size=size)
    for pieces in (cut(body + NEXT, sizes), bytewise(body + NEXT), [body + NEXT], [body]):
        framing = Chunked(LIMIT, decode=decode)
        taken = decoded = b""
        for piece in pieces:
            if framing.done:
                break
            stop = framing.feed(piece, 0)
            taken += piece[:stop]
            decoded += b"".join(framing.spans)
        assert taken == body
        assert framing.payload == sum(map(len, chunks))
        assert framing.end()
        assert decoded == (b"".join(chunks) if decode else b"")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHUNKS, EXTENSIONS, TRAILERS, st.data())
def test_chunks_that_stop_anywhere_before_their_end_are_not_complete(
    chunks: list[bytes], extension: bytes, trailers: bytes, data: st.DataObject
) -> None:
    body = chunked(chunks, extension, trailers)
    framing = Chunked(LIMIT)
    feed(framing, body[: data.draw(st.integers(0, len(body) - 1))])
    assert not framing.done
    assert not framing.end()


BAD_CHUNKS = {
    "no size": b"\r\nabc",
    "no hexadecimal": b"g\r\n",
    "signed": b"+3\r\nabc\r\n",
    "negative": b"-3\r\nabc\r\n",
    "underscored": b"1_0\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "a space before": b" 3\r\nabc\r\n",
    "a space behind": b"3 \r\nabc\r\n",
    "a tab behind": b"3\t;a\r\nabc\r\n",
    "unicode digits": "٣\r\n".encode(),
    "latin-1 superscript": b"\xb3\r\nabc\r\n",
    "seventeen digits": b"00000000000000003\r\nabc\r\n",
    "over 63 bits": b"8000000000000000\r\n",
    "over 64 bits": b"10000000000000003\r\nabc\r\n",
    "an extension without a name": b"3;\r\nabc\r\n",
    "an extension beyond ASCII": b"3;\xe4=1\r\nabc\r\n",
    "an extension with a space": b"3; a=b\r\nabc\r\n",
    "an extension without its value": b"3;a=\r\nabc\r\n",
    "an unfinished quoted value": b'3;a="b\r\nabc\r\n',
    "LF alone": b"3\nabc\r\n",
    "CR alone": b"3\rabc\r\n",
    "two CRs": b"3\r\r\nabc\r\n",
    "an extension without semicolon": b"3 a\r\nabc\r\n",
    "a comma": b"3,4\r\nabc\r\n",
    "NUL in an extension": b"3;\0\r\nabc\r\n",
    "LF in an extension": b"3;a\nb\r\nabc\r\n",
    "CR in an extension": b"3;a\rb\r\nabc\r\n",
    "a control in an extension": b"3;\x01\r\nabc\r\n",
    "DEL in an extension": b"3;\x7f\r\nabc\r\n",
    "more data than said": b"3\r\nabcd\r\n",
    "no CRLF behind the data": b"3\r\nabc3\r\n",
    "LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "CR and something behind the data": b"3\r\nabc\rx",
    "a trailer without colon": b"0\r\nabc\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nA : b\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer that begins folded": b"0\r\n A: b\r\n\r\n",
    "LF in a trailer": b"0\r\nA: b\nC: d\r\n\r\n",
    "LF as the end": b"0\r\n\n",
    "CR in a trailer": b"0\r\nA: b\rC: d\r\n\r\n",
    "CR as the end": b"0\r\n\rx\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \0\r\n\r\n",
    "Content-Length as a trailer": b"0\r\nContent-Length: 3\r\n\r\n",
    "Transfer-Encoding as a trailer": b"0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n",
    "Host as a trailer": b"0\r\nHOST: b\r\n\r\n",
    "Connection as a trailer": b"0\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_bad_chunks_are_refused_whole_in_pieces_and_with_bytes_behind_them(body: bytes) -> None:
    for prefix in (b"", b"1\r\nx\r\n"):
        for pieces in ([prefix + body], [prefix + body + NEXT], [prefix, body], bytewise(prefix + body)):
            framing = Chunked(LIMIT)
            with pytest.raises(BadMessage):
                feed(framing, *pieces)
            assert not framing.done


def test_the_largest_size_that_every_parser_can_count_is_accepted() -> None:
    framing = Chunked(LIMIT)
    assert feed(framing, b"7fffffffffffffff\r\nabc") == b"7fffffffffffffff\r\nabc"
    assert framing.payload == 3


def test_extensions_are_bounded_by_line_and_by_body() -> None:
    line = b"1;" + b"a" * (MAX_LINE - 4) + b"\r\n"
    assert len(line) == MAX_LINE
    feed(Chunked(LIMIT), line)
    feed(Chunked(LIMIT), *bytewise(line))
    for pieces in ([line[:2] + b"a" + line[2:]], bytewise(line[:2] + b"a" + line[2:]), [b"1;" + b"a" * MAX_LINE]):
        with pytest.raises(BadMessage):
            feed(Chunked(LIMIT), *pieces)
    many = line + b"x\r\n"
    framing = Chunked(LIMIT)
    for _ in range(MAX_EXTENSIONS // MAX_LINE):
        feed(framing, many)
    with pytest.raises(BadMessage, match="chunk-extensions-too-long"):
        feed(framing, many)


def test_trailers_are_bounded() -> None:
    trailers = b"A: " + b"b" * (LIMIT - 7) + b"\r\n\r\n"
    assert len(trailers) == LIMIT
    for pieces in ([trailers], cut(trailers, [100] * 20)):
        assert feed(Chunked(LIMIT), b"0\r\n", *pieces) == b"0\r\n" + trailers
    for too_long in (b"A" + trailers, b"A: " + b"b" * LIMIT):
        for pieces in ([too_long], cut(too_long, [100] * 20)):
            with pytest.raises(BadMessage) as caught:
                feed(Chunked(LIMIT), b"0\r\n", *pieces)
            assert caught.value.reason is Reason.TRAILERS_TOO_LONG


def test_what_is_kept_of_an_unfinished_line_is_bounded() -> None:
    """A sender that never ends a line is refused before more than the limits is kept."""
    for begin in (b"1;a", b"0\r\nA:"):
        framing = Chunked(LIMIT)
        with pytest.raises(BadMessage):
            feed(framing, begin, *[b"a" * 10] * LIMIT)


# --- llhttp as the second opinion -------------------------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NASTY = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"0", b";", b" ", b"\t", b"\0", b"+", b"-", b"x", b"f", b"0\r\n", b":", b"\xff"]
)


class Seen:
    """What llhttp makes of a body."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = 0

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    CHUNKS,
    EXTENSIONS,
    TRAILERS,
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), NASTY | st.binary(max_size=2)), max_size=3),
)
def test_whatever_we_accept_llhttp_accepts_and_sees_the_same_data(
    chunks: list[bytes], extension: bytes, trailers: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    body = chunked(chunks, extension, trailers)
    for at, gone, new in edits:
        start = at % (len(body) + 1)
        body = body[:start] + new + body[start + gone :]
    framing = Chunked(LIMIT, decode=True)
    try:
        stop = framing.feed(body, 0)
    except BadMessage:
        return
    if not framing.done:
        return
    seen = Seen()
    httptools.HttpRequestParser(seen).feed_data(HEAD + body[:stop])
    assert (seen.complete, seen.body) == (1, b"".join(framing.spans))


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [b"1\r\na\r\n", b"1;" + b"a" * 20 + b"\r\nx\r\n", b"A: b\r\n", b"A: bcdef"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_time_for_a_body_grows_with_its_size_and_not_faster(piece: bytes, size: int) -> None:
    def best_s(total: int) -> float:
        prefix = b"0\r\n" if piece.startswith(b"A") else b""
        pieces = cut(prefix + piece * (total // len(piece)), [size] * (total // size + 1))
        best = 10.0
        for _ in range(3):
            framing = Chunked(64 * 1024)
            begun = time.thread_time()
            try:
                for each in pieces:
                    framing.feed(each, 0)
            except BadMessage as bad:
                assert bad.reason is Reason.CHUNK_EXTENSIONS_TOO_LONG
            best = min(best, time.thread_time() - begun)
        return best

    small_s, large_s = best_s(7_000), best_s(56_000)
    assert large_s < max(8 * 3 * small_s, 0.005)
