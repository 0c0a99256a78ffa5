"""What a tunnel promises: every byte in order, each direction ended on its own, ends that nobody misreads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Phase
from drainproxy.protocol.reasons import Reason
from drainproxy.session.ports import UNREAD, Hold, Wait
from drainproxy.session.tunnel import TunnelSession
from tests.support.session import Dialogue

if TYPE_CHECKING:
    from collections.abc import Callable


def accepted() -> Dialogue:
    """A client of a `tcp` route, that has said nothing yet."""
    dialogue = Dialogue(Config(), pooled=0)
    session = TunnelSession(dialogue.client, None)
    dialogue.client.session = session
    session.start()
    return dialogue


def connected() -> Dialogue:
    return accepted().connects()


def test_the_app_is_dialled_before_the_client_has_said_a_word() -> None:
    dialogue = accepted().open().waits(Wait.STREAM)
    assert dialogue.client.kind is Kind.TCP
    assert dialogue.client.asked == [(True, False)]
    assert dialogue.client.held == Hold.DIALLING
    dialogue.connects().answer(b"220 hello").client_got(b"220 hello")
    assert dialogue.client.held == Hold.NONE


def test_what_comes_before_there_is_an_app_is_kept() -> None:
    accepted().send(b"a", b"b").half_close().connects().app_got(b"ab").app_half_closed()


def test_bytes_pass_both_ways() -> None:
    connected().send(b"one", b"two").app_got(b"onetwo").answer(b"three").client_got(b"three").open()


def test_the_client_may_end_its_side_first() -> None:
    dialogue = connected().send(b"ask").half_close().app_half_closed().open()
    dialogue.answer(b"answer").client_got(b"answer").app_closes().ended((UNREAD, True)).client_is("closed")
    dialogue.app_is("discarded")


def test_the_app_may_end_its_side_first() -> None:
    dialogue = connected().answer(b"bye").app_closes().client_got(b"bye").open()
    assert dialogue.client.half_closed
    dialogue.send(b"rest").app_got(b"rest").half_close().ended((UNREAD, True)).client_is("closed")


def test_an_app_that_breaks_breaks_its_client() -> None:
    connected().app_closes(clean=False).client_is("aborted").ended((0, False)).ended_as(Ended.BROKEN)


def test_a_client_that_breaks_breaks_its_app() -> None:
    connected().vanish().app_is("aborted").ended((0, False)).ended_as(Ended.DEPARTED)


def test_a_client_that_is_gone_after_it_had_ended_its_side_has_left_in_order() -> None:
    connected().half_close().vanish().app_is("discarded").ended((UNREAD, True))


def test_no_app_is_a_reset() -> None:
    dialogue = accepted().refuses().client_is("aborted").ended((0, False))
    assert dialogue.client.upstream_errors == ["connect-refused"]


def test_a_client_that_leaves_while_the_app_is_dialled_is_dialled_for_no_longer() -> None:
    dialogue = accepted().vanish().ended((0, False))
    assert not dialogue.client.wanted


@pytest.mark.parametrize("phase", [Phase.PROPAGATING, Phase.FINISHING])
def test_a_drain_waits_for_a_connection(phase: Phase) -> None:
    connected().enter(phase).wind_down().send(b"x").app_got(b"x").open().client_is("open")


def test_the_deadline_cuts_so_that_both_ends_notice() -> None:
    connected().enter(Phase.FORCING).client_is("aborted").app_is("aborted").ended((0, False)).ended_as(Ended.CUT)


def test_the_deadline_cuts_what_waits_for_an_app() -> None:
    dialogue = accepted().enter(Phase.FORCING).client_is("aborted").ended((0, False))
    assert not dialogue.client.wanted


def test_silence_for_too_long_cuts() -> None:
    connected().time_out().client_is("aborted").app_is("aborted").ended((0, False)).ended_as(Ended.TIMED_OUT)


def test_an_end_is_counted_once() -> None:
    dialogue = connected().half_close().app_closes().ended((UNREAD, True))
    session = dialogue.session
    session.enter(Phase.FORCING)
    session.client_gone()
    dialogue.ended((UNREAD, True))
    assert session.idle


@pytest.mark.parametrize(
    "happens", [lambda talk: talk.enter(Phase.FORCING, Phase.DRAINED), lambda talk: talk.refuses()]
)
def test_a_connection_that_the_app_has_not_seen_goes_to_a_sibling_as_a_whole(
    happens: Callable[[Dialogue], Dialogue],
) -> None:
    dialogue = accepted().send(b"hello")
    dialogue.client.siblings = 1
    happens(dialogue).open().connects(sibling=True).app_got(b"hello").answer(b"hi").client_got(b"hi")


@pytest.mark.parametrize("siblings", [0, 1])
def test_without_an_app_and_a_sibling_the_client_is_reset(siblings: int) -> None:
    dialogue = accepted()
    dialogue.client.siblings = siblings
    if siblings:
        dialogue.refuses()
    dialogue.refuses(Reason.APP_UNAVAILABLE if siblings else Reason.CONNECT_REFUSED).client_is("aborted")
    dialogue.ended_as(Ended.BROKEN)


def test_a_connection_that_was_handed_over_goes_to_no_other_sibling() -> None:
    dialogue = Dialogue(Config(), pooled=0, siblings=1)
    session = TunnelSession(dialogue.client, None, hop=True)
    dialogue.client.session = session
    session.start()
    dialogue.refuses().client_is("aborted")
