"""What an HTTP/2 connection promises: frames as they came, streams counted, a departure that loses no stream."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import Mock, patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.config.loading import load
from drainproxy.config.options import Config
from drainproxy.drain.ledger import Ended
from drainproxy.drain.phase import Phase
from drainproxy.protocol import http2
from drainproxy.protocol.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    EMPTY_SETTINGS,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    ping,
    rst_stream,
)
from drainproxy.protocol.reasons import ErrorCode, Reason
from drainproxy.session.http2 import MAX_STREAMS, RESETS, Http2Session
from drainproxy.session.ports import Hold, Wait
from tests.support.session import REQUEST_ID, Dialogue, forwarding

if TYPE_CHECKING:
    from collections.abc import Callable


def goaway(last: int, code: int, why: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + why.encode())


OURS = REQUEST_ID[:8]
ASKED = goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR, "draining") + ping(OURS)
ANSWER = frame(PING, ACK, 0, OURS)
SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")
BLOCK = b"\x82\x86\x84\x41\x03app"


def begin() -> Dialogue:
    """A client that has sent its preface. Nothing from the app yet."""
    return begin_with(Config())


def begin_with(config: Config, phase: Phase = Phase.SERVING) -> Dialogue:
    dialogue = Dialogue(pooled=0)
    session = Http2Session(dialogue.client, config, forwarding(), phase)
    dialogue.client.session = session
    session.start()
    return dialogue


def connected(config: Config | None = None, phase: Phase = Phase.SERVING) -> Dialogue:
    """Both ends have sent their SETTINGS."""
    dialogue = begin_with(config or Config(), phase)
    dialogue.send(EMPTY_SETTINGS).connects().app_got(PREFACE + EMPTY_SETTINGS)
    return dialogue.answer(EMPTY_SETTINGS).client_got(EMPTY_SETTINGS)


def request(stream: int, *, end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, BLOCK)


def response(stream: int, body: bytes = b"ok") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, END_STREAM, stream, body)


def still_open(dialogue: Dialogue, count: int) -> Dialogue:
    dialogue.check(
        len(dialogue.client.streams) == count, f"{len(dialogue.client.streams)} streams are open, not {count}"
    )
    dialogue.check(dialogue.session.idle == (count == 0), "idle and the streams do not agree")
    return dialogue


# --- relaying ---------------------------------------------------------------------------------------------------------


def test_frames_are_held_for_a_connection_of_their_own_and_then_relayed() -> None:
    dialogue = begin().send(EMPTY_SETTINGS + request(1))
    assert dialogue.client.asked == [(True, False)]
    assert dialogue.client.held == Hold.DIALLING
    still_open(dialogue, 1)
    dialogue.connects().app_got(PREFACE + EMPTY_SETTINGS + request(1))
    assert not dialogue.client.held


def test_a_chunk_is_passed_on_as_the_object_that_came() -> None:
    dialogue = connected()
    up, down = request(1) + request(3) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0"), response(1) + response(3)
    to_app, to_client = Mock(return_value=None), Mock(return_value=None)
    with patch.object(dialogue.app, "write", to_app), patch.object(dialogue.client, "write", to_client):
        dialogue.send(up).answer(down)
    assert to_app.call_args.args[0] is up
    assert to_client.call_args.args[0] is down


def test_a_stream_is_open_until_both_ends_have_finished() -> None:
    dialogue = still_open(connected().send(request(1, end=False)), 1)
    still_open(dialogue.answer(response(1)), 1)
    still_open(dialogue.send(frame(DATA, END_STREAM, 1, b"late")), 0)


def test_a_stream_is_open_until_its_last_payload_byte_has_passed() -> None:
    dialogue = connected().send(request(1))
    answer = response(1, b"x" * 100)
    still_open(dialogue.answer(answer[:-1]), 1)
    still_open(dialogue.answer(answer[-1:]), 0)


def test_an_upload_is_open_until_its_last_payload_byte_has_passed() -> None:
    dialogue = connected().send(request(1, end=False)).answer(response(1))
    body = frame(DATA, END_STREAM, 1, b"x" * 100)
    still_open(dialogue.send(body[:-1]), 1)
    still_open(dialogue.send(body[-1:]), 0)


def test_a_stream_that_ends_in_continuations_is_open_until_the_last() -> None:
    dialogue = connected().send(request(1)).answer(frame(HEADERS, END_HEADERS, 1, b"\x88"))
    dialogue.answer(frame(HEADERS, END_STREAM, 1, b"trailer"))
    still_open(dialogue, 1)
    end = frame(CONTINUATION, END_HEADERS, 1, b"rest")
    still_open(dialogue.answer(end[:-1]), 1)
    still_open(dialogue.answer(end[-1:]), 0)


def test_trailers_end_a_request() -> None:
    dialogue = connected().send(request(1, end=False)).send(frame(DATA, 0, 1, b"x")).answer(response(1))
    still_open(dialogue.send(request(1)), 0)


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_ends_a_stream(by_client: bool) -> None:
    dialogue = connected().send(request(1))
    reset = rst_stream(1, ErrorCode.CANCEL)
    still_open(dialogue.send(reset) if by_client else dialogue.answer(reset), 0)
    dialogue.ended_as(Ended.DEPARTED if by_client else Ended.BROKEN)


def test_an_app_that_has_answered_may_reset_the_rest_of_an_upload() -> None:
    dialogue = connected().send(request(1, end=False)).answer(response(1) + rst_stream(1, ErrorCode.NO_ERROR))
    still_open(dialogue, 0)
    dialogue.ended_as(Ended.WELL)


def test_what_an_app_pushes_is_counted_until_it_is_sent() -> None:
    dialogue = connected().send(request(1))
    dialogue.answer(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2") + response(1))
    still_open(dialogue, 0)
    still_open(dialogue.answer(frame(HEADERS, END_HEADERS, 2, b"\x88")), 1)
    still_open(dialogue.answer(frame(DATA, END_STREAM, 2, b"ok")), 0)


CONVERSATION_UP = (
    EMPTY_SETTINGS
    + request(1, end=False)
    + frame(DATA, 0, 1, b"x" * 50)
    + frame(PING, 0, 0, b"theirs!!")
    + frame(HEADERS, END_STREAM, 3, BLOCK)
    + frame(CONTINUATION, END_HEADERS, 3, b"more")
    + SETTINGS_ACK
    + frame(DATA, END_STREAM, 1, b"")
    + request(5)
    + rst_stream(5, ErrorCode.CANCEL)
)
CONVERSATION_DOWN = (
    frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 20_000))
    + SETTINGS_ACK
    + frame(PING, ACK, 0, b"theirs!!")
    + frame(HEADERS, END_HEADERS, 1, b"\x88")
    + frame(DATA, 0, 1, b"y" * 60)
    + response(3)
    + frame(HEADERS, END_STREAM, 1, b"trailer")
    + frame(CONTINUATION, END_HEADERS, 1, b"rest")
)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % len(data) for place in at} | {0})
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


@given(st.lists(st.integers(0, 10_000), max_size=30), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_chunking_gives_the_same_bytes_and_counts(up: list[int], down: list[int]) -> None:
    dialogue = begin().connects().send(*cut(CONVERSATION_UP, up)).app_got(PREFACE + CONVERSATION_UP)
    dialogue.answer(*cut(CONVERSATION_DOWN, down)).client_got(CONVERSATION_DOWN)
    still_open(dialogue, 0)


def test_byte_by_byte() -> None:
    dialogue = begin().connects()
    dialogue.send(*(CONVERSATION_UP[i : i + 1] for i in range(len(CONVERSATION_UP)))).app_got(PREFACE + CONVERSATION_UP)
    pieces = (CONVERSATION_DOWN[i : i + 1] for i in range(len(CONVERSATION_DOWN)))
    still_open(dialogue.answer(*pieces).client_got(CONVERSATION_DOWN), 0)


# --- the departure ----------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_told_and_closed_when_the_client_has_read_it() -> None:
    dialogue = connected().wind_down().client_got(ASKED).client_is("open")
    dialogue.send(ANSWER).app_got(b"")  # the answer to our own PING is not for the app
    dialogue.client_got(goaway(0, ErrorCode.NO_ERROR, "draining")).client_is("finished").app_is("discarded")


def test_a_stream_opened_before_the_client_saw_the_goaway_is_served() -> None:
    dialogue = connected().wind_down().client_got(ASKED)
    dialogue.send(request(1) + ANSWER).app_got(request(1)).client_is("open")
    dialogue.answer(response(1)).client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "draining")).client_is(
        "finished"
    )
    assert dialogue.client.streams == []


def test_a_client_that_opens_streams_after_the_goaway_is_still_served() -> None:
    """Its HPACK state would be lost with the frame; so it is refused by the last GOAWAY only."""
    dialogue = connected().send(request(1)).wind_down().send(ANSWER + request(3)).client_got(ASKED)
    dialogue.answer(response(1)).client_got(response(1)).client_is("open")
    dialogue.answer(response(3)).client_got(response(3) + goaway(3, ErrorCode.NO_ERROR, "draining"))


def test_the_drain_hears_who_was_asked_and_does_not_know_yet() -> None:
    dialogue = connected().send(request(1))
    assert not dialogue.client.farewell
    assert dialogue.wind_down().client.farewell
    assert dialogue.answer(response(1)).client.farewell, "idle, but a stream may be on its way"
    assert not dialogue.send(request(3) + ANSWER).client.farewell


@pytest.mark.parametrize("end", [Dialogue.vanish, Dialogue.time_out, Dialogue.app_closes])
def test_who_is_gone_is_not_waited_for(end: Callable[[Dialogue], Dialogue]) -> None:
    dialogue = connected().wind_down()
    assert dialogue.client.farewell
    assert not end(dialogue).client.farewell


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_the_answer_to_our_ping_is_taken_out_however_it_is_cut(at: list[int]) -> None:
    theirs = frame(PING, ACK, 0, b"theirs!!")
    data = request(1) + theirs + ANSWER + request(3) + theirs
    dialogue = connected().wind_down().client_got(ASKED)
    dialogue.send(*cut(data, at)).app_got(request(1) + theirs + request(3) + theirs)


def test_nothing_is_said_before_the_servers_settings() -> None:
    dialogue = begin().send(EMPTY_SETTINGS).connects().wind_down().client_got(b"")
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100))
    dialogue.answer(settings[:-1]).client_got(b"")
    dialogue.answer(settings[-1:]).client_got(settings + ASKED)


def test_nothing_is_said_inside_a_frame() -> None:
    dialogue = connected().send(request(1))
    answer = frame(HEADERS, END_HEADERS, 1, b"\x88") + frame(DATA, 0, 1, b"x" * 100) + frame(DATA, 0, 1, b"y" * 100)
    dialogue.answer(answer[:50]).wind_down().client_got(answer[:50])
    first_end = 9 + 1 + 9 + 100
    dialogue.answer(answer[50:]).client_got(answer[50:first_end] + ASKED + answer[first_end:])


def test_nothing_is_said_inside_a_header_block() -> None:
    dialogue = connected().send(request(1))
    start, end = frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, END_HEADERS, 1, b"more")
    dialogue.answer(start).wind_down().client_got(start)
    dialogue.answer(end).client_got(end + ASKED)


def test_an_app_that_goes_by_itself_is_not_contradicted() -> None:
    """A GOAWAY must not raise the last stream of an earlier one (RFC 9113 §6.8)."""
    theirs = goaway(1, ErrorCode.NO_ERROR)
    dialogue = connected().send(request(1) + request(3)).answer(theirs).client_got(theirs)
    still_open(dialogue, 1)  # the app will not answer stream 3
    still_open(dialogue.send(request(5)), 1)  # nor what the client sent before it read the GOAWAY
    dialogue.wind_down().client_got(b"")
    dialogue.answer(response(1)).client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "draining"))
    dialogue.client_is("finished")


def test_who_comes_late_has_its_first_stream_served_and_is_told_to_go() -> None:
    dialogue = connected(phase=Phase.DRAINED).client_got(b"")
    dialogue.send(request(1)).client_got(ASKED)
    dialogue.answer(response(1)).send(ANSWER).client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "draining"))


def of_python_h2() -> Dialogue:
    """A client that fails what is open at any GOAWAY, known by its SETTINGS (those of httpx)."""
    settings = ((1, 4096), (2, 0), (4, 65_535), (5, 16_384), (3, 100), (6, 65_536))
    dialogue = begin().send(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in settings)))
    dialogue.connects().answer(EMPTY_SETTINGS).client_got(EMPTY_SETTINGS)
    return dialogue


def test_a_client_that_ends_at_any_goaway_gets_one_when_nothing_is_open() -> None:
    dialogue = of_python_h2().send(request(1)).wind_down().client_got(b"")
    dialogue.answer(response(1)).client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "draining")).client_is(
        "finished"
    )


def test_a_client_that_ends_at_any_goaway_gets_one_at_once_if_nothing_is_open() -> None:
    dialogue = of_python_h2().send(request(1)).answer(response(1)).client_got(response(1))
    dialogue.wind_down().client_got(goaway(1, ErrorCode.NO_ERROR, "draining")).client_is("finished")


def test_a_client_that_ends_at_any_goaway_is_let_begin_first() -> None:
    """It takes a GOAWAY of stream 0 for an error, so it gets its first stream served."""
    dialogue = of_python_h2().wind_down().client_got(b"").send(request(1)).answer(response(1))
    dialogue.client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "draining"))


def test_after_a_resume_who_has_not_been_told_stays() -> None:
    late = connected(phase=Phase.DRAINED).enter(Phase.SERVING).send(request(1)).answer(response(1))
    late.client_got(response(1)).client_is("open")
    waiting = of_python_h2().send(request(1)).wind_down().enter(Phase.SERVING).answer(response(1))
    waiting.client_got(response(1)).client_is("open")
    told = connected().wind_down().client_got(ASKED).enter(Phase.SERVING).send(ANSWER)
    told.client_is("finished")


def test_propagating_changes_nothing() -> None:
    dialogue = connected().enter(Phase.PROPAGATING).send(request(1)).answer(response(1)).client_got(response(1))
    dialogue.client_is("open")


def test_at_the_deadline_both_ends_are_told_which_streams_were_cut() -> None:
    dialogue = connected().send(request(1) + request(3, end=False)).app_got(request(1) + request(3, end=False))
    dialogue.enter(Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING)
    dialogue.client_got(
        rst_stream(3, ErrorCode.INTERNAL_ERROR)
        + rst_stream(1, ErrorCode.INTERNAL_ERROR)
        + goaway(3, ErrorCode.NO_ERROR, "drain-deadline")
    )
    dialogue.app_got(rst_stream(3, ErrorCode.CANCEL) + rst_stream(1, ErrorCode.CANCEL)).app_is("discarded")
    still_open(dialogue.client_is("finished"), 0)


def test_at_the_deadline_inside_a_frame_the_connection_just_ends() -> None:
    dialogue = connected().send(request(1)).answer(response(1)[:-1]).client_got(response(1)[:-1])
    dialogue.enter(Phase.FORCING).client_got(b"").client_is("finished")
    still_open(dialogue, 0)


def test_at_the_deadline_without_an_app_every_stream_may_be_repeated() -> None:
    dialogue = begin().send(EMPTY_SETTINGS + request(1)).enter(Phase.FORCING)
    dialogue.client_got(EMPTY_SETTINGS + goaway(0, ErrorCode.NO_ERROR, "drain-deadline")).client_is("finished")
    assert not dialogue.client.wanted


def with_siblings() -> Dialogue:
    """One whose connection to the app is awaited."""
    dialogue = begin().send(EMPTY_SETTINGS + request(1))
    dialogue.client.siblings = 1
    return dialogue


@pytest.mark.parametrize(
    "happens", [lambda talk: talk.enter(Phase.FORCING, Phase.DRAINED), lambda talk: talk.refuses()]
)
def test_a_connection_that_the_app_has_not_seen_goes_to_a_sibling_as_a_whole(
    happens: Callable[[Dialogue], Dialogue],
) -> None:
    dialogue = with_siblings()
    happens(dialogue).client_got(b"").connects(sibling=True).app_got(PREFACE + EMPTY_SETTINGS + request(1))
    assert dialogue.client.elsewhere == dialogue.client.streams
    dialogue.answer(EMPTY_SETTINGS + response(1)).client_got(EMPTY_SETTINGS + response(1))
    still_open(dialogue, 0)


def test_without_a_sibling_every_stream_may_be_repeated() -> None:
    dialogue = with_siblings().refuses().refuses(Reason.APP_UNAVAILABLE)
    dialogue.client_got(EMPTY_SETTINGS + goaway(0, ErrorCode.NO_ERROR, "app-unavailable")).client_is("finished")


def test_a_connection_that_was_handed_over_goes_to_no_other_sibling() -> None:
    dialogue = Dialogue(pooled=0, siblings=1)
    session = Http2Session(dialogue.client, Config(), replace(forwarding(), hopped=True), Phase.SERVING)
    dialogue.client.session = session
    session.start()
    dialogue.send(EMPTY_SETTINGS + request(1)).refuses()
    dialogue.client_got(EMPTY_SETTINGS + goaway(0, ErrorCode.NO_ERROR, "app-unavailable")).client_is("finished")


def test_an_idle_connection_survives_the_deadline() -> None:
    connected().enter(Phase.FORCING).client_got(b"").client_is("open")


# --- either end fails -------------------------------------------------------------------------------------------------


def test_no_app_means_that_every_stream_may_be_repeated_elsewhere() -> None:
    dialogue = begin().send(EMPTY_SETTINGS + request(1)).refuses()
    dialogue.client_got(EMPTY_SETTINGS + goaway(0, ErrorCode.NO_ERROR, "app-unavailable")).client_is("finished")
    assert dialogue.client.upstream_errors == ["connect-refused"]
    still_open(dialogue, 0)


def test_an_app_that_breaks_off_fails_what_is_open() -> None:
    dialogue = connected().send(request(1)).app_closes(clean=False)
    dialogue.client_got(rst_stream(1, ErrorCode.INTERNAL_ERROR) + goaway(1, ErrorCode.INTERNAL_ERROR, "upstream-broke"))
    assert dialogue.client.upstream_errors == ["closed-early"]
    still_open(dialogue.client_is("finished"), 0)


def test_an_app_that_closes_an_idle_connection_is_no_error() -> None:
    dialogue = connected().app_closes().client_got(goaway(0, ErrorCode.NO_ERROR, "app-closed")).client_is("finished")
    assert dialogue.client.upstream_errors == []


def test_a_client_that_leaves_ends_its_streams() -> None:
    dialogue = connected().send(request(1)).vanish().app_is("aborted")
    assert dialogue.client.streams == []


def test_a_client_that_leaves_while_the_app_is_dialled() -> None:
    dialogue = begin().send(EMPTY_SETTINGS + request(1)).vanish()
    assert not dialogue.client.wanted
    assert dialogue.client.streams == []


def test_a_client_that_half_closes_is_answered_first() -> None:
    dialogue = connected().send(request(1)).half_close().client_is("open")
    assert dialogue.app.half_closed
    dialogue.answer(response(1)).client_got(response(1) + goaway(1, ErrorCode.NO_ERROR, "client-closed")).client_is(
        "finished"
    )


def test_a_client_that_has_half_closed_is_cut_if_the_app_falls_silent() -> None:
    dialogue = connected().send(request(1)).half_close().waits(Wait.LEFT).time_out()
    dialogue.client_got(rst_stream(1, ErrorCode.INTERNAL_ERROR) + goaway(1, ErrorCode.NO_ERROR, "timeout"))
    still_open(dialogue.client_is("finished").app_is("aborted"), 0)


@pytest.mark.parametrize("end", [Dialogue.half_close, Dialogue.vanish])
def test_after_an_error_of_the_app_nothing_is_in_flight_whatever_the_client_does(
    end: Callable[[Dialogue], Dialogue],
) -> None:
    """Node answers a header block that it cannot read with GOAWAY and COMPRESSION_ERROR, and waits."""
    theirs = goaway(3, 0x9)
    dialogue = connected().send(request(1) + request(3, end=False)).answer(theirs).client_got(theirs)
    still_open(dialogue, 0)
    still_open(dialogue.send(request(5)), 0)
    still_open(end(dialogue), 0)


def test_the_reserved_bit_of_a_stream_is_ignored() -> None:
    head = struct.pack(">IBI", len(BLOCK) << 8 | HEADERS, END_HEADERS | END_STREAM, 1 << 31 | 1) + BLOCK
    dialogue = still_open(connected().send(head).app_got(head), 1)
    tail = struct.pack(">IBI", 2 << 8 | DATA, END_STREAM, 1 << 31 | 1) + b"ok"
    still_open(dialogue.answer(tail).client_got(tail), 0)


def test_two_window_updates_for_each_small_frame_that_is_read_go_on_for_ever() -> None:
    dialogue = connected().send(request(1))
    update = frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")
    for _ in range(100):
        dialogue.send(update * 1_000)
        dialogue.client.time += 0.1
    still_open(dialogue, 1)


def test_an_idle_client_that_half_closes_is_let_go() -> None:
    connected().half_close().client_is("finished").app_is("discarded")


def test_an_idle_connection_is_asked_to_go_and_then_closed() -> None:
    dialogue = connected().waits(Wait.IDLE)
    dialogue.client.waiting = None
    dialogue.session.timed_out(Wait.IDLE)
    dialogue.client_got(ASKED).client_is("open").waits(Wait.IDLE)  # the limit runs once more
    dialogue.time_out().client_got(goaway(0, ErrorCode.NO_ERROR, "idle")).client_is("finished")


def test_a_stream_that_stands_still_too_long_is_cut() -> None:
    dialogue = connected().send(request(1))
    dialogue.session.timed_out(Wait.STREAM)
    dialogue.client_got(rst_stream(1, ErrorCode.INTERNAL_ERROR) + goaway(1, ErrorCode.NO_ERROR, "timeout"))


# --- misbehaviour -----------------------------------------------------------------------------------------------------

FRAME_TOO_LARGE = struct.pack(">IBI", (16 * 1024 + 1) << 8 | DATA, 0, 1)

FAULTS = {
    "frame-too-large": (FRAME_TOO_LARGE, ErrorCode.FRAME_SIZE_ERROR),
    "a data frame on stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (request(0), ErrorCode.PROTOCOL_ERROR),
    "a reset of stream 0": (rst_stream(0, ErrorCode.NO_ERROR), ErrorCode.PROTOCOL_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "a ping on a stream": (frame(PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "a short ping": (frame(PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "a short reset": (frame(RST_STREAM, 0, 1, b"123"), ErrorCode.FRAME_SIZE_ERROR),
    "a short goaway": (frame(GOAWAY, 0, 0, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
    "settings that are no pairs": (frame(SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
    "an acknowledgement that says something": (frame(SETTINGS, ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
    "a frame size that is none": (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), ErrorCode.PROTOCOL_ERROR),
    "a stray continuation": (frame(CONTINUATION, END_HEADERS, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data inside a header block": (frame(HEADERS, 0, 1, BLOCK) + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a block of another stream": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a block of too many frames": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"") * (http2.MAX_CONTINUATIONS + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a block of too many bytes": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"x" * 16_000) * 5,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of pings": (frame(PING, 0, 0, b"12345678") * 10_001, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of settings": (EMPTY_SETTINGS * 10_001, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of acknowledgements": (SETTINGS_ACK * 10_001, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of empty data": (request(1, end=False) + frame(DATA, 0, 1, b"") * 10_001, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of window updates": (
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 50_001,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of unknown frames": (frame(0x2A, 0, 0, b"") * 10_001, ErrorCode.ENHANCE_YOUR_CALM),
}
OF_CLIENTS = {
    "an even stream": (request(2), ErrorCode.PROTOCOL_ERROR),
    "a promise": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"), ErrorCode.PROTOCOL_ERROR),
    "rapid resets": (
        b"".join(request(2 * n + 1) + rst_stream(2 * n + 1, ErrorCode.CANCEL) for n in range(RESETS[0] + 1)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "streams without end": (b"".join(request(2 * n + 1) for n in range(MAX_STREAMS + 1)), ErrorCode.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("fault", [*FAULTS, *OF_CLIENTS])
def test_a_client_that_breaks_the_protocol_is_told_why(fault: str) -> None:
    data, code = (FAULTS | OF_CLIENTS)[fault]
    dialogue = connected().send(data).client_is("finished").app_is("discarded")
    reason = dialogue.client.rejections[0]
    assert dialogue.client.got.endswith(struct.pack(">I", code) + reason.encode()), dialogue.transcript
    still_open(dialogue, 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_app_that_breaks_the_protocol_is_told_why_and_its_client_that_it_is_over(fault: str) -> None:
    data, code = FAULTS[fault]
    dialogue = connected().send(request(1)).app_got(request(1)).answer(data).client_is("finished").app_is("discarded")
    reason = dialogue.client.upstream_errors[0]
    dialogue.app_got(goaway(0, code, reason) + rst_stream(1, ErrorCode.CANCEL))
    still_open(dialogue, 0)


def test_the_first_frame_must_be_settings() -> None:
    dialogue = begin().connects().send(request(1)).client_is("finished")
    assert dialogue.client.rejections == ["no-settings"]
    dialogue = begin().connects().send(frame(DATA, 0, 1, b"")).client_is("finished")
    assert dialogue.client.rejections == ["no-settings"]


def test_what_came_before_a_bad_frame_is_relayed() -> None:
    dialogue = connected().send(request(1) + request(0)).client_is("finished")
    dialogue.app_got(request(1) + rst_stream(1, ErrorCode.CANCEL))


def test_pings_at_a_keepalives_pace_go_on_for_ever() -> None:
    dialogue = connected()
    for second in range(20_000):
        dialogue.client.time = float(second)
        dialogue.send(frame(PING, 0, 0, b"12345678"))
    dialogue.client_is("open")


def test_cancelling_now_and_then_goes_on_for_ever() -> None:
    dialogue = connected()
    for number in range(5_000):
        dialogue.client.time = number / RESETS[1]
        dialogue.send(request(2 * number + 1) + rst_stream(2 * number + 1, ErrorCode.CANCEL))
    still_open(dialogue.client_is("open"), 0)


def test_larger_frames_pass_once_their_receiver_has_allowed_them() -> None:
    allow = frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1 << 20))
    large = frame(DATA, 0, 1, b"x" * 100_000)
    dialogue = connected().answer(allow).send(request(1, end=False) + large).client_is("open")
    dialogue.answer(large).client_is("finished")  # the client has not allowed any
    assert dialogue.client.upstream_errors == ["frame-too-large"]


def test_headers_larger_than_the_option_allows_are_refused_even_in_one_frame() -> None:
    dialogue = connected(load({"max-header-size": "1KiB"}, {}, {}))
    dialogue.send(frame(HEADERS, END_HEADERS, 1, b"x" * 1025)).client_is("finished")
    assert dialogue.client.rejections == ["header-too-large"]


def test_a_head_that_does_not_arrive_in_time_ends_the_connection() -> None:
    dialogue = connected().send(frame(HEADERS, 0, 1, BLOCK)).waits(Wait.HEADER).time_out().client_is("finished")
    assert dialogue.client.rejections == ["header-timeout"]
    still_open(dialogue, 0)


def test_a_head_that_arrives_in_time_is_not_timed_any_more() -> None:
    connected().send(frame(HEADERS, 0, 1, BLOCK), frame(CONTINUATION, END_HEADERS, 1, b"x")).waits(Wait.STREAM)


# Who ended it.


@pytest.mark.parametrize(
    ("happens", "ended"),
    [
        (lambda talk: talk.vanish(), Ended.DEPARTED),
        (lambda talk: talk.app_closes(), Ended.BROKEN),
        (lambda talk: talk.answer(http2.goaway(0, Reason.IDLE)), Ended.BROKEN),
        (lambda talk: talk.answer(frame(PUSH_PROMISE, 0, 0, b"")), Ended.BROKEN),
        (lambda talk: talk.send(frame(PUSH_PROMISE, 0, 0, b"")), Ended.REFUSED),
        (lambda talk: talk.enter(Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING), Ended.CUT),
        (lambda talk: talk.half_close().time_out(), Ended.TIMED_OUT),
    ],
)
def test_who_ended_a_stream_is_known(happens: Callable[[Dialogue], Dialogue], ended: Ended) -> None:
    happens(connected().send(request(1))).ended_as(ended)
