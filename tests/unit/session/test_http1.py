"""How does an HTTP/1 conversation go? Scripted dialogues, one promise each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Phase
from drainproxy.protocol.http1 import RequestHead, parse_request
from drainproxy.protocol.reasons import Reason
from drainproxy.protocol.replies import reply
from drainproxy.session.http1 import (
    MAX_PENDING,
    NEXT_REQUEST_STATES,
    NEXT_RESPONSE_STATES,
    WORTH_PASSING,
    WORTH_TWO_PIECES,
    RequestState,
    ResponseState,
)
from drainproxy.session.http2 import NEXT_DEPARTURE
from drainproxy.session.ports import Hold, Wait
from drainproxy.session.tunnel import TunnelSession
from drainproxy.session.websocket import NEXT_FAREWELL
from tests.support.session import Dialogue, as_forwarded

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
GET_SENT = as_forwarded(GET)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\n"
POST_SENT = as_forwarded(POST)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
UPGRADE_SENT = as_forwarded(UPGRADE.replace(b"Connection: Upgrade\r\n", b""))[:-2] + b"Connection: Upgrade\r\n\r\n"

DRAIN = (Phase.PROPAGATING, Phase.FINISHING)


# --- one after the other ----------------------------------------------------------------------------------------------


def test_exchanges_follow_each_other_on_the_same_two_connections() -> None:
    talk = Dialogue()
    for _ in range(3):
        talk.send(GET).app_got(GET_SENT).answer(OK).client_got(OK).app_is("idle")
    talk.client_is("open").ended((200, True), (200, True), (200, True))


def test_a_request_that_comes_byte_by_byte_is_one_request() -> None:
    talk = Dialogue()
    talk.send(*(GET[i : i + 1] for i in range(len(GET)))).app_got(GET_SENT).answer(OK).client_got(OK)
    talk.send(*(GET[i : i + 1] for i in range(len(GET)))).app_got(GET_SENT).answer(OK).client_got(OK)


def test_a_response_that_comes_byte_by_byte_is_one_response() -> None:
    talk = Dialogue().send(GET).answer(*(OK[i : i + 1] for i in range(len(OK)))).client_got(OK)
    talk.app_is("idle").ended((200, True))


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("bytewise", [False, True])
def test_empty_lines_before_a_request_are_tolerated_however_they_come(lines: bytes, bytewise: bool) -> None:
    talk = Dialogue()
    for _ in range(2):
        data = lines + GET
        pieces = [data[i : i + 1] for i in range(len(data))] if bytewise else [data]
        talk.send(*pieces).app_got(GET_SENT).answer(OK).client_got(OK)
    talk.ended((200, True), (200, True))


@pytest.mark.parametrize("pieces", [[b"\r\n"], [b"\r", b"\n"]])
def test_an_empty_line_behind_a_request_leaves_the_connection_idle(pieces: list[bytes]) -> None:
    """Old clients send one behind a POST: it begins nothing, times nothing out and keeps nobody in a drain."""
    talk = Dialogue().send(POST + b"data").answer(OK).send(*pieces).waits(Wait.IDLE)
    assert talk.session.idle
    talk.enter(*DRAIN).wind_down().client_is("closed").ended((200, True))


def test_a_carriage_return_alone_does_not_hide_that_a_response_is_the_last() -> None:
    Dialogue().send(b"\r").send(b"\n" + GET).enter(*DRAIN).answer(OK).client_got(OK_CLOSE).client_is("finished")


def test_pipelined_requests_are_answered_in_order() -> None:
    first, second, third = (b"GET /%d HTTP/1.1\r\nHost: app\r\n\r\n" % n for n in (1, 2, 3))
    talk = Dialogue().send(first + second + third[:7]).app_got(as_forwarded(first)).answer(OK)
    talk.app_got(as_forwarded(second)).send(third[7:]).answer(OK).app_got(as_forwarded(third)).answer(OK)
    talk.client_got(OK * 3).ended((200, True), (200, True), (200, True))


def test_pipelined_requests_that_were_sent_before_a_drain_are_all_answered() -> None:
    talk = Dialogue().send(GET * 3).enter(*DRAIN).answer(OK).answer(OK).answer(OK)
    talk.client_got(OK * 2 + OK_CLOSE).client_is("finished").ended((200, True), (200, True), (200, True))


def test_a_request_pipelined_behind_a_body_is_answered_after_it() -> None:
    talk = Dialogue().send(POST + b"da").send(b"ta" + GET).app_got(as_forwarded(POST + b"data")).answer(OK)
    talk.app_got(GET_SENT).answer(OK).client_got(OK + OK).ended((200, True), (200, True))


def test_reading_is_held_while_too_much_is_pipelined_and_goes_on_afterwards() -> None:
    talk = Dialogue().send(GET).send(GET * (MAX_PENDING // len(GET) + 1))
    assert talk.client.held & Hold.PIPELINE
    talk.answer(OK)
    assert not talk.client.held


def test_a_bad_request_behind_a_good_one_is_refused_after_the_good_ones_answer() -> None:
    talk = Dialogue().send(GET + b"BAD\r\n\r\n").answer(OK)
    assert talk.client.got.startswith(OK)
    talk.client.got = talk.client.got.removeprefix(OK)
    talk.client_got_reply(400, "bad-start-line").ended((200, True), (400, False))


def test_after_a_refused_request_nothing_more_is_read() -> None:
    talk = Dialogue().send(b"GET /\r\n\r\n" + GET).client_got_reply(400, "bad-start-line")
    assert talk.client.lent is None
    talk.session.client_bytes(GET)  # what was already in a buffer
    talk.client_got(b"").ended((400, False))


def test_a_request_with_connection_close_is_the_last() -> None:
    request = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    talk = Dialogue().send(request + GET).app_got(GET_SENT).answer(OK).client_got(OK_CLOSE).client_is("finished")
    talk.ended((200, True))


def test_the_app_s_connection_close_ends_its_connection_and_not_the_client_s() -> None:
    Dialogue().send(GET).answer(OK_CLOSE).client_got(OK).client_is("open").app_is("discarded")


def test_nothing_of_one_exchange_is_left_for_the_next() -> None:
    """HTTP/1.0, HEAD, a retry, a chunked body with trailers: and then a plain request as if it were the first."""
    talk = Dialogue(pooled=4)
    talk.send(b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n").answer(OK)
    talk.send(b"HEAD / HTTP/1.1\r\nHost: app\r\n\r\n").answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    talk.send(GET).app_closes().connects().answer(CHUNKED, b"1\r\na\r\n0\r\nA: b\r\n\r\n")
    talk.send(POST + b"data").answer(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n")
    talk.client.got = b""
    for upstream in talk.client.idle:
        upstream.got = b""
    talk.send(GET).app_got(GET_SENT).answer(OK).client_got(OK).client_is("open").app_is("idle")


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_is_passed_on_as_it_comes() -> None:
    talk = Dialogue().send(POST).app_got(POST_SENT).send(b"da").app_got(b"da").send(b"ta").app_got(b"ta")
    talk.answer(OK).client_got(OK).ended((200, True))


def test_a_chunked_body_passes_unchanged_with_its_trailers_in_both_directions() -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"4;x=y\r\ndata\r\n0\r\nDigest: abc\r\n\r\n"
    talk = Dialogue().send(request, *(body[i : i + 1] for i in range(len(body))))
    talk.app_got(as_forwarded(request) + body)
    talk.answer(CHUNKED, *(body[i : i + 1] for i in range(len(body)))).client_got(CHUNKED + body)
    talk.app_is("idle").ended((200, True))


def framed(body: bytes, *, chunked: bool) -> bytes:
    """The end of a head, and behind it the body."""
    if chunked:
        return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pooled", [0, 1])
@pytest.mark.parametrize("size", [100, 2 * WORTH_TWO_PIECES, 20 * WORTH_TWO_PIECES])
def test_a_body_of_any_size_that_comes_with_its_request_is_sent_as_it_came(
    size: int, pooled: int, chunked: bool
) -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\n" + framed(b"x" * size, chunked=chunked)
    talk = Dialogue(pooled=pooled).send(request + GET)
    if not pooled:
        talk.connects()
    assert (talk.app.writes, talk.app.in_two) == (1, int(pooled and size > 100))
    talk.app_got(as_forwarded(request)).answer(OK).app_got(GET_SENT).answer(OK).client_got(OK + OK)
    talk.ended((200, True), (200, True))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize("size", [100, 2 * WORTH_TWO_PIECES, 20 * WORTH_TWO_PIECES])
@pytest.mark.parametrize("fields", [b"", b"Connection: keep-alive\r\n"])
def test_what_comes_of_a_body_with_the_response_s_head_is_sent_with_it(
    fields: bytes, size: int, more: int, chunked: bool
) -> None:
    """One write, however much of the body it is; the two are not copied into one if that would be dearer."""
    response = b"HTTP/1.1 200 OK\r\n%s" + framed(b"x" * size, chunked=chunked)
    came, follows = response[: len(response) - more], response[len(response) - more :]
    talk = Dialogue().send(GET).answer(came % fields)
    assert (talk.client.writes, talk.client.in_two) == (1, int(bool(fields) and size > 100))
    if more:
        talk.client_is("open").waits(Wait.STREAM).answer(follows)
    talk.client_got(response % b"").app_is("idle").ended((200, True))


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_204_and_304_have_no_body_whatever_they_say(status: int, fields: bytes) -> None:
    head = b"HTTP/1.1 %d X\r\n" % status
    kept = fields if status == 304 else b""
    talk = Dialogue().send(GET).answer(head + fields + b"\r\n").client_got(head + kept + b"\r\n")
    talk.app_is("idle").ended((status, True)).client_is("open")


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_response_to_head_has_no_body_whatever_it_says(fields: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"
    talk = Dialogue().send(b"HEAD / HTTP/1.1\r\nHost: app\r\n\r\n").answer(head).client_got(head)
    talk.app_is("idle").ended((200, True)).client_is("open")


def test_a_body_behind_a_response_to_head_never_becomes_the_next_response() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    talk = Dialogue().send(b"HEAD / HTTP/1.1\r\nHost: app\r\n\r\n").answer(head + b"ok").client_got(head)
    talk.app_is("discarded").client_is("open")


@pytest.mark.parametrize(
    "response", [OK + b"x", OK + OK, CHUNKED + b"0\r\n\r\n" + OK, b"HTTP/1.1 204 No\r\n\r\n" + OK], ids=range(4)
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_bytes_nobody_asked_for_end_the_app_s_connection(response: bytes, bytewise: bool) -> None:
    talk = Dialogue().send(GET)
    if bytewise:
        split = len(response) - 3
        talk.answer(response[:split], response[split:])
        if talk.app.state == "idle":
            return  # whole before the rest came: the shell sees to idle connections
    else:
        talk.answer(response)
    talk.app_is("discarded").client_is("open")
    assert talk.client.got.count(b"HTTP/1.1 ") == 1


def test_a_body_without_length_ends_with_the_connection() -> None:
    talk = Dialogue().send(GET).answer(UNTIL_CLOSE + b"all ").answer(b"of it").app_closes()
    talk.client_got(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it").client_is("finished").ended((200, True))


def test_max_body_is_enforced_on_announced_and_on_counted_bytes() -> None:
    config = Config(max_body=3)
    talk = Dialogue(config).send(POST).client_got_reply(413, "body-too-large").ended((413, False))
    assert talk.client.lent is None
    chunked = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = Dialogue(config).send(chunked + b"3\r\nabc\r\n").open().send(b"1\r\nd\r\n")
    talk.client_got_reply(413, "body-too-large").app_is("aborted").ended((413, False))
    talk = Dialogue(config).send(chunked + b"3\r\nabc\r\n0\r\n\r\n").answer(OK).client_got(OK)


@pytest.mark.parametrize("body", [b"x\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"3\nabc"])
@pytest.mark.parametrize("with_head", [True, False])
def test_a_bad_chunk_is_refused_and_the_app_cannot_take_what_it_has_for_the_whole(body: bytes, with_head: bool) -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = Dialogue()
    if with_head:
        talk.send(request + body)
        assert talk.client.lent is None
    else:
        talk.send(request, body).app_is("aborted")
    assert talk.client.got.startswith(b"HTTP/1.1 400 ")
    talk.client_is("finished").ended((400, False))


def test_a_bad_chunk_after_the_response_has_begun_ends_both_connections() -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = Dialogue().send(request).answer(CHUNKED + b"1\r\na\r\n").send(b"nonsense\r\n")
    talk.app_is("aborted").client_is("closed").ended((200, False))


# --- early and interim responses --------------------------------------------------------------------------------------


def test_an_early_response_to_an_unfinished_upload_is_relayed_then_the_connection_ends() -> None:
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n"
    talk = Dialogue().send(POST + b"d").answer(early + b"\r\n").client_got(early + b"Connection: close\r\n\r\n")
    talk.client_is("finished").app_is("aborted").ended((413, True)).send(b"ata" + GET).client_got(b"")


def test_an_early_response_that_lasts_longer_than_the_upload_is_complete_and_the_last() -> None:
    talk = Dialogue().send(POST + b"d").answer(CHUNKED + b"1\r\na\r\n").send(b"ata" + GET).answer(b"0\r\n\r\n")
    talk.client_got(CHUNKED[:-2] + b"Connection: close\r\n\r\n1\r\na\r\n0\r\n\r\n").client_is("finished")
    talk.ended((200, True))


def test_100_continue_comes_from_the_app() -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    talk = Dialogue().send(request).app_got(as_forwarded(request)).client_got(b"")
    talk.answer(b"HTTP/1.1 100 Continue\r\n\r\n").client_got(b"HTTP/1.1 100 Continue\r\n\r\n")
    talk.send(b"data").app_got(b"data").answer(OK).client_got(OK).client_is("open").ended((200, True))


def test_a_final_answer_in_place_of_100_continue_ends_the_connection() -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    talk = Dialogue().send(request).answer(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    talk.client_got(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").client_is("finished")


@pytest.mark.parametrize("bytewise", [False, True])
def test_interim_responses_are_relayed_before_the_final_one(bytewise: bool) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    data = hints + b"HTTP/1.1 102 Processing\r\n\r\n" + OK
    talk = Dialogue().send(GET).answer(*([data[i : i + 1] for i in range(len(data))] if bytewise else [data]))
    talk.client_got(data).app_is("idle").ended((200, True))


def test_an_http10_client_gets_no_interim_responses() -> None:
    talk = Dialogue().send(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n").answer(b"HTTP/1.1 103 Hints\r\n\r\n" + OK)
    talk.client_got(OK_CLOSE)


# --- HTTP/1.0 ---------------------------------------------------------------------------------------------------------


def test_an_http10_request_reaches_the_app_as_http11_and_ends_the_connection() -> None:
    talk = Dialogue().send(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n").app_got(GET_SENT).answer(OK).client_got(OK_CLOSE)
    talk.client_is("closed")


def test_an_http10_client_may_ask_for_keep_alive() -> None:
    talk = Dialogue()
    for _ in range(2):
        talk.send(b"GET / HTTP/1.0\r\nHost: app\r\nConnection: Keep-Alive\r\n\r\n").app_got(GET_SENT).answer(OK)
        talk.client_got(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok").client_is("open")


def test_an_http10_client_gets_a_chunked_body_without_chunks_and_the_close_is_its_end() -> None:
    talk = Dialogue().send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: app\r\n\r\n")
    talk.answer(CHUNKED + b"3\r\nabc\r\n1\r", b"\nd\r\n0\r\nA: b\r\n\r\n")
    talk.client_got(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd").client_is("finished").app_is("idle")


def test_an_http10_client_is_not_told_of_chunks_by_a_response_to_head() -> None:
    talk = Dialogue().send(b"HEAD / HTTP/1.0\r\nHost: app\r\n\r\n").answer(CHUNKED)
    talk.client_got(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("decoded", [True, False])
def test_a_client_that_reads_to_the_end_sees_a_reset_when_the_end_is_missing(decoded: bool) -> None:
    talk = Dialogue().send(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n")
    talk.answer(CHUNKED + b"3\r\nabc\r\n" if decoded else UNTIL_CLOSE + b"abc").app_closes(clean=decoded)
    talk.client_is("aborted").ended((200, False))


# --- upgrades ---------------------------------------------------------------------------------------------------------


def test_an_upgrade_becomes_a_tunnel_and_no_byte_behind_the_101_is_lost() -> None:
    talk = Dialogue().send(UPGRADE + b"early")
    talk.app_got(UPGRADE_SENT)
    talk.answer(SWITCH + b"hello").client_got(SWITCH + b"hello").app_got(b"early")
    assert talk.client.kind is Kind.WEBSOCKET
    talk.send(b"ping").app_got(b"ping").answer(b"pong").client_got(b"pong").open()
    talk.half_close().app_closes().ended((101, True)).client_is("closed").app_is("discarded")


def test_bytes_that_were_held_behind_an_upgrade_are_read_on_in_the_tunnel() -> None:
    talk = Dialogue().send(UPGRADE).send(b"x" * (MAX_PENDING + 1))
    assert talk.client.held & Hold.PIPELINE
    talk.app.got = b""
    talk.answer(SWITCH).app_got(b"x" * (MAX_PENDING + 1))
    assert not talk.client.held


@pytest.mark.parametrize("early", [b"", b"bye"])
def test_a_client_that_half_closed_before_the_101_still_ends_its_tunnel(early: bytes) -> None:
    talk = Dialogue().send(UPGRADE + early).half_close().answer(SWITCH)
    assert talk.app.got.endswith(early)
    assert talk.app.half_closed
    talk.answer(b"bye").app_closes().ended((101, True)).client_is("closed")


def test_a_tunnel_is_not_held_to_the_limit_for_a_response() -> None:
    Dialogue().send(UPGRADE).waits(Wait.RESPONSE).answer(SWITCH).waits(Wait.STREAM)


def test_an_upgrade_is_known_by_its_kind() -> None:
    other = UPGRADE.replace(b"websocket", b"else")
    talk = Dialogue().send(other).answer(SWITCH.replace(b"websocket", b"else"))
    assert talk.client.kind is Kind.TCP
    talk = Dialogue().send(UPGRADE.replace(b"websocket", b"WebSocket")).answer(SWITCH)
    assert talk.client.kind is Kind.WEBSOCKET


def test_a_refused_upgrade_is_an_answer_like_any_other() -> None:
    talk = Dialogue().send(UPGRADE).answer(OK).client_got(OK).send(GET)
    talk.answer(OK).client_got(OK).ended((200, True), (200, True))


def test_an_upgrade_nobody_asked_for_is_a_bad_response() -> None:
    talk = Dialogue().send(GET).answer(SWITCH).client_got_reply(502, "upstream-bad-response").app_is("aborted")
    talk.ended((502, False))


# --- the app is not there, breaks, or talks nonsense ------------------------------------------------------------------


def test_a_request_waits_for_a_connection() -> None:
    Dialogue(pooled=0).send(GET).open().connects().app_got(GET_SENT).answer(OK).client_got(OK).ended((200, True))


def test_an_upload_is_not_read_further_while_there_is_no_connection() -> None:
    talk = Dialogue(pooled=0).send(POST + b"da")
    assert talk.client.held & Hold.DIALLING
    talk.connects().app_got(as_forwarded(POST + b"da"))
    assert not talk.client.held
    talk.send(b"ta").app_got(b"ta").answer(OK).client_got(OK)


def test_bytes_that_come_in_spite_of_the_hold_are_not_lost() -> None:
    talk = Dialogue(pooled=0).send(POST, b"da", b"ta" + GET).connects().app_got(as_forwarded(POST + b"data"))
    talk.answer(OK).app_got(GET_SENT)


def test_an_app_that_stays_away_is_503() -> None:
    talk = Dialogue(pooled=0).send(POST + b"da").refuses().client_got_reply(503, "app-unavailable").ended((503, False))
    assert not talk.client.held
    assert talk.client.upstream_errors == ["connect-refused"]


def test_a_reused_connection_that_dies_unanswered_is_replaced_once() -> None:
    talk = Dialogue().send(GET).app_got(GET_SENT).app_closes()
    assert talk.client.asked == [(False, False), (True, False)]
    talk.connects().app_got(GET_SENT).answer(OK).client_got(OK).ended((200, True))
    assert talk.client.retries == 1
    assert not talk.client.upstream_errors


def test_a_request_is_never_sent_three_times() -> None:
    talk = Dialogue().send(GET).app_closes().connects(reused=True).app_closes()
    talk.client_got_reply(502, "upstream-broke").ended((502, False))
    assert talk.client.retries == 1


def test_a_fresh_connection_that_dies_unanswered_may_have_done_the_work() -> None:
    talk = Dialogue(pooled=0).send(GET).connects().app_closes().client_got_reply(502, "upstream-broke")
    talk.ended((502, False))
    assert talk.client.retries == 0
    assert talk.client.upstream_errors == ["closed-early"]


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"data",
        b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n",
        b"PATCH / HTTP/1.1\r\nHost: app\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: app\r\n\r\n",
    ],
    ids=["POST", "empty POST", "PATCH", "PUT with body", "GET with body", "unknown method"],
)
@pytest.mark.parametrize("clean", [True, False])
def test_what_is_not_safe_to_repeat_is_never_repeated(request_: bytes, clean: bool) -> None:
    talk = Dialogue().send(request_).app_closes(clean=clean).client_got_reply(502, "upstream-broke").ended((502, False))
    assert talk.client.asked == [(False, True)]  # and the pool looks twice before it lends
    assert talk.client.retries == 0
    assert talk.client.upstream_errors == ["closed-early"]


@pytest.mark.parametrize("sent", [b"H", OK[:-4], b"HTTP/1.1 103 Hints\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\nHTTP"])
def test_nothing_is_repeated_after_the_first_byte_of_a_response(sent: bytes) -> None:
    talk = Dialogue().send(GET).answer(sent).app_closes()
    assert talk.client.retries == 0
    assert b"HTTP/1.1 502 " in talk.client.got
    talk.client_is("finished").ended((502, False))


def test_a_request_that_waits_for_its_second_connection_is_503_if_there_is_none() -> None:
    Dialogue().send(GET).app_closes().refuses().client_got_reply(503, "app-unavailable").ended((503, False))


@pytest.mark.parametrize(
    "response",
    [
        b"garbage\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
    ],
    ids=range(12),
)
def test_a_bad_response_is_502_and_its_connection_is_never_used_again(response: bytes) -> None:
    talk = Dialogue().send(GET).answer(response).client_got_reply(502, "upstream-bad-response").app_is("aborted")
    talk.ended((502, False))
    assert len(talk.client.upstream_errors) == 1


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("response", [OK[:-1], CHUNKED + b"3\r\nabc\r\n", CHUNKED + b"0\r\n", CHUNKED])
def test_a_response_that_breaks_off_is_noticed_by_its_missing_end(response: bytes, clean: bool) -> None:
    talk = Dialogue().send(GET).answer(response).app_closes(clean=clean).client_is("closed").ended((200, False))
    assert talk.client.upstream_errors == ["closed-early"]


def test_a_bad_chunk_from_the_app_ends_both_connections() -> None:
    Dialogue().send(GET).answer(CHUNKED + b"zz\r\n").client_is("closed").app_is("aborted").ended((200, False))


def test_a_request_to_connect_is_refused() -> None:
    talk = Dialogue().send(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").client_got_reply(405, "connect-refused")
    talk.ended((405, False))
    assert talk.client.lent is None


def test_our_own_reply_to_head_has_no_body() -> None:
    talk = Dialogue(pooled=0).send(b"HEAD / HTTP/1.1\r\nHost: app\r\n\r\n").refuses()
    assert talk.client.got.startswith(b"HTTP/1.1 503 ")
    assert talk.client.got.endswith(b"\r\n\r\n")


# --- the client goes --------------------------------------------------------------------------------------------------


def test_a_client_that_half_closes_between_requests_is_closed() -> None:
    Dialogue().half_close().client_is("closed").ended()
    Dialogue().send(GET).answer(OK).half_close().client_is("closed").ended((200, True))


def test_a_client_that_half_closes_within_a_head_is_closed_and_nothing_is_sent_on() -> None:
    talk = Dialogue().send(GET[:-2]).half_close().client_is("closed").ended()
    assert talk.client.lent is None


def test_a_client_that_half_closes_after_its_request_still_gets_the_answer() -> None:
    talk = Dialogue().send(GET).half_close()
    assert talk.app.half_closed
    talk.answer(OK).client_got(OK).client_is("closed").app_is("discarded").ended((200, True))


def test_a_client_that_half_closes_during_the_answer_still_gets_all_of_it() -> None:
    talk = Dialogue().send(GET).answer(OK[:-1]).half_close().answer(OK[-1:]).client_got(OK)
    talk.client_is("closed").app_is("discarded").ended((200, True))


def test_a_client_that_half_closes_while_there_is_no_connection_still_gets_the_answer() -> None:
    talk = Dialogue(pooled=0).send(GET).half_close().connects().app_got(GET_SENT)
    assert talk.app.half_closed
    talk.answer(OK).client_got(OK).ended((200, True))


def test_a_client_that_half_closes_behind_pipelined_requests_gets_every_answer() -> None:
    talk = Dialogue(pooled=3).send(GET * 3).half_close().answer(OK).answer(OK)
    assert talk.app.half_closed
    talk.answer(OK).client_got(OK * 3).client_is("closed").ended((200, True), (200, True), (200, True))


@pytest.mark.parametrize("rest", [GET[:9], POST + b"da"])
def test_a_client_that_half_closes_within_a_pipelined_request_gets_the_answers_before_it(rest: bytes) -> None:
    talk = Dialogue().send(GET + rest).half_close().answer(OK)
    assert talk.client.got.startswith(OK)
    assert talk.client.state != "open"
    assert talk.client.exchange is None


def test_a_client_that_half_closes_before_a_retry_still_gets_the_answer() -> None:
    talk = Dialogue().send(GET).half_close().app_closes().connects().app_got(GET_SENT)
    assert talk.app.half_closed
    talk.answer(OK).client_got(OK).ended((200, True))


def test_an_upload_that_breaks_off_is_never_taken_for_the_whole() -> None:
    talk = Dialogue().send(POST + b"da").half_close().app_is("aborted").client_got_reply(400, "incomplete-body")
    talk.ended((400, False))


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        (lambda t: t.send(GET), 0),
        (lambda t: t.send(POST + b"d"), 0),
        (lambda t: t.send(GET).answer(OK[:-1]), 200),
        (lambda t: t.send(GET).answer(OK[:9]), 0),
        (lambda t: t.send(GET).app_closes(), 0),
        (lambda t: t.send(UPGRADE).answer(SWITCH), 101),
    ],
    ids=["waiting", "uploading", "answering", "half a head", "dialling", "tunnel"],
)
def test_work_for_a_client_that_is_gone_is_given_up(steps: Callable[[Dialogue], Dialogue], status: int) -> None:
    talk = Dialogue()
    steps(talk)
    talk.vanish().ended((status, False))
    assert talk.app.state in ("aborted", "discarded", "gone")
    assert not talk.client.wanted


@pytest.mark.parametrize("data", [b"", b"GET / HT", GET])
def test_a_client_that_is_gone_between_requests_leaves_nothing_open(data: bytes) -> None:
    talk = Dialogue().send(data) if data != GET else Dialogue().send(GET).answer(OK)
    talk.vanish()
    assert talk.client.exchange is None


@pytest.mark.parametrize(
    "steps",
    [
        lambda t: t.send(GET).answer(OK).wind_down(),
        lambda t: t.send(GET).answer(OK[:-1]).app_closes(),
        lambda t: t.send(GET).answer(OK[:-1]).vanish(),
        lambda t: t.half_close(),
        lambda t: t.send(GET).app_closes().connects().app_closes(),
        lambda t: t.send(GET).enter(Phase.PROPAGATING).answer(OK),
    ],
    ids=["asked to go", "cut", "gone", "half-closed", "answered by us", "last"],
)
def test_after_the_end_nothing_more_is_read(steps: Callable[[Dialogue], Dialogue]) -> None:
    """With TLS, bytes may still come out of a buffer after a close."""
    talk = steps(Dialogue(pooled=2))
    before = list(talk.client.ended), talk.client.got
    talk.session.client_bytes(GET)
    assert (talk.client.ended, talk.client.got) == before
    assert talk.client.exchange is None


def test_an_exchange_without_a_response_is_not_counted_with_the_status_of_the_one_before() -> None:
    Dialogue().send(GET).answer(OK).send(GET).vanish().ended((200, True), (0, False))


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_come_is_408() -> None:
    talk = Dialogue().send(GET[:9]).waits(Wait.HEADER).time_out().client_got_reply(408, "header-timeout")
    talk.ended((408, False))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_a_head_in_pieces_is_parsed_once_and_its_lines_do_not_renew_its_limit(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def parse(data: bytes, most: int) -> RequestHead | None:
        parsed.append(len(data))
        return parse_request(data, most)

    monkeypatch.setattr("drainproxy.session.http1.parse_request", parse)
    request = b"GET / HTTP/1.1\r\nHost: app\r\n" + b"ab:cd\r\n" * 1000 + b"\r\n"
    talk = Dialogue().send(*(request[i : i + size] for i in range(0, len(request), size))).answer(OK).client_got(OK)
    assert len(parsed) == 2  # the first piece and the whole
    assert talk.client.waits.count(Wait.HEADER) == 1


def test_an_idle_connection_is_closed_unless_a_request_is_on_its_way() -> None:
    Dialogue().send(GET).answer(OK).waits(Wait.IDLE).time_out().client_is("closed").ended((200, True))
    talk = Dialogue()
    talk.client.silent = False
    talk.time_out().client_is("open").send(GET).answer(OK).client_got(OK)


def test_a_response_that_does_not_come_is_504() -> None:
    talk = Dialogue().send(GET).waits(Wait.RESPONSE).time_out().client_got_reply(504, "response-timeout")
    talk.app_is("aborted").ended((504, False))


def test_the_limit_for_the_response_begins_when_the_request_is_complete() -> None:
    talk = Dialogue().send(POST)
    assert talk.client.waiting is not Wait.RESPONSE
    talk.send(b"data").waits(Wait.RESPONSE)


@pytest.mark.parametrize("response", [OK[:-1], CHUNKED, UNTIL_CLOSE])
def test_the_limit_for_the_response_ends_with_its_head(response: bytes) -> None:
    Dialogue().send(GET).answer(response).waits(Wait.STREAM)


def test_a_stream_that_stops_is_cut() -> None:
    Dialogue().send(GET).answer(OK[:-1]).time_out().client_is("closed").app_is("aborted").ended((200, False))


def test_an_upload_that_stops_is_408() -> None:
    talk = Dialogue().send(POST + b"d")
    talk.client.waiting = Wait.STREAM
    talk.time_out().client_got_reply(408, "body-timeout").app_is("aborted").ended((408, False))


# --- drain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PROPAGATING, Phase.FINISHING, Phase.DRAINED])
def test_in_a_drain_new_requests_are_served_and_told_to_go(phase: Phase) -> None:
    Dialogue(phase=phase).send(GET).app_got(GET_SENT).answer(OK).client_got(OK_CLOSE).client_is("finished")


def test_a_request_that_was_sent_before_the_drain_is_answered_and_told_to_go() -> None:
    Dialogue().send(GET).enter(*DRAIN).answer(OK).client_got(OK_CLOSE).app_is("idle").ended((200, True))


def test_a_response_that_began_before_the_drain_goes_on_and_the_next_one_says_close() -> None:
    talk = Dialogue().send(GET).answer(OK[:-1]).enter(Phase.PROPAGATING).answer(OK[-1:]).client_got(OK)
    talk.client_is("open").send(GET).answer(OK).client_got(OK_CLOSE).client_is("finished")


def test_an_idle_connection_stays_until_its_turn() -> None:
    talk = Dialogue().send(GET).answer(OK).enter(*DRAIN).client_is("open").wind_down().client_is("closed")
    talk.ended((200, True)).wind_down()


def test_a_connection_whose_answer_began_before_the_drain_is_idle_when_it_ends() -> None:
    """The shell asks connections that are idle at the end of an exchange to go: nothing else would end this one."""
    talk = Dialogue().send(GET).answer(OK[:-1]).enter(*DRAIN).wind_down().answer(OK[-1:]).client_is("open")
    assert talk.client.idle_at_end == [True]
    talk.wind_down().client_is("closed")


def test_a_connection_with_work_is_not_closed_at_its_turn() -> None:
    talk = Dialogue().send(GET).enter(*DRAIN).wind_down().client_is("open").answer(OK).client_got(OK_CLOSE)
    talk = Dialogue().send(GET[:5]).enter(*DRAIN).wind_down().client_is("open").send(GET[5:]).answer(OK)
    talk.client_got(OK_CLOSE)


def test_a_drain_that_is_called_off_leaves_keep_alive_as_it_was() -> None:
    talk = Dialogue().enter(Phase.PROPAGATING).enter(Phase.SERVING).send(GET).answer(OK).client_got(OK)
    talk.client_is("open")


@pytest.mark.parametrize(
    "steps",
    [
        lambda t: t.send(GET),
        lambda t: t.send(POST + b"d"),
        lambda t: t.send(GET).answer(OK[:9]),
        lambda t: t.send(GET).app_closes(),
        lambda t: t.send(GET[:9]),
    ],
    ids=["waiting", "uploading", "half a response head", "dialling", "half a head"],
)
def test_at_the_deadline_what_has_no_answer_is_503(steps: Callable[[Dialogue], Dialogue]) -> None:
    talk = Dialogue()
    steps(talk)
    talk.enter(*DRAIN, Phase.FORCING).client_got_reply(503, "draining").ended((503, False))
    assert talk.client.lent is None or talk.app.state in ("aborted", "gone")
    assert not talk.client.wanted


@pytest.mark.parametrize(
    ("response", "end"),
    [(OK[:-1], "closed"), (CHUNKED + b"1\r\na\r\n", "closed"), (UNTIL_CLOSE + b"a", "aborted")],
    ids=["length", "chunked", "until close"],
)
def test_at_the_deadline_an_answer_is_cut_so_that_the_client_notices(response: bytes, end: str) -> None:
    talk = Dialogue().send(GET * 2).answer(response).enter(*DRAIN, Phase.FORCING).client_is(end).app_is("aborted")
    talk.ended((200, False))


def test_at_the_deadline_new_requests_are_503() -> None:
    Dialogue(phase=Phase.FORCING).send(GET).client_got_reply(503, "draining").ended((503, False))


def test_at_the_deadline_an_idle_connection_is_left_alone() -> None:
    Dialogue().send(GET).answer(OK).enter(*DRAIN, Phase.FORCING, Phase.DRAINED).client_is("open").ended((200, True))


def test_health_checks_are_no_work() -> None:
    talk = Dialogue().send(b"GET / HTTP/1.1\r\nHost: app\r\nUser-Agent: kube-probe/1.31\r\n\r\n")
    assert talk.client.exchange == (b"GET", b"/", False)
    talk.answer(OK).client_got(OK).ended((200, True))


# --- whatever happens -------------------------------------------------------------------------------------------------

CLIENT_PIECES = st.sampled_from(
    [
        GET,
        GET * 3,
        GET[:7],
        GET[7:],
        b"\r",
        b"\r\n",
        b"\n",
        POST,
        POST + b"data",
        b"da",
        b"ta",
        UPGRADE,
        b"GET / HTTP/1.0\r\nHost: app\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"4\r\ndata\r\n",
        b"0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app\r\nUser-Agent: kube-probe/1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"x" * 70_000,
    ]
)
APP_PIECES = st.sampled_from(
    [
        OK,
        OK + OK,
        OK[:9],
        OK[9:],
        OK[:-1],
        b"k",
        OK_CLOSE,
        CHUNKED,
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        UNTIL_CLOSE,
        SWITCH,
        SWITCH + b"more",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\n\r\n" + OK,
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nbody",
        b"nonsense\r\n\r\n",
    ]
)
EVENTS = st.one_of(
    CLIENT_PIECES.map(lambda data: ("send", data)),
    APP_PIECES.map(lambda data: ("answer", data)),
    st.sampled_from(
        [
            ("half_close", None),
            ("connects", False),
            ("connects", True),
            ("refuses", None),
            ("app_closes", True),
            ("app_closes", False),
            ("time_out", None),
            ("wind_down", None),
            ("phase", None),
        ]
    ),
)


def play(talk: Dialogue, event: str, value: object, phases: list[Phase]) -> None:
    """One event, if it can happen now."""
    client = talk.client
    lent = client.lent is not None and client.lent.state == "lent"
    match event:
        case "send" if client.state == "open" and not client.held and not talk.ended_reading:
            talk.send(cast("bytes", value))
        case "answer" if lent and not talk.app_ended:
            talk.answer(cast("bytes", value))
        case "half_close" if client.state == "open" and not talk.ended_reading:
            talk.half_close()
        case "connects" if client.wanted:
            talk.connects(reused=bool(value))
        case "refuses" if client.wanted:
            talk.refuses()
        case "app_closes" if lent and not talk.app_ended:
            talk.app_closes(clean=bool(value))
        case "time_out" if client.state == "open":
            talk.time_out()
        case "wind_down" if client.state == "open":
            talk.wind_down()
        case "phase" if phases and client.state == "open":
            talk.enter(phases.pop(0))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(events=st.lists(EVENTS, max_size=25), pooled=st.integers(0, 3))
def test_no_order_of_events_breaks_a_rule_or_leaves_an_exchange_open(
    events: list[tuple[str, object]], pooled: int
) -> None:
    """The rules are those that the stand-ins check: see tests.support.session."""
    talk = Dialogue(pooled=pooled)
    phases = [Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING, Phase.DRAINED]
    for event, value in events:
        play(talk, event, value, phases)
        if talk.client.state != "open" and not isinstance(talk.session, TunnelSession):
            talk.check(talk.client.exchange is None, "the connection has ended, its exchange has not")
            talk.check(not talk.client.wanted, "the connection has ended, and waits for the app")
        if len(phases) == 1:
            talk.check(talk.client.exchange is None, "work is left after FORCING")
            talk.enter(phases.pop(0))
    talk.vanish()
    talk.check(talk.client.exchange is None, "the client is gone, its exchange is open")
    talk.check(not talk.client.wanted, "the client is gone, and waits for the app")
    talk.check(
        talk.client.lent is None or talk.client.lent.state != "lent", "the client is gone, the app's work goes on"
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    uploads=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    chunked=st.booleans(),
    cuts=st.lists(st.integers(1, 500), max_size=12),
    answer_cuts=st.lists(st.integers(1, 60), max_size=6),
)
def test_any_pieces_of_the_same_conversation_give_the_same_conversation(
    uploads: list[bytes], chunked: bool, cuts: list[int], answer_cuts: list[int]
) -> None:
    requests = [_upload(body, chunked) for body in uploads]
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in uploads]
    talk = Dialogue(pooled=1).send(*pieces(b"".join(requests), cuts))
    for request, answer in zip(requests, answers, strict=True):
        talk.app_got(as_forwarded(request)).answer(*pieces(answer, answer_cuts))
    talk.client_got(b"".join(answers)).ended(*[(200, True)] * len(uploads)).client_is("open").app_is("idle")


def _upload(body: bytes, chunked: bool) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: app\r\n"
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunk = b"%x\r\n" % len(body) + body + b"\r\n" if body else b""
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut into pieces of these sizes and a rest."""
    parts = []
    for size in cuts:
        parts.append(data[:size])
        data = data[size:]
    return [part for part in (*parts, data) if part]


