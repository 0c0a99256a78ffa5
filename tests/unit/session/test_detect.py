"""Which protocol a client speaks is told by its first bytes, however they are cut."""

from __future__ import annotations

import pytest

from drainproxy.config.options import Config
from drainproxy.drain.phase import Phase
from drainproxy.protocol.http2 import EMPTY_SETTINGS, PREFACE
from drainproxy.session.detect import DetectSession
from drainproxy.session.http1 import Http1Session
from drainproxy.session.http2 import Http2Session
from drainproxy.session.ports import Wait
from tests.support.session import Dialogue, as_forwarded, forwarding

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
PROPFIND = b"PROPFIND / HTTP/1.1\r\nHost: app\r\n\r\n"


def begin(*, only_http2: bool = False) -> Dialogue:
    dialogue = Dialogue()
    session = DetectSession(dialogue.client, Config(), forwarding(), Phase.SERVING, only_http2=only_http2)
    dialogue.client.session = session
    session.start()
    return dialogue


@pytest.mark.parametrize("at", range(1, len(PREFACE) + len(EMPTY_SETTINGS)))
def test_http2_is_known_by_its_preface(at: int) -> None:
    data = PREFACE + EMPTY_SETTINGS
    dialogue = begin().send(data[:at], data[at:]).connects().app_got(data)
    assert isinstance(dialogue.session, Http2Session)


@pytest.mark.parametrize("request_", [GET, PROPFIND])
@pytest.mark.parametrize("at", range(1, 12))
def test_everything_else_is_http1(request_: bytes, at: int) -> None:
    dialogue = begin().send(request_[:at], request_[at:])
    assert isinstance(dialogue.session, Http1Session)
    dialogue.app_got(as_forwarded(request_))


def test_a_route_for_http2_serves_nothing_else() -> None:
    dialogue = begin(only_http2=True).send(GET).client_got_reply(505, "not-http2")
    assert dialogue.client.rejections == ["not-http2"]


def test_a_preface_that_never_ends_is_not_waited_for() -> None:
    dialogue = begin().send(PREFACE[:10], PREFACE[10:12]).waits(Wait.HEADER)
    assert dialogue.client.waits == [Wait.HEADER]
    dialogue.time_out().client_is("closed")


def test_once_the_protocol_is_known_the_preface_is_not_timed_any_more() -> None:
    begin().send(PREFACE[:10], PREFACE[10:]).waits(Wait.IDLE)


def test_a_client_that_has_said_nothing_is_closed_when_it_is_its_turn() -> None:
    begin().wind_down().client_is("closed")
    begin().time_out().client_is("closed")


def test_a_client_that_has_begun_to_speak_is_heard_out() -> None:
    begin().send(PREFACE[:10]).wind_down().client_is("open")


def test_a_client_that_leaves_without_a_word() -> None:
    begin().half_close().client_is("closed")
    begin().vanish()


def test_the_drain_reaches_the_session_that_follows() -> None:
    dialogue = begin().enter(Phase.PROPAGATING).send(GET)
    dialogue.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert b"Connection: close" in dialogue.client.got
