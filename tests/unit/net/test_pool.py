"""Which connection is chosen for whom?"""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from drainproxy.net.pair import Pair
from drainproxy.net.pool import ConnectionPool, Terms
from drainproxy.net.splice import Splices
from drainproxy.net.timers import Timers
from drainproxy.net.upstream import UpstreamConnection
from tests.support.transports import ManualLoop, Noting, ScriptedEnd, ScriptedTransport, attempt

if TYPE_CHECKING:
    from drainproxy.protocol.reasons import Reason

IDLE_S = 2.0


class Connection(NamedTuple):
    """A connection to the app, and the transport that it has."""

    upstream: UpstreamConnection
    transport: ScriptedTransport


class Waiter:
    def __init__(self) -> None:
        self.got: UpstreamConnection | None = None

    def connected(self, upstream: UpstreamConnection) -> None:
        self.got = upstream

    def refused(self, reason: Reason) -> None:
        raise AssertionError("the pool refuses nobody")


class Rig:
    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.noting = Noting()
        self.pool = ConnectionPool(self.loop.time, IDLE_S, Timers(self.loop.as_loop()), self.noting)

    def idle(self, sock: socket.socket | None = None) -> Connection:
        """A connection that was made and waits for an exchange."""
        connection = Connection(UpstreamConnection(self.pool, attempt()), ScriptedTransport(sock))
        connection.upstream.connection_made(connection.transport)
        return connection

    def waiter(self, *, until: float = inf, fresh: bool = False, validate: bool = False) -> Waiter:
        waiter = Waiter()
        self.pool.wait(waiter, Terms(until, fresh, validate))
        return waiter


def test_the_connection_that_was_used_last_is_taken_first() -> None:
    rig = Rig()
    first, last = rig.idle(), rig.idle()
    assert rig.pool.take(validate=False) is last.upstream
    assert rig.pool.take(validate=False) is first.upstream
    assert rig.pool.take(validate=False) is None
    assert last.upstream.reused


def test_a_connection_that_is_closing_is_passed_over() -> None:
    rig = Rig()
    good, closing = rig.idle(), rig.idle()
    closing.transport.close()
    assert rig.pool.take(validate=False) is good.upstream


@pytest.mark.parametrize("validate", [True, False])
def test_one_that_the_app_has_closed_is_passed_over_by_who_looks(validate: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        rig = Rig()
        connection = rig.idle(ours)
        theirs.close()
        taken = rig.pool.take(validate=validate)
        assert taken is (None if validate else connection.upstream)
        assert connection.transport.end == ("aborted" if validate else "open")


def test_a_new_connection_goes_to_who_has_waited_longest_and_else_to_the_idle_ones() -> None:
    rig = Rig()
    first, second = rig.waiter(fresh=True), rig.waiter()
    made = rig.idle()
    assert first.got is made.upstream
    assert not made.upstream.reused
    assert (rig.pool.waiting, rig.pool.idle, rig.pool.busy) == (1, 0, 1)
    made = rig.idle()
    assert second.got is made.upstream
    rig.idle()
    assert (rig.pool.waiting, rig.pool.idle, rig.pool.busy) == (0, 1, 2)


def test_one_that_is_given_back_goes_to_the_first_who_takes_it() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        rig = Rig()
        connection = rig.idle(ours)
        rig.pool.take(validate=False)
        theirs.close()
        tunnel, upload, request = rig.waiter(fresh=True), rig.waiter(validate=True), rig.waiter()
        rig.pool.put(connection.upstream)
        assert (tunnel.got, upload.got, request.got) == (None, None, connection.upstream)


def test_one_that_is_given_back_closing_goes_to_nobody() -> None:
    rig = Rig()
    connection = rig.idle()
    rig.pool.take(validate=False)
    waiter = rig.waiter()
    connection.transport.close()
    rig.pool.put(connection.upstream)
    assert waiter.got is None
    assert rig.pool.idle == 0


def test_who_gives_up_gets_none() -> None:
    rig = Rig()
    waiter = rig.waiter()
    rig.pool.forget(waiter)
    rig.pool.forget(waiter)
    rig.idle()
    assert waiter.got is None


def test_the_overdue_are_those_whose_time_is_up_and_wait_no_more() -> None:
    rig = Rig()
    early, late = rig.waiter(until=10.0), rig.waiter(until=20.0)
    assert rig.pool.pop_overdue(9.0) == []
    assert rig.pool.pop_overdue(10.0) == [early]
    assert rig.pool.waiting == 1
    assert rig.pool.pop_overdue(inf) == [late]


def test_an_idle_connection_is_closed_in_time_counted_from_its_last_exchange() -> None:
    rig = Rig()
    connection = rig.idle()
    rig.loop.advance(IDLE_S - 0.5)
    rig.pool.take(validate=False)
    rig.pool.put(connection.upstream)
    rig.loop.advance(IDLE_S - 0.1)
    assert connection.transport.end == "open"
    rig.loop.advance(0.5)
    assert connection.transport.end == "closed"
    assert rig.pool.idle == 0


def test_a_connection_that_is_lent_is_not_closed_as_idle() -> None:
    rig = Rig()
    connection = rig.idle()
    rig.pool.take(validate=False)
    connection.upstream.lend(Pair(ScriptedEnd(), cast("Any", None), Splices(rig.loop.as_loop())))
    rig.loop.advance(10 * IDLE_S)
    assert connection.transport.end == "open"


def test_one_that_has_ended_is_counted_out_and_never_taken() -> None:
    rig = Rig()
    connection = rig.idle()
    rig.pool.gone(connection.upstream)
    assert rig.pool.take(validate=False) is None
    assert (rig.pool.idle, rig.pool.busy) == (0, 0)
    assert len(rig.noting.opened_sides) == 1
    assert connection.upstream.bucket is None


def test_at_the_end_idle_connections_are_dropped() -> None:
    rig = Rig()
    connection = rig.idle()
    rig.pool.close()
    assert connection.transport.end == "aborted"
    assert rig.pool.idle == 0


def test_connections_to_the_app_before_finish_their_exchange_and_have_no_other() -> None:
    rig, left = Rig(), list[str]()
    rig.pool.on_left = lambda: left.append("all")
    lent, idle = rig.idle(), rig.idle()
    assert rig.pool.take(validate=False) is idle.upstream
    rig.pool.put(idle.upstream)
    lent_one = rig.pool.take(validate=False)
    assert lent_one is idle.upstream
    rig.pool.renew()
    assert lent.transport.end == "closed"
    assert rig.pool.leaving == 2
    rig.pool.put(idle.upstream)
    assert idle.transport.end == "closed"
    assert rig.pool.take(validate=False) is None
    for each in (lent, idle):
        each.upstream.connection_lost(None)
    assert (rig.pool.leaving, left) == (0, ["all"])


def test_a_connection_that_was_dialled_before_the_app_changed_goes_to_nobody() -> None:
    rig = Rig()
    waiter, late = rig.waiter(), Connection(UpstreamConnection(rig.pool, attempt()), ScriptedTransport(None))
    rig.pool.renew()
    late.upstream.connection_made(late.transport)
    assert (late.transport.end, waiter.got, rig.pool.leaving) == ("closed", None, 1)
    made = Connection(UpstreamConnection(rig.pool, attempt(), rig.pool.epoch), ScriptedTransport(None))
    made.upstream.connection_made(made.transport)
    assert waiter.got is made.upstream