# --- bodies that pass unread ------------------------------------------------------------------------------------------

LARGE = WORTH_PASSING + 4
OK_LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
POST_LARGE = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % LARGE
POST_LARGE_SENT = as_forwarded(POST_LARGE)


def test_a_download_that_passes_unread_ends_the_exchange_and_leaves_both_connections() -> None:
    talk = Dialogue().send(GET).answer(OK_LARGE + b"data").client_got(OK_LARGE + b"data")
    talk.offers("down", LARGE - 4).waits(Wait.STREAM).open()
    talk.passes("down", LARGE - 4).ended((200, True)).app_is("idle")
    talk.send(GET).answer(OK).client_got(OK).ended((200, True), (200, True))


def test_a_download_of_which_only_a_part_passes_is_read_to_its_end() -> None:
    talk = Dialogue().send(GET).answer(OK_LARGE).offers("down", LARGE).passes("down", LARGE - 3).open()
    talk.client_got(OK_LARGE).answer(b"abc").client_got(b"abc").ended((200, True)).app_is("idle")


def test_a_download_that_passes_in_part_and_breaks_off_is_cut() -> None:
    talk = Dialogue().send(GET).answer(OK_LARGE).passes("down", LARGE - 1).app_closes()
    talk.ended((200, False)).client_is("closed")


