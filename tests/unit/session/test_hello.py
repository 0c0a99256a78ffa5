"""Is a sibling's question answered here, and does everything else pass as if nobody had looked?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drainproxy.config.options import Config
from drainproxy.drain.phase import Phase
from drainproxy.protocol.hello import FIRST, MAX_QUESTION, Purpose, ask, read_answer
from drainproxy.protocol.http1 import Forwarding
from drainproxy.session.detect import DetectSession
from drainproxy.session.hello import HelloSession
from drainproxy.session.http1 import Http1Session
from drainproxy.session.ports import Wait
from drainproxy.session.tunnel import TunnelSession
from drainproxy.session.undecided import UndecidedSession
from tests.support.session import ScriptedClient, ScriptedUpstream, Transcript

if TYPE_CHECKING:
    from drainproxy.session.ports import Session

NONCE = b"0123456789abcdef" * 2
GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
NEAR = Forwarding(b"10.0.0.9", b"http", True, lambda: b"id", hops=True)


class Talk:
    """A client that may be a sibling, on a route of this protocol."""

    def __init__(self, protocol: str = "auto") -> None:
        self.transcript = Transcript()
        self.client = ScriptedClient(self.transcript)

        def conversation(hop: bool) -> Session:
            forwarding = replace(NEAR, hopped=hop)
            if protocol == "tcp":
                return (
                    TunnelSession(self.client, None, hop=True)
                    if hop
                    else UndecidedSession(self.client, Config(), forwarding, Phase.SERVING, http=False)
                )
            return DetectSession(self.client, Config(), forwarding, Phase.SERVING)

        self.client.session = HelloSession(self.client, conversation)
        self.session.start()

    @property
    def session(self) -> Session:
        assert self.client.session is not None
        return self.client.session

    def send(self, data: bytes) -> Talk:
        self.session.client_bytes(data)
        return self

    def connects(self) -> ScriptedUpstream:
        upstream = ScriptedUpstream("app", [], self.transcript)
        self.client.wanted = False
        self.session.upstream_ready(self.client.lend(upstream))
        return upstream


def question(purpose: Purpose) -> bytes:
    return ask(NONCE, purpose, "web:80")


def test_who_only_asks_is_answered_and_the_connection_ends() -> None:
    talk = Talk().send(question(Purpose.ASK))
    assert read_answer(talk.client.got) is not None
    assert talk.client.state == "finished"
    assert talk.client.exchange is None
    assert talk.client.ended == [], "it is no request"


def test_requests_may_follow_the_answer_and_are_ordinary_ones() -> None:
    talk = Talk().send(question(Purpose.REQUESTS)).send(GET)
    assert isinstance(talk.session, Http1Session)
    assert not talk.session.hop
    assert talk.client.exchange is not None


def test_a_request_right_behind_the_question_is_not_lost() -> None:
    assert Talk().send(question(Purpose.REQUESTS) + GET).client.exchange is not None


def test_a_whole_connection_that_follows_was_handed_over() -> None:
    talk = Talk().send(question(Purpose.CONNECTION))
    assert talk.client.got.startswith(b"HTTP/1.1 101 ")
    talk.send(GET)
    assert talk.session.hop


@pytest.mark.parametrize("end", [len(FIRST), len(FIRST) + 1, len(question(Purpose.ASK)) - 1])
def test_a_question_in_two_pieces_is_answered(end: int) -> None:
    data = question(Purpose.ASK)
    talk = Talk().send(data[:end])
    assert (talk.client.got, talk.client.waiting) == (b"", Wait.HEADER)
    assert not talk.session.idle
    talk.session.wind_down()
    talk.send(data[end:])
    assert read_answer(talk.client.got) is not None


def test_a_question_that_never_ends_is_taken_for_a_request() -> None:
    talk = Talk().send(FIRST).send(b"x" * MAX_QUESTION)
    assert isinstance(talk.session, Http1Session)


def test_half_a_question_that_times_out_is_refused_as_half_a_request_is() -> None:
    talk = Talk().send(FIRST)
    talk.session.timed_out(Wait.HEADER)
    assert isinstance(talk.session, Http1Session)
    assert not talk.session.idle


def test_everything_else_passes_as_if_nobody_had_looked() -> None:
    talk = Talk().send(GET[:5]).send(GET[5:])
    assert isinstance(talk.session, Http1Session)
    assert talk.client.exchange is not None


def test_only_the_first_words_of_a_connection_are_a_question() -> None:
    talk = Talk().send(GET[:5]).send(GET[5:] + question(Purpose.ASK))
    assert talk.client.got == b""


def test_a_tcp_connection_is_dialled_at_once_and_a_question_on_it_is_no_work() -> None:
    talk = Talk("tcp")
    assert talk.client.wanted
    app = talk.connects()
    talk.send(question(Purpose.ASK))
    assert app.state == "discarded"
    assert app.got == b""
    assert talk.client.ended == []


def test_a_tcp_connection_that_was_handed_over_is_dialled_anew_and_then_relayed() -> None:
    talk = Talk("tcp")
    first = talk.connects()
    talk.send(question(Purpose.CONNECTION) + b"hello")
    assert first.state == "discarded"
    assert talk.client.wanted
    assert talk.connects().got == b"hello"


def test_an_app_that_speaks_first_is_heard_at_once() -> None:
    talk = Talk("tcp")
    talk.connects()
    talk.session.upstream_bytes(b"220 hello")
    assert talk.client.got == b"220 hello"


def test_a_client_that_ends_without_a_word_ends_as_on_its_route() -> None:
    talk = Talk()
    talk.session.client_eof()
    assert talk.client.state == "closed"
