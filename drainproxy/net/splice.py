"""How do the bytes of a large body pass without being read? Through a pipe in the kernel: splice(2), on Linux.

The loop stops reading the source; what was written to the target before is sent first; then the bytes pass, as many as
were asked for and not one more. Whatever ends it before, the bytes that are in the pipe by then are written to the
target as if they had just been read, and the loop reads on: an end or an error is met by the transport, where it
always was. So nothing is lost where splice does not work, and no broken connection looks like a whole body.
"""

from __future__ import annotations

import fcntl
import os
import select
from typing import TYPE_CHECKING, Protocol

from drainproxy.session.ports import Hold

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.net.flow import End
    from drainproxy.session.ports import Passed

AVAILABLE = hasattr(os, "splice") and hasattr(select, "epoll") and hasattr(fcntl, "F_SETPIPE_SZ")
PIPE = 1 << 20
"""Bytes that a pipe takes at most. Each move wakes both ends, larger moves fewer times: smaller pipes were measured to
cost more CPU. What bodies cost that pass so: docs/benchmarks.md."""
MOST = 16
"""Bodies of one route that pass so at a time; further ones are read. All pipes together take a quarter of what the
kernel lets a user have (fs.pipe-user-pages-soft, 64 MiB): beyond that it makes the pipes of others small."""
SPARE = 4
"""Empty pipes that a route keeps for its next bodies: to make one costs as much as to pass some ten KiB."""
FILES = 2 * MOST + 2
"""Descriptors that a route may need for it."""
TURNS = 8
"""Bodies that have their turn before the loop has."""

_SPLICING = Hold.SPLICING
_AT_ONCE: int = getattr(os, "SPLICE_F_NONBLOCK", 0)


def _can_splice(transport: asyncio.Transport) -> bool:
    """It is open, and its bytes are those on the wire."""
    return AVAILABLE and not transport.is_closing() and transport.get_extra_info("sslcontext") is None


def _large_pipe() -> tuple[int, int]:
    """The end to read from, the end to write to. Raises OSError at the limits of this process or user."""
    out_of, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
    except OSError:
        os.close(out_of)
        os.close(into)
        raise
    return out_of, into


def _close(pipe: tuple[int, int]) -> None:
    for end in pipe:
        os.close(end)


class Ended(Protocol):
    """Who gave a splice its pipe gets it back, once."""

    def __call__(self, splice: Splice, pipe: tuple[int, int], /, *, empty: bool) -> None:
        """`empty`: nothing is left in it."""


