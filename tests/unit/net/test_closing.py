"""Does a connection that we close end, whatever its peer does? And does a slow reader get everything?"""

from __future__ import annotations

import select
import socket

import pytest

from drainproxy.drain.phase import Phase
from drainproxy.net.client import LINGER_S
from drainproxy.net.closing import STALL_S, Closing
from drainproxy.net.flow import Taken, all_taken
from drainproxy.net.timers import RESOLUTION_S, Timers
from tests.support.proxy import wait_for
from tests.support.transports import ManualLoop, RouteRig, ScriptedTransport

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegun"
LATE_S = 2 * RESOLUTION_S


def closing(transport: ScriptedTransport, linger_s: float = 0.0) -> tuple[ManualLoop, Closing]:
    loop = ManualLoop()
    return loop, Closing(transport, Timers(loop.as_loop()), loop.now, linger_s=linger_s)


def test_one_that_has_sent_everything_is_closed_and_not_looked_at_again() -> None:
    transport = ScriptedTransport()
    _, watched = closing(transport)
    assert transport.end == "closed"
    assert watched.bucket is None


def test_one_whose_peer_takes_nothing_is_cut_after_a_while() -> None:
    transport = ScriptedTransport()
    transport.unsent = 5000
    loop, _ = closing(transport)
    loop.advance(STALL_S - RESOLUTION_S)
    assert transport.end == "closed"
    loop.advance(RESOLUTION_S + LATE_S)
    assert transport.end == "aborted"


def test_one_whose_peer_reads_slowly_gets_everything() -> None:
    transport = ScriptedTransport()
    transport.unsent = 5000
    loop, _ = closing(transport)
    for _ in range(20):
        transport.unsent -= 1
        loop.advance(STALL_S)
        assert transport.end == "closed"


def test_one_that_ended_meanwhile_is_left_alone() -> None:
    transport = ScriptedTransport()
    transport.unsent = 5000
    loop, watched = closing(transport)
    watched.stop()
    loop.advance(3 * STALL_S)
    assert transport.end == "closed"


def test_a_tls_peer_that_does_not_answer_our_goodbye_is_cut() -> None:
    transport = ScriptedTransport(tls=True)
    loop, _ = closing(transport)
    loop.advance(STALL_S + LATE_S)
    assert transport.end == "aborted"


def test_one_that_lingers_is_closed_afterwards_and_then_cut() -> None:
    transport = ScriptedTransport()
    transport.unsent = 1
    loop, _ = closing(transport, linger_s=LINGER_S)
    loop.advance(LINGER_S - RESOLUTION_S)
    assert transport.end == "open"
    loop.advance(RESOLUTION_S + LATE_S)
    assert transport.end == "closed"
    loop.advance(STALL_S + LATE_S)
    assert transport.end == "aborted"


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_stops_reading_gives_its_place_back_once_its_exchange_is_cut(tls: bool) -> None:
    rig = RouteRig(tls=tls)
    client = rig.client()
    client.sends(GET)
    rig.app().sends(BEGUN)
    client.transport.unsent = 70_000
    client.connection.pause_writing()
    client.connection.enter(Phase.FORCING)
    assert rig.ledger.idle
    assert client.transport.end == "closed"
    rig.loop.advance(STALL_S + LATE_S)
    assert client.transport.end == "aborted"


def test_an_app_that_stops_reading_gives_its_place_back_once_its_exchange_is_over() -> None:
    rig = RouteRig()
    client = rig.client()
    client.sends(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\n" + bytes(70_000))
    app = rig.app()
    app.transport.unsent = 70_000
    app.connection.pause_writing()
    app.connection.discard()
    assert app.transport.end == "closed"
    rig.loop.advance(STALL_S + LATE_S)
    assert app.transport.end == "aborted"


@pytest.mark.parametrize("reads", [True, False])
def test_whether_a_peer_that_was_asked_for_an_answer_has_everything_is_known_when_it_is_closed(reads: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, theirs:
        if not reads:
            theirs.close()
        ours.sendall(b"answer")
        transport, loop = ScriptedTransport(ours), ManualLoop()
        if reads:
            wait_for(lambda: all_taken(transport) is Taken.ALL, "the acknowledgement")
        else:
            kernel = select.poll()
            kernel.register(ours, select.POLLHUP)
            assert kernel.poll(10_000)
        watched = Closing(transport, Timers(loop.as_loop()), loop.now, acknowledged=True)
        loop.advance(LATE_S)
        assert (transport.end, watched.delivered) == ("closed", reads)
