"""What becomes of a connection to the app, lent or idle, when either end does something?"""

from __future__ import annotations

import socket
from typing import Any, cast

from drainproxy.net.closing import Closing
from drainproxy.net.pair import Pair
from drainproxy.net.timers import Timers
from drainproxy.net.upstream import UpstreamConnection
from drainproxy.observe.observer import Side
from tests.support.transports import ManualLoop, ScriptedEnd, ScriptedTransport, attempt


class Session:
    """The part of a session that a connection to the app feeds."""

    def __init__(self, *, half_closes: bool) -> None:
        self.half_closes = half_closes
        self.got = b""
        self.ended: list[bool] = []

    def upstream_bytes(self, data: bytes) -> None:
        self.got += data

    def upstream_closed(self, *, clean: bool) -> None:
        self.ended.append(clean)


class Keeper:
    """A pool that only notes what it is told."""

    side = Side.UPSTREAM

    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, connection: UpstreamConnection) -> None:
        self.told.append("opened")

    def put(self, connection: UpstreamConnection) -> None:
        assert not connection.lent
        self.told.append("put")

    def unasked(self, connection: UpstreamConnection, data: bytes) -> None:
        connection.transport.abort()

    def expire(self, connection: UpstreamConnection, now: float) -> None:
        self.told.append(f"expire {now}")

    def retire(self, connection: UpstreamConnection) -> Closing:
        self.told.append("retire")
        return Closing(connection.transport, Timers(ManualLoop().as_loop()), 0.0)

    def gone(self, connection: UpstreamConnection) -> None:
        self.told.append("gone, lent" if connection.lent else "gone")


class Rig:
    """One connection to the app, lent to a session unless `idle`."""

    def __init__(
        self, *, idle: bool = False, half_closes: bool = False, sock: socket.socket | None = None, tls: bool = False
    ) -> None:
        self.keeper = Keeper()
        self.session = Session(half_closes=half_closes)
        self.transport = ScriptedTransport(sock, tls=tls)
        self.connection = UpstreamConnection(self.keeper, attempt())
        self.connection.connection_made(self.transport)
        self.keeper.told.clear()
        self.client = ScriptedEnd()
        if not idle:
            self.connection.lend(Pair(self.client, cast("Any", self.session), cast("Any", None)))


def test_what_the_app_sends_goes_to_the_session() -> None:
    rig = Rig()
    rig.connection.data_received(b"hello")
    assert rig.session.got == b"hello"


def test_an_idle_connection_that_says_something_is_never_used_again() -> None:
    rig = Rig(idle=True)
    rig.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert rig.transport.end == "aborted"


def test_an_idle_connection_that_the_app_closes_is_gone() -> None:
    rig = Rig(idle=True)
    assert rig.connection.eof_received() is False
    rig.connection.connection_lost(None)
    assert rig.keeper.told == ["gone"]


def test_the_end_of_the_apps_side_is_told_once() -> None:
    rig = Rig()
    assert rig.connection.eof_received() is False
    rig.connection.connection_lost(None)
    assert rig.session.ended == [True]


def test_a_tunnel_outlives_the_end_of_the_apps_side() -> None:
    rig = Rig(half_closes=True)
    assert rig.connection.eof_received() is True
    assert rig.connection.lent
    rig.connection.connection_lost(None)
    assert rig.session.ended == [True]
    assert not rig.connection.lent


def test_a_tunnel_that_breaks_after_the_end_of_the_apps_side_is_told_that_too() -> None:
    rig = Rig(half_closes=True)
    rig.connection.eof_received()
    rig.connection.connection_lost(ConnectionResetError())
    assert rig.session.ended == [True, False]


def test_what_the_app_said_before_it_broke_off_is_told_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rig = Rig(sock=ours)
        theirs.send(b"HTTP/1.1 413 Too Large\r\n\r\n")
        rig.connection.connection_lost(BrokenPipeError())
        assert rig.session.got == b"HTTP/1.1 413 Too Large\r\n\r\n"
        assert rig.session.ended == [False]


def test_the_pool_hears_of_the_end_while_it_can_still_tell_that_the_connection_was_lent() -> None:
    rig = Rig()
    rig.connection.connection_lost(ConnectionResetError())
    assert rig.keeper.told == ["gone, lent"]


def test_a_connection_that_came_too_late_is_never_lent_nor_counted() -> None:
    keeper = Keeper()
    connection = UpstreamConnection(keeper, attempt(expired=True))
    transport = ScriptedTransport()
    connection.connection_made(transport)
    connection.connection_lost(None)
    assert transport.end == "aborted"
    assert not keeper.told


def test_a_connection_that_was_made_is_not_ended_by_the_limit_of_its_attempt() -> None:
    limit = cast("Any", attempt())
    UpstreamConnection(Keeper(), limit).connection_made(ScriptedTransport())
    assert limit.until is None


def test_given_back_it_holds_nobody_and_is_held_by_nobody() -> None:
    rig = Rig()
    rig.connection.pause_writing()
    assert not rig.client.scripted.is_reading()
    rig.connection.release()
    assert rig.client.scripted.is_reading()
    assert rig.keeper.told == ["put"]
    rig.connection.resume_writing()
    assert not rig.connection.full


def test_discarded_it_sends_what_was_written_and_aborted_it_does_not() -> None:
    for end, found in (("discard", "closed"), ("abort", "aborted")):
        rig = Rig()
        getattr(rig.connection, end)()
        assert rig.transport.end == found
        assert not rig.connection.lent


def test_its_time_as_an_idle_connection_is_the_pools_to_judge() -> None:
    rig = Rig(idle=True)
    rig.connection.alarm(7.0)
    assert rig.keeper.told == ["expire 7.0"]


def test_silent_means_that_neither_bytes_nor_an_end_wait_in_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rig = Rig(sock=ours)
        assert rig.connection.is_silent()
        theirs.close()
        assert not rig.connection.is_silent()


def test_over_tls_nothing_can_be_half_closed_and_what_follows_is_still_sent() -> None:
    rig = Rig(tls=True)
    rig.connection.write_eof()
    rig.connection.write(b"more")
    assert (rig.transport.got, rig.transport.got_eof) == (b"more", False)