def test_bytes_behind_a_download_that_passed_unread_are_not_the_next_answer() -> None:
    talk = Dialogue().send(GET).answer(OK_LARGE)
    talk.app.silent = False
    talk.passes("down", LARGE).ended((200, True)).app_is("discarded")


def test_a_request_that_waits_behind_a_download_is_read_when_it_has_passed() -> None:
    talk = Dialogue().send(GET).answer(OK_LARGE).send(GET).passes("down", LARGE)
    talk.app_got(GET_SENT + GET_SENT).answer(OK).client_got(OK_LARGE + OK).ended((200, True), (200, True))


@pytest.mark.parametrize("come", [b"", b"data"])
def test_an_upload_that_passes_unread_is_complete(come: bytes) -> None:
    talk = Dialogue().send(POST_LARGE + come).app_got(POST_LARGE_SENT + come).offers("up", LARGE - len(come))
    talk.passes("up", LARGE - len(come)).waits(Wait.RESPONSE).answer(OK).client_got(OK).ended((200, True))
    talk.send(GET).answer(OK).client_got(OK).ended((200, True), (200, True))


def test_an_upload_is_offered_once_there_is_a_connection() -> None:
    talk = Dialogue(pooled=0).send(POST_LARGE, b"data")
    assert not talk.client.passing
    talk.connects().app_got(POST_LARGE_SENT + b"data").offers("up", LARGE - 4)


