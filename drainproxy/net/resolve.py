"""Which addresses does a name stand for? Asked with a bound, and so that the end of the process need not wait for it.

getaddrinfo(3) cannot be broken off, and the loop's own threads are waited for at exit. Here each question has a daemon
thread; while one is not answered, whoever else asks waits for the same answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import queue
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.values import Address

FRESH_S = 1.0
"""An answer is good for so long: a crowd of connections asks once, and an app that has moved is found at once."""

Hosts = list[str]


class Resolver:
    """The hosts of one address: the one that it names, or those that its name stands for, in the system's order."""

    def __init__(self, address: Address) -> None:
        self._name = address.host
        self._hosts: Hosts = [address.host] if is_literal(address.host) else []
        self._fresh_until = float("inf") if self._hosts else 0.0
        self._asked: asyncio.Future[Hosts] | None = None

    async def hosts(self) -> Hosts:
        """IP addresses, at least one. Raises OSError; the caller bounds the time."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._fresh_until:
            if self._asked is None:
                self._asked = self._ask(loop)
            self._hosts = await asyncio.shield(self._asked)
        return self._hosts

    def forget(self) -> None:
        """None of them could be reached: ask anew before the next attempt."""
        if not is_literal(self._name):
            self._fresh_until = 0.0

    def _ask(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Hosts]:
        asked: asyncio.Future[Hosts] = loop.create_future()

        def answered(found: Hosts | OSError) -> None:
            self._asked = None
            if isinstance(found, OSError):
                asked.set_exception(found)
                asked.exception()  # seen, even if nobody waits any more
            else:
                self._fresh_until = loop.time() + FRESH_S
                asked.set_result(found)

        def tell(found: Hosts | OSError) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(answered, found)

        _in_a_thread(self._name, tell)
        return asked


def resolve(name: str, timeout_s: float) -> Hosts:
    """The same before there is a loop. Raises OSError; TimeoutError, which is one, if no answer comes in time."""
    if is_literal(name):
        return [name]
    answers: queue.SimpleQueue[Hosts | OSError] = queue.SimpleQueue()
    _in_a_thread(name, answers.put)
    try:
        found = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g}s") from None
    if isinstance(found, OSError):
        raise found
    return found


def is_literal(host: str) -> bool:
    """It is an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _in_a_thread(name: str, tell: Callable[[Hosts | OSError], None]) -> None:
    threading.Thread(target=lambda: tell(_look_up(name)), name=f"resolve {name}", daemon=True).start()


def _look_up(name: str) -> Hosts | OSError:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError as error:  # a name that cannot be put into the DNS's form
        return OSError(f"{name!r} is not a host name: {error}")
    return list(dict.fromkeys(str(where[0]) for *_, where in found))
