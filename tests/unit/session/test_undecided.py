"""On an `any` route whoever speaks first tells the protocol, and what is HTTP is treated as on any other route."""

from __future__ import annotations

import pytest

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Kind
from drainproxy.drain.phase import Phase
from drainproxy.protocol.http2 import EMPTY_SETTINGS, PREFACE
from drainproxy.protocol.reasons import Reason
from drainproxy.session.http1 import Http1Session
from drainproxy.session.http2 import Http2Session
from drainproxy.session.ports import UNREAD, Wait
from drainproxy.session.tunnel import TunnelSession
from drainproxy.session.undecided import UndecidedSession
from tests.support.session import Dialogue, as_forwarded, forwarding

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
SMUGGLED = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
OTHERS = [b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01\x02\x00\x01", b"get key\r\n", b"\x00\x00\x00\x2c", b"GETTING"]


def accepted() -> Dialogue:
    dialogue = Dialogue(pooled=0)
    session = UndecidedSession(dialogue.client, Config(), forwarding(), Phase.SERVING)
    dialogue.client.session = session
    session.start()
    return dialogue


def connected() -> Dialogue:
    return accepted().connects()


def test_the_app_is_dialled_at_once_and_that_is_no_work() -> None:
    dialogue = accepted()
    assert dialogue.client.asked == [(True, False)]
    assert dialogue.client.exchange is None
    assert dialogue.session.idle


@pytest.mark.parametrize("at", range(1, len(GET)))
def test_a_method_makes_it_http1_on_the_connection_that_was_dialled(at: int) -> None:
    dialogue = connected().send(GET[:at], GET[at:])
    assert isinstance(dialogue.session, Http1Session)
    dialogue.app_got(as_forwarded(GET))
    assert dialogue.app.name == "app #1"


def test_http1_does_not_wait_for_the_first_dial() -> None:
    dialogue = accepted().send(GET).connects().app_got(as_forwarded(GET))
    assert isinstance(dialogue.session, Http1Session)


def test_a_connection_that_waited_too_long_at_the_app_is_not_used() -> None:
    dialogue = connected()
    first = dialogue.app
    dialogue.client.time += Config().upstream_idle_s
    dialogue.send(GET)
    assert first.state == "discarded"
    dialogue.connects().app_got(as_forwarded(GET))


@pytest.mark.parametrize("at", range(1, len(PREFACE) + len(EMPTY_SETTINGS)))
def test_the_preface_makes_it_http2(at: int) -> None:
    data = PREFACE + EMPTY_SETTINGS
    dialogue = connected().send(data[:at], data[at:])
    assert isinstance(dialogue.session, Http2Session)
    dialogue.connects().app_got(data)


@pytest.mark.parametrize("request_", [SMUGGLED, b"\r\n" + SMUGGLED, b"GET nonsense\r\n\r\n"])
def test_what_is_http_is_as_strict_as_ever(request_: bytes) -> None:
    dialogue = connected().send(request_)
    assert isinstance(dialogue.session, Http1Session)
    assert dialogue.client.got.startswith(b"HTTP/1.1 400 ")
    assert dialogue.app.got == b""


@pytest.mark.parametrize("data", OTHERS)
def test_other_first_bytes_are_relayed_however_they_are_cut(data: bytes) -> None:
    for at in range(len(data)):
        pieces = [piece for piece in (data[:at], data[at:]) if piece]
        dialogue = connected().send(*pieces).app_got(data).open()
        assert dialogue.client.kind is Kind.TCP
        dialogue.answer(b"reply").client_got(b"reply")


@pytest.mark.parametrize("data", OTHERS)
def test_other_first_bytes_wait_for_the_app(data: bytes) -> None:
    accepted().send(data).connects().app_got(data)


def test_an_app_that_speaks_first_is_heard_at_once() -> None:
    dialogue = connected().answer(b"220 hello").client_got(b"220 hello").waits(Wait.STREAM)
    assert isinstance(dialogue.session, TunnelSession)
    dialogue.send(b"GET / is data now").app_got(b"GET / is data now")


def test_what_begins_like_http_and_stops_is_relayed_in_the_end() -> None:
    connected().send(b"PUT").waits(Wait.HEADER).time_out().app_got(b"PUT").open()


def test_a_client_that_only_listens_is_served() -> None:
    dialogue = connected().half_close().app_half_closed().answer(b"12:00").client_got(b"12:00").app_closes()
    dialogue.ended((UNREAD, True)).client_is("closed")


def test_a_silent_connection_is_closed_when_it_is_its_turn_and_leaves_nothing_behind() -> None:
    for dialogue in (connected().wind_down(), connected().time_out()):
        dialogue.client_is("closed").app_is("discarded")
    dialogue = accepted().wind_down().client_is("closed")
    assert not dialogue.client.wanted


def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    connected().vanish().app_is("discarded")
    assert not accepted().vanish().client.wanted


def test_an_app_that_closes_without_a_word_is_passed_on_to_a_silent_client() -> None:
    connected().app_closes().client_is("closed")


def test_an_app_that_closes_while_a_request_is_on_its_way_is_asked_again() -> None:
    dialogue = connected()
    dialogue.client.silent = False
    dialogue.app_closes().send(GET).connects().app_got(as_forwarded(GET))
    connected().send(GET[:2]).app_closes().send(GET[2:]).connects().app_got(as_forwarded(GET))


def test_an_app_that_is_not_there_is_told_by_a_reset() -> None:
    dialogue = accepted().refuses().client_is("aborted")
    assert dialogue.client.upstream_errors == ["connect-refused"]


def test_a_silent_connection_that_finds_the_app_gone_goes_to_a_sibling_and_is_its_work_once_somebody_speaks() -> None:
    dialogue = accepted()
    dialogue.client.siblings = 1
    dialogue.refuses().client_is("open").connects(sibling=True).answer(b"220 hello").client_got(b"220 hello")
    assert dialogue.client.elsewhere == [None]


def test_without_an_app_and_a_sibling_the_client_is_reset() -> None:
    dialogue = accepted()
    dialogue.client.siblings = 1
    dialogue.refuses().refuses(Reason.APP_UNAVAILABLE).client_is("aborted")
    assert dialogue.client.upstream_errors == ["connect-refused"]