def test_an_upload_of_which_only_a_part_passes_is_read_to_its_end() -> None:
    talk = Dialogue().send(POST_LARGE).passes("up", LARGE - 3).app_got(POST_LARGE_SENT)
    talk.send(b"abc" + GET).app_got(b"abc").waits(Wait.RESPONSE).answer(OK).app_got(GET_SENT)


def test_an_upload_that_passes_in_part_and_ends_is_incomplete() -> None:
    talk = Dialogue().send(POST_LARGE).passes("up", LARGE - 1).half_close()
    talk.client_got_reply(400, "incomplete-body").app_is("aborted").ended((400, False))


def test_an_answer_that_has_begun_goes_on_when_the_upload_has_passed() -> None:
    talk = Dialogue().send(POST_LARGE).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").waits(Wait.STREAM)
    talk.passes("up", LARGE).waits(Wait.STREAM).answer(b"ok").ended((200, True)).client_is("finished")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nx" % WORTH_PASSING,
        CHUNKED,
        UNTIL_CLOSE,
    ],
)
def test_small_bodies_and_those_of_unknown_length_are_read(answer: bytes) -> None:
    talk = Dialogue().send(GET).answer(answer)
    assert not talk.client.passing


def test_the_body_of_a_request_to_upgrade_is_read() -> None:
    talk = Dialogue().send(UPGRADE[:-2] + b"Content-Length: %d\r\n\r\n" % LARGE)
    assert not talk.client.passing


