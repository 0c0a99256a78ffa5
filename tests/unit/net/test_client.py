"""Does a client's connection do what its session asks, and tell the rest of the process what it must know?"""

from __future__ import annotations

import gc
import socket
import weakref
from typing import Any, cast

import pytest

from drainproxy.drain.ledger import Kind
from drainproxy.drain.phase import Phase
from drainproxy.drain.turns import ASK_AGAIN_S
from drainproxy.net.client import LINGER_S, ClientConnection
from drainproxy.net.peer import forwarding, peer_address
from drainproxy.net.timers import RESOLUTION_S
from drainproxy.protocol.reasons import Reason
from drainproxy.session.ports import Wait
from tests.support.transports import RouteRig

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_exchange_goes_both_ways_and_the_connection_to_the_app_serves_the_next_client() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    assert app.take().startswith(b"GET / HTTP/1.1\r\n")
    assert rig.ledger.count() == {Kind.HTTP: 1}
    app.sends(OK)
    assert client.take() == OK
    assert not rig.ledger.count()
    assert rig.noting.exchanges == [(200, True)]
    other = rig.client()
    other.sends(GET)
    assert app.take().startswith(b"GET / HTTP/1.1\r\n")
    assert app.connection.reused
    assert (rig.pool.idle, rig.pool.busy) == (0, 1)


def test_what_a_connection_carries_is_reported_once() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    rig.app().sends(OK)
    client.connection.report()
    client.connection.report()
    assert (rig.noting.received, rig.noting.sent) == (len(GET), len(OK))
    client.sends(b"\r\n")
    client.leaves()
    assert (rig.noting.received, rig.noting.sent) == (len(GET) + 2, len(OK))


def test_an_app_that_closes_before_it_answers_is_a_502_and_counted() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(POST + b"0123456789")
    rig.app().ends()
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert rig.noting.upstream_errors == [Reason.CLOSED_EARLY]
    assert rig.noting.exchanges == [(502, False)]


def test_an_app_that_breaks_in_its_answer_is_counted_and_the_client_notices() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    app.sends(OK[:-1])
    app.ends(ConnectionResetError())
    assert rig.noting.upstream_errors == [Reason.CLOSED_EARLY]
    assert rig.noting.exchanges == [(200, False)]
    assert client.transport.end == "closed"


def test_while_a_client_is_full_neither_this_nor_the_next_connection_to_the_app_is_read() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    first = rig.app()
    client.connection.pause_writing()
    assert not first.transport.is_reading()
    first.sends(OK)
    assert first.transport.is_reading()
    first.ends()  # so that the next exchange gets another one
    client.sends(GET)
    second = rig.app()
    assert not second.transport.is_reading()
    client.connection.resume_writing()
    assert second.transport.is_reading()


def test_while_the_app_is_full_its_client_is_not_read() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(POST)
    app = rig.app()
    app.connection.pause_writing()
    assert not client.transport.is_reading()
    app.connection.resume_writing()
    assert client.transport.is_reading()


def test_a_connection_to_the_app_that_is_still_full_holds_its_next_client() -> None:
    rig = RouteRig()
    rig.client().sends(POST + b"0123456789")
    app = rig.app()
    app.connection.pause_writing()
    app.sends(OK)
    client = rig.client()
    client.sends(GET)
    assert app.connection.reused
    assert not client.transport.is_reading()
    app.connection.resume_writing()
    assert client.transport.is_reading()


def test_a_client_that_leaves_takes_its_exchange_with_it_and_leaves_nothing_behind() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    client.leaves(ConnectionResetError())
    assert app.transport.end == "aborted"
    assert rig.noting.exchanges == [(0, False)]
    assert rig.ledger.idle
    assert not rig.connections
    assert client.connection.waits.bucket is None, "a time limit would keep it in memory"


def test_a_client_that_leaves_while_it_waits_for_the_app_waits_no_more() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    assert rig.pool.waiting == 1
    client.leaves()
    assert rig.pool.waiting == 0


def test_half_a_head_is_known_to_the_ledger_until_its_client_is_gone() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET[:10])
    assert rig.ledger.arriving == 1
    client.leaves()
    assert rig.ledger.arriving == 0


def test_a_head_that_never_ends_is_answered_408() -> None:
    rig = RouteRig(header_timeout_s=10.0)
    client = rig.client()
    client.sends(GET[:10])
    rig.loop.advance(9.9)
    assert client.take() == b""
    rig.loop.advance(1)
    assert client.take().startswith(b"HTTP/1.1 408 ")


