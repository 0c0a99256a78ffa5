"""Several generations of one drainproxy, and clients that must not notice."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


AS_HEIR = """
import os, signal, sys, time
if "DRAINPROXY_HANDOVER" in os.environ:
    channel = int(os.environ["DRAINPROXY_HANDOVER"].split(":")[1])
    names = os.environ["LISTEN_FDNAMES"].split(":")
    {does}
from drainproxy.cli import main
main()
"""
"""drainproxy, but as the new generation it does something else first."""


@contextmanager
def load(url: str, *, keep_alive: bool) -> Iterator[Counter[str]]:
    """Requests one after the other, from before the block until its end; how each has ended."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def send() -> None:
        limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
        with httpx.Client(limits=limits, timeout=20) as client:
            while not over.is_set():
                try:
                    seen[str(client.get(url).status_code)] += 1
                except httpx.HTTPError as error:
                    seen[repr(error)] += 1

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: seen.total() > len(threads), "the first answers")
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def upgrade(proxy: Proxy, generation: int) -> None:
    """To this generation, until the one before has ended its connections."""
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: proxy.status()["generation"] == generation, "the new generation")
    wait_for(lambda: handed_over(proxy) == generation - 1, "the end of the old one")


def handed_over(proxy: Proxy) -> int:
    return sum(line.get("msg") == "the generation before has ended its connections" for line in list(proxy.log))


@contextmanager
def generations(app: str, *flags: str, stock_loop: bool = False, program: str = "", **options: str) -> Iterator[Proxy]:
    """A ready proxy; whichever generation serves in the end is ended by SIGTERM."""
    with serve(app, *flags, stock_loop=stock_loop, program=program, **options) as proxy:
        proxy.await_ready()
        try:
            yield proxy
        finally:
            if proxy.alive:
                proxy.signal(signal.SIGTERM)
                assert proxy.wait() == 0, "".join(proxy.text)