HOP = b"X-Drainproxy-Hop: 1\r\n"
NO_APP = reply(Reason.APP_UNAVAILABLE)
NO_APP_RELAYED = NO_APP.replace(b"Connection: close\r\n", b"")


def as_hop(sent: bytes) -> bytes:
    """What a sibling gets of a request that the app would have got like this."""
    line, end, rest = sent.partition(b"\r\n")
    return line + end + HOP + rest


@pytest.mark.parametrize(("request_", "sent"), [(GET, GET_SENT), (POST + b"data", POST_SENT + b"data")])
def test_a_request_that_finds_the_app_gone_is_answered_by_a_sibling(request_: bytes, sent: bytes) -> None:
    talk = Dialogue(pooled=0, siblings=3).send(request_).refuses().connects(sibling=True).app_got(as_hop(sent))
    talk.answer(OK).client_got(OK).client_is("open").ended((200, True))
    assert talk.client.upstream_errors == ["connect-refused"]


def test_an_upload_that_finds_the_app_gone_is_streamed_to_a_sibling() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(POST + b"da")
    assert talk.client.held & Hold.DIALLING
    talk.refuses()
    assert talk.client.held & Hold.DIALLING
    talk.connects(sibling=True).app_got(as_hop(POST_SENT + b"da")).send(b"ta").app_got(b"ta")
    assert not talk.client.held
    talk.answer(OK).client_got(OK).ended((200, True))


