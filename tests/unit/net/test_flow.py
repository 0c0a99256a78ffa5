"""Is a socket read exactly while no reason holds it, and seen for what waits in it?"""

from __future__ import annotations

import errno
import socket

import pytest

from drainproxy.net.flow import ReadGate, half_close, last_words, readable
from drainproxy.session.ports import Hold
from tests.support.transports import ScriptedTransport


def test_reading_goes_on_when_the_last_reason_is_gone() -> None:
    transport = ScriptedTransport()
    gate = ReadGate(transport)
    gate.hold(Hold.PEER_FULL)
    gate.hold(Hold.PIPELINE)
    gate.hold(Hold.PIPELINE)
    gate.unhold(Hold.PIPELINE)
    assert not transport.is_reading()
    gate.unhold(Hold.PEER_FULL)
    assert transport.is_reading()
    gate.unhold(Hold.PEER_FULL)
    assert transport.is_reading()


def test_opened_it_is_read_whatever_held_it() -> None:
    transport = ScriptedTransport()
    gate = ReadGate(transport)
    gate.hold(Hold.PEER_FULL)
    gate.hold(Hold.DIALLING)
    gate.open()
    assert transport.is_reading()
    assert not gate.held


def test_a_transport_that_is_closing_is_told_nothing() -> None:
    transport = ScriptedTransport()
    gate = ReadGate(transport)
    transport.close()
    gate.hold(Hold.PEER_FULL)
    assert transport.is_reading()
    transport.pause_reading()
    gate.unhold(Hold.PEER_FULL)
    gate.hold(Hold.PEER_FULL)
    gate.open()
    assert not transport.is_reading()


def test_bytes_and_an_end_can_be_seen_before_they_are_read() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        transport = ScriptedTransport(ours)
        assert not readable(transport)
        theirs.send(b"x")
        assert readable(transport)
        ours.recv(1)
        assert not readable(transport)
        theirs.close()
        assert readable(transport)


@pytest.mark.parametrize("closed", [True, False])
def test_a_socket_that_is_not_there_any_more_counts_as_ended(closed: bool) -> None:
    sock = None
    if closed:
        sock, other = socket.socketpair()
        other.close()
        sock.close()
    assert readable(ScriptedTransport(sock))
    assert list(last_words(ScriptedTransport(sock))) == []


def test_last_words_are_all_that_waits_in_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x" * 100_000)
        assert b"".join(last_words(ScriptedTransport(ours))) == b"x" * 100_000


def test_a_half_close_that_fails_because_the_peer_has_reset_the_connection_ends_it() -> None:
    transport = ScriptedTransport()

    def refuses() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    transport.write_eof = refuses  # type: ignore[method-assign]  # as the stock loop's does
    half_close(transport)
    assert transport.end == "aborted"
