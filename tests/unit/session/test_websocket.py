"""What a WebSocket promises: frames as they came, and a Close 1001 where one may stand, answered by the client."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.config.loading import load
from drainproxy.drain.ledger import Kind
from drainproxy.drain.phase import Phase
from drainproxy.session.websocket import CLOSE, CUT
from tests.support.session import Dialogue

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = 101


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


CLOSE_ANSWER = bytes((0x88, 0x80 | 2)) + b"mask" + bytes(a ^ b for a, b in zip(b"\x03\xe9", b"ma", strict=True))
"""A client's masked Close 1001."""
MESSAGES = [
    frame(1, b""),
    frame(1, b"hello"),
    frame(2, b"x" * 125),
    frame(2, b"x" * 126),
    frame(2, b"x" * 65_535),
    frame(2, b"x" * 65_536),
    frame(1, b"part", fin=False) + frame(9, b"ping") + frame(0, b"rest"),
    frame(1, b"deflated", rsv1=True),
    frame(10, b"pong"),
]


def connected(**options: str) -> Dialogue:
    dialogue = Dialogue(load(options, {}, {}))
    dialogue.send(UPGRADE).answer(SWITCHING)
    assert dialogue.client.kind is Kind.WEBSOCKET
    dialogue.client.got = dialogue.app.got = b""
    return dialogue


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(0, 200_000), max_size=10))
def test_frames_pass_as_they_came_however_they_are_cut(messages: list[bytes], at: list[int]) -> None:
    data = b"".join(messages)
    places = sorted({place % (len(data) + 1) for place in at} | {0})
    pieces = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    dialogue = connected().answer(*pieces).client_got(data).wind_down().client_got(CLOSE)
    dialogue.client_is("open").open()


@given(st.integers(1, 65_546), st.integers(1, 65_546))
def test_inside_a_frame_the_close_waits_for_its_end(first: int, second: int) -> None:
    data = MESSAGES[5]
    cuts = sorted({0, first % len(data), second % len(data), len(data)})
    pieces = [data[a:b] for a, b in pairwise(cuts)]
    dialogue = connected().answer(pieces[0]).wind_down()
    dialogue.answer(*pieces[1:], MESSAGES[1]).client_got(data + CLOSE)


def test_a_close_may_stand_between_the_pieces_of_a_message() -> None:
    first, rest = frame(1, b"part", fin=False), frame(0, b"rest")
    connected().answer(first).wind_down().answer(rest).client_got(first + CLOSE)


def test_the_rest_of_a_chunk_behind_the_close_is_not_sent() -> None:
    dialogue = connected().answer(MESSAGES[1][:3]).wind_down().answer(MESSAGES[1][3:] + MESSAGES[2])
    dialogue.client_got(MESSAGES[1] + CLOSE).vanish().ended((SWITCHED, False))


def test_the_clients_answer_closes_the_apps_side_in_order() -> None:
    dialogue = connected().wind_down().client_got(CLOSE)
    dialogue.send(b"last words" + CLOSE_ANSWER).app_got(b"last words" + CLOSE_ANSWER).open()
    dialogue.answer(frame(8, b"\x03\xe9")).client_got(b"")  # a second Close would be one too many
    dialogue.app_closes().open().half_close().ended((SWITCHED, True)).client_is("closed")


MESSAGE = bytes((0x82, 0x81)) + b"maskx"
"""A client's masked message."""


def test_a_message_that_the_app_still_works_on_is_answered_before_the_close() -> None:
    dialogue = connected().send(MESSAGE).wind_down().client_got(b"")
    assert dialogue.client.asked_again == 1
    dialogue.answer(MESSAGES[1]).client_got(MESSAGES[1] + CLOSE)
    dialogue.send(CLOSE_ANSWER).app_closes().half_close().ended((SWITCHED, True))


def test_an_answer_in_pieces_is_whole_before_the_close() -> None:
    dialogue = connected().send(MESSAGE).wind_down()
    dialogue.answer(MESSAGES[4][:100], MESSAGES[4][100:]).client_got(MESSAGES[4] + CLOSE)


def test_a_client_that_nobody_answers_is_told_at_the_second_turn() -> None:
    connected().send(MESSAGE).wind_down().send(MESSAGE).wind_down().client_got(CLOSE).client_is("open")


def test_the_second_turn_waits_for_the_end_of_a_frame() -> None:
    dialogue = connected().send(MESSAGE).wind_down().answer(MESSAGES[1][:3]).wind_down().client_got(MESSAGES[1][:3])
    dialogue.answer(MESSAGES[1][3:]).client_got(MESSAGES[1][3:] + CLOSE)