def test_what_a_sibling_has_handed_over_is_handed_on_by_nobody() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET[:-2] + HOP + b"\r\n").refuses()
    talk.client_got_reply(503, "app-unavailable").ended((503, False))


def test_without_a_successor_nobody_may_say_that_a_request_was_handed_over() -> None:
    Dialogue().send(GET[:-2] + HOP + b"\r\n").app_got(GET_SENT).answer(OK).client_got(OK)


@pytest.mark.parametrize(("request_", "sent"), [(GET, GET_SENT), (POST + b"data", POST_SENT + b"data")])
def test_a_sibling_without_an_app_turns_a_request_down_and_the_next_one_is_asked(request_: bytes, sent: bytes) -> None:
    talk = Dialogue(pooled=0, siblings=3).send(request_).refuses()
    for _ in range(2):
        talk.connects(sibling=True).app_got(as_hop(sent)).answer(NO_APP[:30], NO_APP[30:]).app_is("discarded")
    talk.client_got(b"").connects(sibling=True).app_got(as_hop(sent)).answer(OK).client_got(OK).ended((200, True))


@pytest.mark.parametrize("size", [0, 100, 2 * WORTH_TWO_PIECES])
def test_an_idle_connection_to_a_sibling_gets_what_a_new_one_gets(size: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\n" + framed(b"x" * size, chunked=False)
    talk = Dialogue(siblings=3)
    talk.client.idle[0].sibling = True
    talk.send(request).app_got(as_hop(as_forwarded(request))).answer(NO_APP).app_is("discarded")
    talk.connects(sibling=True).app_got(as_hop(as_forwarded(request))).answer(OK).client_got(OK).ended((200, True))


def test_when_all_siblings_have_turned_a_request_down_the_client_is_told() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).refuses()
    for _ in range(3):
        talk.connects(sibling=True).answer(NO_APP)
    talk.client_got_reply(503, "app-unavailable").ended((503, False))


