"""Does a client's connection do what its session asks, and tell the rest of the process what it must know?"""

from __future__ import annotations

import gc
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest

from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Phase
from drainproxy.drain.turns import ASK_AGAIN_S
from drainproxy.net.client import LINGER_S, ClientConnection
from drainproxy.net.closing import STALL_S
from drainproxy.net.flow import Taken, all_taken
from drainproxy.net.listener import Handshake
from drainproxy.net.peer import forwarding, peer_address
from drainproxy.net.timers import RESOLUTION_S
from drainproxy.protocol.http2 import EMPTY_SETTINGS, END_HEADERS, END_STREAM, HEADERS, PREFACE, frame
from drainproxy.protocol.reasons import Reason
from drainproxy.session.ports import UNREAD, Wait
from tests.support.transports import RouteRig, ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\n"
LATE_S = 2 * RESOLUTION_S
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


@pytest.mark.parametrize("diverting", [True, False], ids=["in a released drain", "while the app is away"])
def test_an_idle_sibling_gets_a_request_at_once_and_serves_the_next_one(diverting: bool) -> None:
    rig = RouteRig(successor=True)
    rig.diverting, rig.dialler.app_is_away = diverting, not diverting
    sibling, client = rig.sibling(), rig.client()
    for _ in range(2):
        client.sends(GET)
        assert sibling.take().startswith(b"GET / HTTP/1.1\r\nX-Drainproxy-Hop: 1\r\n")
        assert rig.ledger.count() == {Kind.HTTP: 1}
        assert rig.ledger.idle_here, "the app may stop"
        sibling.sends(OK)
        assert client.take() == OK
    assert not rig.pool.waiting
    assert rig.noting.upstream_errors == ([] if diverting else [Reason.CONNECT_REFUSED] * 2), "as if it was asked"


@pytest.mark.parametrize("diverting", [True, False], ids=["in a released drain", "while the app is away"])
def test_what_a_sibling_has_handed_over_waits_for_the_app_whatever_is_known_of_it(diverting: bool) -> None:
    rig = RouteRig(successor=True)
    rig.diverting, rig.dialler.app_is_away = diverting, not diverting
    sibling, client = rig.sibling(), rig.client()
    client.sends(GET.replace(b"Host", b"X-Drainproxy-Hop: 1\r\nHost"))
    assert sibling.take() == b""
    assert rig.app().take().startswith(b"GET / HTTP/1.1\r\n")


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
        connection = ClientConnection(rig.context, rig)
        connection.handshake = begun = Handshake()
        handshake = weakref.ref(begun)
        del connection, begun
        assert handshake() is None
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
        end.connection.write_both(b"la", memoryview(b"te"))
        assert end.take() == b""


def test_two_pieces_for_a_connection_that_is_lost_are_dropped() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    for end in (client, app):
        end.take()
        end.transport.abort()
        end.connection.write_both(b"head", memoryview(b"body"))
        assert end.take() == b""
    assert client.connection.sent == 0


def test_two_pieces_are_sent_in_order_and_counted_once() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(GET)
    app = rig.app()
    app.take()
    for end in (client, app):
        end.connection.write_both(b"head", memoryview(b"body"))
        assert end.take() == b"headbody"
    assert client.connection.sent == len(b"headbody")


# Clients that have sent FIN: perhaps they still read.


def stream(number: int) -> bytes:
    """A request, or an answer, of one frame."""
    return frame(HEADERS, END_HEADERS | END_STREAM, number, b"\x82")


def halves(client: Any) -> None:
    """The client sends no more."""
    client.connection.eof_received()


def waits_for_an_answer(rig: RouteRig, request: bytes = GET) -> tuple[Any, Any]:
    """A client that has half-closed after its request, and the app that works on it."""
    client = rig.client()
    client.sends(request)
    app = rig.app()
    halves(client)
    return client, app


def closes(rig: RouteRig, client: Any) -> None:
    """What is under way is taken by the client's kernel, and the connection ends."""
    rig.loop.advance(LATE_S)
    assert client.transport.end == "closed"
    client.connection.connection_lost(None)


def test_a_client_that_has_sent_fin_is_shown_as_such_and_holds_the_drain_until_its_answer_has_arrived() -> None:
    rig = RouteRig()
    rig.ledger.begin()
    client, app = waits_for_an_answer(rig)
    assert [work.client_left for work in rig.ledger.oldest(1)] == [True]
    app.sends(OK)
    assert client.take() == OK
    assert client.transport.got_eof
    assert rig.ledger.count() == {Kind.HTTP: 1}
    assert rig.noting.exchanges == []
    closes(rig, client)
    assert rig.noting.exchanges == [(200, True)]
    assert rig.ledger.tally is not None
    assert rig.ledger.tally.completed == {Kind.HTTP: 1}


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_an_answer_that_no_longer_finds_its_client_is_not_completed(error: Exception | None) -> None:
    rig = RouteRig()
    rig.ledger.begin()
    client, app = waits_for_an_answer(rig)
    app.sends(OK)
    client.transport.unsent = 10
    client.leaves(error)
    assert rig.noting.exchanges == [(200, False)]
    assert rig.ledger.tally is not None
    assert rig.ledger.tally.aborted == {(Kind.HTTP, Ended.DEPARTED): 1}
    assert rig.ledger.idle


