"""Does each wait end at its own limit, and does the ledger know of every head that has begun?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.net.timers import RESOLUTION_S
from drainproxy.net.waits import LOOKS, Waits
from drainproxy.session.ports import Wait
from tests.support.transports import RouteRig

if TYPE_CHECKING:
    from drainproxy.drain.ledger import Ledger

LIMITS: dict[str, Any] = {
    "idle_timeout_s": 75.0,
    "header_timeout_s": 10.0,
    "response_timeout_s": 600.0,
    "stream_idle_timeout_s": 1000.0,
}
LIMIT_S = {Wait.IDLE: 75.0, Wait.HEADER: 10.0, Wait.RESPONSE: 600.0, Wait.STREAM: 1000.0, Wait.LEFT: 1000.0}
LATE_S = 2 * RESOLUTION_S + 1e-6


class Connection:
    """One connection with time limits, and what it was told."""

    def __init__(self, **options: Any) -> None:
        self.received = 0
        self.sent = 0
        self.told: list[tuple[Wait, float]] = []
        self.rig = RouteRig(**(LIMITS | options))
        self.loop = self.rig.loop
        self.waits = Waits(self, self.rig.context, self.loop.now)

    @property
    def ledger(self) -> Ledger:
        return self.rig.ledger

    def timed_out(self, what: Wait) -> None:
        self.told.append((what, self.loop.now))

    def begin(self, what: Wait) -> float:
        """Wait for this; the time at which it must end."""
        self.waits.begin(what, self.loop.now)
        return self.loop.now + LIMIT_S[what]


@pytest.mark.parametrize("what", Wait)
def test_a_wait_ends_at_its_limit_and_never_before(what: Wait) -> None:
    connection = Connection()
    due = connection.begin(what)
    connection.loop.advance(2 * LIMIT_S[what])
    [(ended, at)] = connection.told
    assert ended is what
    assert due <= at <= due + LATE_S


@pytest.mark.parametrize("what", Wait)
def test_without_a_limit_a_wait_never_ends(what: Wait) -> None:
    connection = Connection(idle_timeout_s=0.0, header_timeout_s=0.0, response_timeout_s=0.0, stream_idle_timeout_s=0.0)
    connection.begin(what)
    connection.loop.advance(1e6)
    assert not connection.told


@pytest.mark.parametrize("before", [Wait.HEADER, Wait.RESPONSE, Wait.STREAM])
def test_an_idle_connection_is_told_in_time_whatever_it_waited_for_before(before: Wait) -> None:
    connection = Connection()
    connection.begin(before)
    connection.loop.advance(1)
    due = connection.begin(Wait.IDLE)
    connection.loop.advance(2000)
    [(ended, at)] = connection.told
    assert ended is Wait.IDLE
    assert due <= at <= due + LATE_S


def test_a_body_whose_bytes_move_is_never_cut_and_one_that_stalls_is() -> None:
    connection = Connection()
    connection.begin(Wait.STREAM)
    for _ in range(20):
        connection.received += 1
        connection.loop.advance(LIMIT_S[Wait.STREAM] / 2)
    assert not connection.told
    connection.sent += 1
    moved_at = connection.loop.now
    connection.loop.advance(2 * LIMIT_S[Wait.STREAM])
    [(_, at)] = connection.told
    assert moved_at + LIMIT_S[Wait.STREAM] <= at <= moved_at + LIMIT_S[Wait.STREAM] * (1 + 1 / LOOKS) + LOOKS * LATE_S


def test_the_ledger_knows_of_a_head_until_its_rest_has_come_or_never_will() -> None:
    connection = Connection()
    connection.begin(Wait.HEADER)
    connection.begin(Wait.HEADER)
    assert connection.ledger.arriving == 1
    connection.begin(Wait.STREAM)
    assert connection.ledger.arriving == 0
    connection.begin(Wait.HEADER)
    connection.waits.stop()
    assert connection.ledger.arriving == 0


def test_a_connection_that_has_ended_is_told_nothing_and_is_not_kept() -> None:
    connection = Connection()
    connection.begin(Wait.STREAM)
    connection.begin(Wait.IDLE)
    connection.waits.stop()
    assert connection.waits.bucket is None
    connection.loop.advance(1e4)
    assert not connection.told


@given(st.lists(st.tuples(st.sampled_from(list(Wait)), st.floats(0, 700)), max_size=30))
def test_any_sequence_of_waits_is_told_at_the_limit_of_the_one_that_lasted(steps: list[tuple[Wait, float]]) -> None:
    connection = Connection()
    for what, lasts_s in steps:
        connection.told.clear()
        due = connection.begin(what)
        assert connection.ledger.arriving == (what is Wait.HEADER)
        connection.loop.advance(lasts_s)
        assert all(ended is what and due <= at <= due + LATE_S for ended, at in connection.told)
        assert len(connection.told) == 1 or connection.loop.now <= due + LATE_S
    connection.waits.stop()
    assert connection.ledger.arriving == 0