def test_an_upload_that_is_no_longer_whole_here_is_not_sent_to_a_second_sibling() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(POST + b"da").refuses().connects(sibling=True).send(b"ta")
    talk.answer(NO_APP).client_got(NO_APP_RELAYED).ended((503, True))


@pytest.mark.parametrize(
    "answer",
    [
        NO_APP.replace(b"Connection: close", b"Server: gateway\r\nConnection: close"),
        NO_APP.replace(b"app-unavailable", b"draining"),
    ],
)
def test_a_503_that_is_not_to_the_byte_what_a_sibling_without_an_app_says_is_the_answer(answer: bytes) -> None:
    talk = Dialogue(pooled=0, siblings=3).send(POST + b"data").refuses().connects(sibling=True).answer(answer)
    talk.client_got(answer.replace(b"Connection: close\r\n", b"")).ended((503, True))


def test_the_apps_own_503_is_the_answer_even_if_it_reads_like_a_siblings() -> None:
    Dialogue(siblings=3).send(GET).answer(NO_APP).client_got(NO_APP_RELAYED).ended((503, True))


def test_a_sibling_that_breaks_unanswered_may_have_done_the_work_so_nobody_else_is_asked() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(POST + b"data").refuses().connects(reused=True, sibling=True)
    talk.app_closes().client_got_reply(502, "upstream-broke").ended((502, False))


