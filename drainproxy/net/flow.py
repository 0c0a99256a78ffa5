"""May we read from this socket? Back-pressure: a full peer, a full queue or a missing connection each hold reading."""

from __future__ import annotations

import os
import select
import socket
import struct
from enum import Enum
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from drainproxy.session.ports import Hold


class ReadGate:
    """Reading from one transport goes on when no reason holds it any more."""

    __slots__ = ("_transport", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.held = 0
        """The reasons that hold it, as bits of Hold."""

    def hold(self, why: Hold) -> None:
        """Stop reading."""
        if not self.held and not self._transport.is_closing():
            self._transport.pause_reading()
        self.held |= why

    def unhold(self, why: Hold) -> None:
        """This reason is gone."""
        if not self.held:
            return
        self.held &= ~why
        if not self.held and not self._transport.is_closing():
            self._transport.resume_reading()

    def open(self) -> None:
        """No reason counts any more."""
        if self.held and not self._transport.is_closing():
            self._transport.resume_reading()
        self.held = 0


class End(Protocol):
    """One of the two sockets that bytes pass between. `full`: more is written to it than it can send."""

    transport: asyncio.Transport
    gate: ReadGate
    full: bool


def last_words(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the peer of a broken connection had sent before, and nobody has read.

    An app that answers before it has read the request (413, 401) and closes breaks our next write. The loop then gives
    the connection up, with the answer still in the socket.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return
    with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        try:
            while data := duplicate.recv(1 << 16, socket.MSG_DONTWAIT):
                yield data
        except OSError:
            return


def reset(transport: asyncio.Transport) -> None:
    """End the connection with a TCP reset, dropping what is not sent yet. `transport.abort` alone would send a FIN.

    A FIN would tell the peer of a body that ends with the connection that it has the whole.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family != socket.AF_UNIX:
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def half_close(transport: asyncio.Transport) -> None:
    """Send nothing more to a peer that may not be read from any more."""
    try:
        transport.write_eof()
    except OSError:  # the stock loop's, if the peer has reset the connection, which nobody else would notice
        transport.abort()


def taken(transport: asyncio.Transport) -> int:
    """A number that changes whenever the peer takes some of what was written: by TCP's word, else by what is left."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family != socket.AF_UNIX and hasattr(socket, "TCP_INFO"):
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        if len(info) == _BYTES_ACKED.size:  # Linux since 4.1
            (acknowledged,) = _BYTES_ACKED.unpack(info)
            return int(acknowledged)
    return transport.get_write_buffer_size()


class Taken(Enum):
    """Whether the peer has acknowledged all that was written to a connection."""

    ALL = "all of it"
    NOT_YET = "not all of it yet"
    NEVER = "the peer has reset the connection"


def all_taken(transport: asyncio.Transport) -> Taken:
    """Look once. After our FIN, ALL means that the peer's kernel has everything; asking clears the socket's error."""
    sock = transport.get_extra_info("socket")
    if transport.get_write_buffer_size():
        return Taken.NOT_YET
    if sock is None or sock.fileno() < 0:
        return Taken.ALL
    with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return Taken.NEVER
        try:
            (unacknowledged,) = struct.unpack("i", ioctl(duplicate, TIOCOUTQ, bytes(4)))  # SIOCOUTQ, tcp(7), unix(7)
        except OSError:
            return Taken.ALL  # a system that does not tell
        return Taken.NOT_YET if unacknowledged else Taken.ALL


_BYTES_ACKED: Final = struct.Struct("120xQ")
"""tcpi_bytes_acked in struct tcp_info (linux/tcp.h)."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


def readable(transport: asyncio.Transport) -> bool:
    """Whether bytes, an EOF or an error wait in the socket that the loop has not delivered yet. One system call."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