def test_after_the_last_answer_the_client_is_read_for_a_moment_and_then_closed() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(b"nonsense\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert client.transport.got_eof
    assert client.transport.is_reading()
    rig.loop.advance(LINGER_S + 2 * RESOLUTION_S)
    assert client.transport.end == "closed"


def test_what_comes_behind_the_last_answer_is_dropped() -> None:
    rig = RouteRig("http2")
    client = rig.client()
    client.sends(GET)
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 ")
    client.sends(GET)
    assert client.take() == b""
    assert len(rig.noting.rejections) == 1


def test_with_tls_nothing_is_half_closed() -> None:
    rig = RouteRig(tls=True)
    client = rig.client()
    client.sends(b"nonsense\r\n\r\n")
    assert client.transport.end == "closed"
    assert not client.transport.got_eof
    other = rig.client()
    other.sends(GET)
    assert other.connection.eof_received() is False


def test_a_client_that_sends_no_more_may_still_read() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    assert client.connection.eof_received() is True
    assert app.transport.got_eof
    app.sends(OK)
    assert client.take().endswith(b"ok")


@pytest.mark.parametrize("silent", [True, False])
def test_an_idle_connection_is_closed_at_its_limit_unless_a_request_waits_in_its_socket(silent: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rig = RouteRig(idle_timeout_s=75.0)
        client = rig.client(ours)
        if not silent:
            theirs.send(GET)
        rig.loop.advance(76)
        assert client.transport.end == ("closed" if silent else "open")


def test_who_was_only_just_connected_when_asked_to_go_has_another_turn() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rig = RouteRig()
        rig.phase = Phase.FINISHING
        client = rig.client(ours)
        rig.turns.clear()
        client.connection.wind_down()
        assert client.transport.end == "open"
        rig.loop.advance(ASK_AGAIN_S)
        assert rig.turns.due(rig.loop.now) == [client.connection]
        client.connection.wind_down()
        assert client.transport.end == "closed"


def test_who_is_idle_again_in_a_drain_has_another_turn() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    app.sends(OK[:-1])  # too late to say that the connection will be closed
    rig.phase = Phase.FINISHING
    assert rig.turns.wake_at() is None
    app.sends(OK[-1:])
    assert rig.turns.wake_at() == rig.loop.now + ASK_AGAIN_S


def test_who_connects_in_a_drain_has_a_turn() -> None:
    rig = RouteRig()
    rig.phase = Phase.FINISHING
    rig.client()
    assert rig.turns.wake_at() == rig.loop.now + ASK_AGAIN_S


def test_a_tunnel_passes_bytes_both_ways_and_each_direction_ends_by_itself() -> None:
    rig = RouteRig("tcp")
    client = rig.client()
    assert not client.transport.is_reading(), "until the app has accepted"
    app = rig.app()
    assert client.transport.is_reading()
    app.sends(b"220 hello\r\n")
    assert client.take() == b"220 hello\r\n"
    assert app.connection.eof_received() is True
    assert client.transport.got_eof
    client.sends(b"bye")
    assert app.take() == b"bye"


def test_a_connection_whose_handshake_fails_is_let_go_at_once() -> None:
    """The listener counts it until then, and learns of it by a weak reference alone."""
    rig = RouteRig(tls=True)
    gc.disable()
    try:
        connection = weakref.ref(ClientConnection(rig.context, rig))
        assert connection() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("10.0.0.9", 4711), "10.0.0.9"),
        (("::ffff:10.0.0.9", 4711, 0, 0), "10.0.0.9"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::1%eth0"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_an_address_is_shown_as_people_write_it(peername: object, address: str) -> None:
    assert peer_address(peername) == address


@pytest.mark.parametrize(
    ("address", "near"),
    [("10.0.0.9", True), ("127.0.0.1", True), ("fe80::1%eth0", True), ("unix", True), ("8.8.8.8", False), ("?", False)],
)
def test_what_a_client_says_of_its_own_request_is_kept_only_from_within_the_cluster(address: str, near: bool) -> None:
    assert forwarding(address, b"http").trusted is near


class FailingSession:
    """One that has a bug in each of its methods but the last."""

    half_closes = False
    idle = True

    def fail(self, *_: object, **__: object) -> None:
        raise LookupError("a bug")

    client_bytes = client_eof = upstream_bytes = upstream_closed = timed_out = enter = wind_down = client_gone = fail


@pytest.mark.parametrize("step", ["enter", "wind_down", "timed_out"])
def test_a_session_that_fails_ends_its_own_connection_and_no_other(step: str) -> None:
    rig = RouteRig()
    client = rig.client()
    client.connection.received = 1
    client.connection.switch(cast("Any", FailingSession()))
    args = {"enter": (Phase.FORCING,), "wind_down": (), "timed_out": (Wait.IDLE,)}[step]
    getattr(client.connection, step)(*args)
    assert client.transport.end == "aborted"
    assert [type(failure["exception"]) for failure in rig.loop.failures] == [LookupError]


def test_a_session_that_fails_at_its_end_leaves_nothing_behind() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET[:5])
    client.connection.switch(cast("Any", FailingSession()))
    with pytest.raises(LookupError):
        client.leaves()
    assert not rig.connections
    assert rig.ledger.arriving == 0
    assert client.connection.waits.bucket is None


def test_what_is_written_after_our_own_end_is_dropped_on_both_sides() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    for end in (client, app):
        end.take()
        end.connection.write_eof()
        end.connection.write_eof()
        end.connection.write(b"late")
        assert end.take() == b""