def test_an_idempotent_request_on_a_reused_connection_to_a_sibling_is_sent_once_more_unmarked_to_the_app() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).refuses().connects(reused=True, sibling=True).app_closes()
    talk.connects().app_got(GET_SENT).answer(OK).client_got(OK).ended((200, True))


def test_the_app_that_is_back_meanwhile_gets_the_request_as_ever() -> None:
    Dialogue(pooled=0, siblings=3).send(GET).refuses().connects().app_got(GET_SENT).answer(OK).client_got(OK)


def test_a_client_that_leaves_while_a_sibling_is_dialled_is_forgotten() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).refuses().vanish()
    assert not talk.client.wanted


def test_a_websocket_that_finds_the_app_gone_opens_at_a_sibling() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(UPGRADE).refuses().connects(sibling=True).app_got(as_hop(UPGRADE_SENT))
    talk.answer(SWITCH)
    assert talk.client.kind is Kind.WEBSOCKET


def test_at_the_deadline_a_request_that_the_app_has_not_seen_goes_to_a_sibling() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).enter(*DRAIN, Phase.FORCING, Phase.DRAINED)
    talk.connects(sibling=True).app_got(as_hop(GET_SENT)).answer(OK).client_got(OK_CLOSE).ended((200, True))


def test_at_the_deadline_an_upload_that_the_app_has_not_seen_is_streamed_to_a_sibling() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(POST + b"da").enter(*DRAIN, Phase.FORCING, Phase.DRAINED)
    talk.connects(sibling=True).app_got(as_hop(POST_SENT + b"da")).send(b"ta").app_got(b"ta")
    talk.answer(OK).client_got(OK_CLOSE).ended((200, True))


def test_at_the_deadline_a_request_that_the_app_has_is_cut_siblings_or_not() -> None:
    talk = Dialogue(siblings=3).send(GET).enter(*DRAIN, Phase.FORCING)
    talk.client_got_reply(503, "draining").app_is("aborted").ended_as(Ended.CUT)


def test_at_the_deadline_what_a_sibling_has_handed_over_is_cut() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET[:-2] + HOP + b"\r\n").enter(*DRAIN, Phase.FORCING)
    talk.client_got_reply(503, "draining").ended_as(Ended.CUT)


def test_in_a_drain_a_sibling_may_get_a_request_at_once_and_still_turn_it_down() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).connects(sibling=True).answer(NO_APP)
    talk.connects(sibling=True).app_got(as_hop(GET_SENT)).answer(OK).client_got(OK).ended((200, True))
    assert talk.client.upstream_errors == []


def test_when_neither_the_app_nor_a_sibling_is_there_the_client_is_told_and_nobody_is_asked_again() -> None:
    talk = Dialogue(pooled=0, siblings=3).send(GET).refuses(Reason.APP_UNAVAILABLE)
    talk.client_got_reply(503, "app-unavailable").ended((503, False))
    assert talk.client.upstream_errors == []
    assert not talk.client.wanted


def test_every_session_test_fails_on_a_step_that_the_tables_do_not_have() -> None:
    talk = Dialogue(pooled=0).send(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    with pytest.raises(AssertionError, match=r"DIALLING -> \S+ANSWERING"):
        talk.http1._response_state = ResponseState.ANSWERING
    with pytest.raises(AssertionError, match=r"SENT -> \S+BODY"):
        talk.http1._request_state = RequestState.BODY


@pytest.mark.parametrize("table", [NEXT_REQUEST_STATES, NEXT_RESPONSE_STATES, NEXT_DEPARTURE, NEXT_FAREWELL])
def test_each_table_has_every_state_and_leads_to_each(table: dict[Any, frozenset[Any]]) -> None:
    first, *others = cast("type[Enum]", type(next(iter(table))))
    assert set(table) == {first, *others}
    assert set().union(*table.values()) | {first} == {first, *others}


# Who ended it.


@pytest.mark.parametrize(
    ("happens", "ended"),
    [
        (lambda talk: talk.send(GET).answer(OK), Ended.WELL),
        (lambda talk: talk.send(GET).vanish(), Ended.DEPARTED),
        (lambda talk: talk.send(GET).answer(OK[:-1]).vanish(), Ended.DEPARTED),
        (lambda talk: talk.send(POST + b"da").half_close(), Ended.DEPARTED),
        (lambda talk: talk.send(b"CONNECT app:1 HTTP/1.1\r\nHost: app:1\r\n\r\n"), Ended.REFUSED),
        (lambda talk: talk.send(GET).answer(b"SSH-2.0\r\n\r\n"), Ended.BROKEN),
        (lambda talk: talk.send(POST + b"data").app_closes(clean=False), Ended.BROKEN),
        (lambda talk: talk.send(GET).answer(OK[:-1]).app_closes(), Ended.BROKEN),
        (lambda talk: talk.send(GET).time_out(), Ended.TIMED_OUT),
        (lambda talk: talk.send(GET).answer(OK[:-1]).time_out(), Ended.TIMED_OUT),
        (lambda talk: talk.send(GET).enter(*DRAIN, Phase.FORCING), Ended.CUT),
        (lambda talk: talk.send(GET).answer(OK[:-1]).enter(*DRAIN, Phase.FORCING), Ended.CUT),
        (lambda talk: talk.enter(*DRAIN, Phase.FORCING).send(GET), Ended.CUT),
    ],
)
def test_who_ended_an_exchange_is_known(happens: Callable[[Dialogue], Dialogue], ended: Ended) -> None:
    happens(Dialogue()).ended_as(ended)


def test_an_app_that_is_not_there_has_broken_the_exchange_and_the_deadline_cuts_one_that_waits_for_it() -> None:
    Dialogue(pooled=0).send(GET).refuses().ended_as(Ended.BROKEN)
    Dialogue(pooled=0).send(GET).enter(*DRAIN, Phase.FORCING).ended_as(Ended.CUT)
