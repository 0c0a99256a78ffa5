"""How does a body that passes unread end, when the kernel says what it says? One step after the other, by hand."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from drainproxy.net import splice
from drainproxy.net.splice import Splice
from tests.support.transports import ScriptedEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 100

pytestmark = pytest.mark.skipif(not splice.AVAILABLE, reason="splice(2) is Linux's")


class Watch:
    """Sockets that one thing is awaited of, as the epoll of Splices."""

    def __init__(self) -> None:
        self.waiting: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, step: Callable[[], None]) -> None:
        self.waiting[fd] = step

    def remove(self, fd: int) -> None:
        self.waiting.pop(fd, None)

    def wake(self) -> None:
        """What was awaited has come."""
        [step] = self.waiting.values()
        step()


class Rig:
    """One body of SIZE bytes between two ends, and a kernel whose answers are written down beforehand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]) -> None:
        self.source, self.target = (ScriptedEnd(sock) for sock in sockets)
        self.sources, self.targets = Watch(), Watch()
        self.counted = 0
        self.passed: list[int] = []
        self.answers: list[int | OSError] = []
        pipe = os.pipe()
        self._into = pipe[1]
        monkeypatch.setattr(os, "splice", self._answer)
        watches = cast("Any", (self.sources, self.targets))
        self.pipes: list[bool] = []
        """For each pipe that came back: whether it was empty."""
        ends = self.source, self.target
        self.splice = Splice(watches, *ends, pipe, SIZE, self._count, self._passed, self._ended)

    def _answer(self, src: int, dst: int, count: int, flags: int) -> int:
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        if dst == self._into:
            os.write(dst, b"x" * answer)
        else:
            os.read(src, answer)
        return answer

    def _passed(self, size: int) -> None:
        self.passed.append(size)

    def _ended(self, _: Splice, pipe: tuple[int, int], *, empty: bool) -> None:
        self.pipes.append(empty)
        for end in pipe:
            os.close(end)

    def _count(self, size: int) -> None:
        self.counted += size


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    sockets = [*socket.socketpair(), *socket.socketpair()]
    made = Rig(monkeypatch, [sockets[0], sockets[2]])
    yield made
    made.splice.stop()
    for sock in sockets:
        sock.close()


def test_meanwhile_the_source_is_not_read_and_afterwards_it_is(rig: Rig) -> None:
    rig.splice.start()
    assert not rig.source.scripted.is_reading()
    rig.answers = [SIZE, SIZE]
    rig.sources.wake()
    assert rig.source.scripted.is_reading()
    assert (rig.counted, rig.passed) == (SIZE, [SIZE])


def test_what_was_written_to_the_target_before_is_sent_first(rig: Rig) -> None:
    rig.target.scripted.unsent = 1
    rig.splice.start()
    assert not rig.sources.waiting
    assert rig.target.scripted.limits == 0, "the loop tells when all is sent, not when it is little"
    rig.target.scripted.unsent = 0
    rig.splice.go()
    assert rig.sources.waiting
    assert rig.target.scripted.limits is None


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(errno.ETIMEDOUT, "")])
def test_a_source_that_broke_is_aborted_for_its_socket_tells_that_only_once(rig: Rig, error: OSError) -> None:
    rig.splice.start()
    rig.answers = [60, 60]
    rig.sources.wake()
    rig.answers = [error]
    rig.sources.wake()
    assert rig.source.scripted.end == "aborted"
    assert rig.passed == [60]
    assert not rig.sources.waiting


def test_a_target_that_broke_gets_what_is_in_the_pipe_written_and_the_source_is_not_aborted(rig: Rig) -> None:
    rig.splice.start()
    rig.answers = [60, BrokenPipeError()]
    rig.sources.wake()
    assert rig.target.scripted.got == b"x" * 60
    assert rig.source.scripted.end == "open"
    assert (rig.counted, rig.passed) == (60, [60])


def test_an_end_of_the_source_is_left_to_the_loop(rig: Rig) -> None:
    rig.splice.start()
    rig.answers = [0]
    rig.sources.wake()
    assert rig.source.scripted.end == "open"
    assert rig.source.scripted.is_reading()
    assert rig.passed == [0]


def test_a_full_target_is_awaited_with_the_rest_in_the_pipe(rig: Rig) -> None:
    rig.splice.start()
    rig.answers = [60, 20]
    rig.sources.wake()
    assert rig.targets.waiting
    assert not rig.sources.waiting
    rig.answers = [BlockingIOError()]
    rig.targets.wake()
    rig.answers = [40]
    rig.targets.wake()
    assert rig.sources.waiting
    assert not rig.passed
    assert rig.counted == 60


def test_stopped_it_tells_nothing_any_more(rig: Rig) -> None:
    rig.splice.start()
    rig.splice.stop()
    rig.splice.go()
    assert not rig.sources.waiting
    assert not rig.passed
    assert rig.source.scripted.is_reading()


def test_a_pipe_comes_back_once_and_as_empty_as_it_is(rig: Rig) -> None:
    rig.splice.start()
    rig.answers = [60, 20]
    rig.sources.wake()
    rig.splice.stop()
    rig.splice.stop()
    assert rig.pipes == [False]


@pytest.mark.parametrize("answers", [[SIZE, SIZE], [0], [60, BrokenPipeError()]])
def test_a_pipe_that_was_emptied_comes_back_empty(rig: Rig, answers: list[int | OSError]) -> None:
    rig.splice.start()
    rig.answers = answers
    rig.sources.wake()
    rig.splice.stop()
    assert rig.pipes == [True]