class Splices:
    """The bodies of one route that pass unread.

    Their sockets belong to transports of the loop, which watches no such descriptor for anybody else; uvloop would drop
    a duplicate with an error, too, when the peer resets. So there are two epolls of our own, which the loop watches:
    one of the sockets that something is awaited from, one of those that must take something. Level-triggered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.open: set[Splice] = set()
        self.sources: Watch | None = None
        self.targets: Watch | None = None
        self._spare: list[tuple[int, int]] = []

    def begin(self, source: End, target: End, size: int, count: Callable[[int], None], passed: Passed) -> Splice | None:
        """Let the source's next `size` bytes pass; None if they must be read.

        `count` is told of bytes as they pass, `passed` of all that have when it is over.
        """
        if len(self.open) >= MOST or not (_can_splice(source.transport) and _can_splice(target.transport)):
            return None
        try:
            if self.sources is None:
                self.sources = Watch(self._loop, select.EPOLLIN)
            if self.targets is None:
                self.targets = Watch(self._loop, select.EPOLLOUT)
            pipe = self._spare.pop() if self._spare else _large_pipe()
        except OSError:
            return None  # too many open files, or pipes
        splice = Splice((self.sources, self.targets), source, target, pipe, size, count, passed, self._ended)
        self.open.add(splice)
        splice.start()
        return splice

    def _ended(self, splice: Splice, pipe: tuple[int, int], *, empty: bool) -> None:
        self.open.discard(splice)
        if empty and len(self._spare) < SPARE:
            self._spare.append(pipe)
        else:
            _close(pipe)

    def close(self) -> None:
        """Stop all."""
        for splice in list(self.open):
            splice.stop()
        while self._spare:
            _close(self._spare.pop())
        for watch in (self.sources, self.targets):
            if watch is not None:
                watch.close()
        self.sources = self.targets = None


class Watch:
    """An epoll of sockets that each are to do one thing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, what: int) -> None:
        self._loop = loop
        self._what = what
        self._epoll = select.epoll()
        self.waiting: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def add(self, fd: int, step: Callable[[], None]) -> None:
        """Call `step` while the socket is ready, or broken."""
        self._epoll.register(fd, self._what)
        self.waiting[fd] = step

    def remove(self, fd: int) -> None:
        """No more."""
        if self.waiting.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _wake(self) -> None:
        for fd, _ in self._epoll.poll(0, TURNS):
            step = self.waiting.get(fd)
            if step is not None:
                step()

    def close(self) -> None:
        """Watch nothing."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


class Splice:
    """One body on its way from a source to a target, from its first byte to whatever ends it."""

    __slots__ = (
        "_count", "_ended", "_inside", "_into", "_left", "_out_of", "_passed", "_size", "_source", "_source_fd",
        "_sources", "_target", "_target_fd", "_targets", "_watch",
    )  # fmt: skip

    def __init__(
        self,
        watches: tuple[Watch, Watch],
        source: End,
        target: End,
        pipe: tuple[int, int],
        size: int,
        count: Callable[[int], None],
        passed: Passed,
        ended: Ended,
    ) -> None:
        self._sources, self._targets = watches
        self._source = source
        self._target = target
        self._size = size
        self._count = count
        self._passed = passed
        self._ended = ended
        self._out_of, self._into = pipe
        self._source_fd: int = source.transport.get_extra_info("socket").fileno()
        self._target_fd: int = target.transport.get_extra_info("socket").fileno()
        self._left = size  # in the source, or still to come there
        self._inside = 0  # in the pipe
        self._watch: Watch | None = None  # where the next step is awaited; None: before the first, and at the end

    def start(self) -> None:
        """From here on the loop reads nothing from the source."""
        self._source.gate.hold(_SPLICING)
        self._target.transport.set_write_buffer_limits(high=0)  # resume_writing comes when all is sent
        self.go()

    def go(self) -> None:
        """If nothing that was written before is still to be sent: begin. Called by the target's resume_writing, too."""
        target = self._target.transport
        if self._into >= 0 and self._watch is None and not target.get_write_buffer_size():
            target.set_write_buffer_limits()
            self._await(self._sources, self._source_fd)

    def _await(self, watch: Watch, fd: int) -> None:
        if self._watch is not watch:
            self._forget()
            self._watch = watch
            watch.add(fd, self._step)

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.remove(self._source_fd if self._watch is self._sources else self._target_fd)
            self._watch = None

    def _step(self) -> None:
        """Move what can be moved now."""
        try:
            more = self._move()
        except BlockingIOError:
            more = True
        except (ConnectionError, TimeoutError):
            more = False
            if not self._inside:
                self._source.transport.abort()  # a socket tells such an error once: the loop would see an end
        except OSError:
            more = False  # this cannot be spliced here
        if not more:
            self._end()
        elif self._inside:
            self._await(self._targets, self._target_fd)
        else:
            self._await(self._sources, self._source_fd)

    def _move(self) -> bool:
        """Fill the pipe, empty it. Whether there is more to come."""
        if not self._inside:
            self._inside = os.splice(self._source_fd, self._into, min(self._left, PIPE), flags=_AT_ONCE)
            self._left -= self._inside
            if not self._inside:
                return False
        moved = os.splice(self._out_of, self._target_fd, self._inside, flags=_AT_ONCE)
        self._inside -= moved
        self._count(moved)
        return bool(self._left or self._inside)

    def _end(self) -> None:
        """All has passed, or as much as ever will."""
        rest = os.read(self._out_of, self._inside) if self._inside else b""
        self._inside -= len(rest)
        self.stop()
        if rest:
            self._target.transport.write(rest)
            self._count(len(rest))
        self._passed(self._size - self._left)

    def stop(self) -> None:
        """Now. The connections are ending: nobody asks any more what has passed."""
        if self._into < 0:
            return
        self._forget()
        pipe = self._out_of, self._into
        self._into = -1
        self._ended(self, pipe, empty=not self._inside)
        self._source.gate.unhold(_SPLICING)