def test_a_client_that_takes_nothing_more_is_not_waited_for() -> None:
    rig = RouteRig()
    client, app = waits_for_an_answer(rig)
    app.sends(OK)
    client.transport.unsent = 10
    rig.loop.advance(STALL_S - RESOLUTION_S)
    assert client.transport.end == "open"
    rig.loop.advance(LATE_S)
    assert client.transport.end == "aborted"


def test_at_the_deadline_what_is_not_known_to_have_arrived_has_not() -> None:
    rig = RouteRig()
    rig.ledger.begin()
    client, app = waits_for_an_answer(rig)
    app.sends(OK)
    client.transport.unsent = 10
    client.connection.enter(Phase.FORCING)
    assert rig.noting.exchanges == [(200, False)]
    assert rig.ledger.idle
    client.leaves()
    assert rig.noting.exchanges == [(200, False)]


def test_of_requests_that_came_together_before_the_fin_only_the_last_answer_is_in_doubt() -> None:
    rig = RouteRig()
    client, app = waits_for_an_answer(rig, GET + GET)
    app.sends(OK)
    assert rig.noting.exchanges == [(200, True)]
    rig.app().sends(OK)
    assert rig.noting.exchanges == [(200, True)]
    closes(rig, client)
    assert rig.noting.exchanges == [(200, True), (200, True)]
    assert rig.ledger.idle


def test_an_app_that_stops_working_for_a_client_that_has_left_has_broken_nothing() -> None:
    rig = RouteRig()
    rig.ledger.begin()
    _, app = waits_for_an_answer(rig)
    app.ends()
    assert rig.ledger.tally is not None
    assert rig.ledger.tally.aborted == {(Kind.HTTP, Ended.DEPARTED): 1}


def test_with_departed_clients_cut_the_exchange_ends_with_the_fin() -> None:
    rig = RouteRig(departed_clients="cut")
    client, app = waits_for_an_answer(rig, GET + GET)
    assert app.transport.end == "aborted"
    assert client.transport.end == "closed"
    assert rig.noting.exchanges == [(0, False)]
    assert rig.ledger.idle


def test_streams_of_a_client_that_has_sent_fin_are_shown_as_such_and_confirmed_together() -> None:
    rig = RouteRig("http2")
    client = rig.client()
    client.sends(PREFACE + EMPTY_SETTINGS + stream(1) + stream(3))
    app = rig.app()
    halves(client)
    assert [work.client_left for work in rig.ledger.oldest(9)] == [True, True]
    app.sends(EMPTY_SETTINGS + stream(1))
    assert rig.noting.exchanges == []
    app.sends(stream(3))
    closes(rig, client)
    assert rig.noting.exchanges == [(UNREAD, True)] * 2
    assert rig.ledger.idle


def test_with_departed_clients_cut_streams_end_with_the_fin() -> None:
    rig = RouteRig("http2", departed_clients="cut")
    client = rig.client()
    client.sends(PREFACE + EMPTY_SETTINGS + stream(1) + stream(3))
    app = rig.app()
    halves(client)
    assert app.transport.end == "aborted"
    assert client.transport.end == "closed"
    assert rig.noting.exchanges == [(0, False)] * 2
    assert rig.ledger.idle


@pytest.mark.parametrize("departed_clients", ["wait", "cut"])
def test_in_a_tunnel_a_fin_ends_one_direction_and_says_nothing_of_its_client(departed_clients: str) -> None:
    rig = RouteRig("tcp", departed_clients=departed_clients)
    client = rig.client()
    client.sends(b"hello")
    app = rig.app()
    halves(client)
    assert [work.client_left for work in rig.ledger.oldest(1)] == [False]
    app.sends(b"world")
    assert client.take() == b"world"
    assert rig.ledger.count() == {Kind.TCP: 1}


def test_who_takes_what_is_asked_of_the_socket_itself() -> None:
    ours, theirs = connected_pair()
    with ours, theirs:
        transport = ScriptedTransport(ours)
        assert all_taken(transport) is Taken.ALL
        ours.sendall(b"x")
        ours.shutdown(socket.SHUT_WR)
        wait_until(lambda: all_taken(transport) is Taken.ALL)
        transport.unsent = 1
        assert all_taken(transport) is Taken.NOT_YET


def test_a_peer_that_has_gone_resets_what_is_sent_to_it() -> None:
    ours, theirs = connected_pair()
    with ours:
        theirs.close()
        ours.sendall(b"x")
        wait_until(lambda: all_taken(ScriptedTransport(ours)) is Taken.NEVER)


def test_a_peer_that_does_not_read_has_not_taken_all() -> None:
    ours, theirs = connected_pair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        assert all_taken(ScriptedTransport(ours)) is Taken.NOT_YET


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
        return ours, theirs


def wait_until(condition: Callable[[], object]) -> None:
    """The kernel does it in a moment."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)