def test_a_conversation_that_goes_on_is_ended_right_behind_an_answer() -> None:
    """Its client speaks again only after the answer: no message of its crosses the Close."""
    dialogue = connected().send(MESSAGE).answer(MESSAGES[1]).wind_down().client_got(MESSAGES[1])
    dialogue.send(MESSAGE).answer(MESSAGES[2]).client_got(MESSAGES[2] + CLOSE)


def test_once_the_app_may_be_stopped_nothing_is_waited_for() -> None:
    connected().enter(Phase.DRAINED).send(MESSAGE).wind_down().client_got(CLOSE).client_is("open")


def test_who_has_said_nothing_since_the_drain_began_is_told_at_the_first_turn() -> None:
    dialogue = connected().send(MESSAGE).answer(MESSAGES[1]).enter(Phase.PROPAGATING).wind_down()
    dialogue.client_got(MESSAGES[1] + CLOSE)
    assert dialogue.client.asked_again == 0


@pytest.mark.parametrize("chunks", [(MESSAGES[1],), (frame(9, b"ping"), MESSAGES[2][:5], MESSAGES[2][5:])])
def test_a_message_that_the_app_sends_behind_the_close_is_counted_as_cut(chunks: tuple[bytes, ...]) -> None:
    dialogue = connected().wind_down().client_got(CLOSE).answer(*chunks).client_got(b"")
    dialogue.send(CLOSE_ANSWER).app_closes().half_close().ended((SWITCHED, False))


def test_pings_behind_the_close_are_no_loss() -> None:
    dialogue = connected().wind_down().client_got(CLOSE).answer(frame(9, b"ping") + frame(8, b"\x03\xe9"))
    dialogue.send(CLOSE_ANSWER).app_closes().half_close().ended((SWITCHED, True))


def test_a_client_that_just_leaves_when_asked_has_left_in_order() -> None:
    connected().wind_down().vanish().ended((SWITCHED, True)).app_is("discarded")


def test_a_client_that_leaves_unasked_was_cut() -> None:
    connected().vanish().ended((SWITCHED, False)).app_is("aborted")


def test_an_app_that_closes_by_itself_is_not_interrupted() -> None:
    theirs = frame(8, b"\x03\xe8")
    dialogue = connected().answer(theirs).client_got(theirs).wind_down().client_got(b"").send(CLOSE_ANSWER)
    dialogue.app_got(CLOSE_ANSWER).app_closes().half_close().ended((SWITCHED, True))


def test_nothing_is_said_after_the_app_has_closed_its_side() -> None:
    connected().app_closes().wind_down().enter(Phase.FORCING).client_got(b"").client_is("aborted")


def test_wait_leaves_it_alone_until_the_deadline() -> None:
    dialogue = connected(**{"websocket-drain": "wait"}).enter(Phase.FINISHING).wind_down().client_got(b"")
    dialogue.answer(MESSAGES[1]).client_got(MESSAGES[1])
    dialogue.enter(Phase.FORCING).client_got(CUT).client_is("finished").app_is("aborted").ended((SWITCHED, False))


def test_at_the_deadline_a_client_that_has_not_answered_is_cut() -> None:
    dialogue = connected().wind_down().client_got(CLOSE).enter(Phase.FORCING).client_got(b"").client_is("finished")
    dialogue.ended((SWITCHED, False))


def test_at_the_deadline_inside_a_frame_it_is_cut_without_a_word() -> None:
    dialogue = connected().answer(MESSAGES[2][:-1]).client_got(MESSAGES[2][:-1]).enter(Phase.FORCING)
    dialogue.client_got(b"").client_is("aborted")


@pytest.mark.parametrize("phase", [Phase.PROPAGATING, Phase.FINISHING])
def test_a_phase_alone_says_nothing(phase: Phase) -> None:
    connected().enter(phase).client_got(b"").client_is("open")


def test_silence_for_too_long_is_said_and_cut() -> None:
    connected().time_out().client_got(CUT).client_is("finished").ended((SWITCHED, False))


def test_bytes_behind_the_101_are_followed_too() -> None:
    dialogue = Dialogue().send(UPGRADE).answer(SWITCHING + MESSAGES[1] + MESSAGES[2][:50])
    dialogue.client.got = b""
    dialogue.wind_down().client_got(b"").answer(MESSAGES[2][50:]).client_got(MESSAGES[2][50:] + CLOSE)


def test_other_upgrades_are_tunnels_that_nobody_reads() -> None:
    dialogue = Dialogue().send(UPGRADE.replace(b"websocket", b"mine")).answer(SWITCHING.replace(b"websocket", b"mine"))
    assert dialogue.client.kind is Kind.TCP
    dialogue.client.got = b""
    dialogue.wind_down().client_got(b"").enter(Phase.FORCING).client_got(b"").client_is("aborted")
