"""Is a name resolved once for all who ask, within their time, and without holding up the end?"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from drainproxy.config.values import Address
from drainproxy.net.resolve import FRESH_S, Resolver, resolve


class Names:
    """A getaddrinfo that answers when it is let, and counts who asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer: list[str] | Exception = ["192.0.2.1", "192.0.2.2"]
        self.let = threading.Event()
        self.let.set()
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.let.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.answer]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_an_address_is_not_asked_about(literal: str, names: Names) -> None:
    resolver = Resolver(Address(literal, 80))
    resolver.forget()
    assert await resolver.hosts() == [literal]
    assert resolve(literal, 1) == [literal]
    assert names.asked == []


async def test_a_crowd_asks_once_and_again_when_the_answer_is_old_or_was_of_no_use(names: Names) -> None:
    resolver = Resolver(Address("app.test", 80))
    names.let.clear()
    crowd = [asyncio.create_task(resolver.hosts()) for _ in range(50)]
    await asyncio.sleep(0)
    names.let.set()
    assert await asyncio.gather(*crowd) == [["192.0.2.1", "192.0.2.2"]] * 50
    await resolver.hosts()
    assert names.asked == ["app.test"]
    resolver.forget()
    await resolver.hosts()
    assert len(names.asked) == 2
    resolver._fresh_until -= FRESH_S
    await resolver.hosts()
    assert len(names.asked) == 3


async def test_whoever_gives_up_spoils_it_for_nobody(names: Names) -> None:
    resolver = Resolver(Address("app.test", 80))
    names.let.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolver.hosts()
    patient = asyncio.create_task(resolver.hosts())
    await asyncio.sleep(0)
    names.let.set()
    assert await patient == ["192.0.2.1", "192.0.2.2"]
    assert len(names.asked) == 1


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_stands_for_nothing_is_an_error_of_the_system_and_asked_about_again(
    error: Exception, names: Names
) -> None:
    names.answer = error
    resolver = Resolver(Address("app.test", 80))
    for _ in range(2):
        with pytest.raises(OSError):
            await resolver.hosts()
    with pytest.raises(OSError):
        resolve("app.test", 1)
    names.answer = ["192.0.2.1"]
    assert await resolver.hosts() == ["192.0.2.1"]


def test_before_there_is_a_loop_a_name_that_hangs_is_given_up(names: Names) -> None:
    names.let.clear()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05s"):
        resolve("app.test", 0.05)
    names.let.set()


HANGS = """
import asyncio, socket, time
from drainproxy.config.values import Address
from drainproxy.net.resolve import Resolver
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
async def main():
    try:
        async with asyncio.timeout(0.05):
            await Resolver(Address("app.test", 80)).hosts()
    except TimeoutError:
        print("gave up")
asyncio.run(main())
"""


def test_the_process_ends_while_a_name_hangs() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "gave up\n"
    assert time.monotonic() - began < 20
