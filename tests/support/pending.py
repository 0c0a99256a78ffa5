"""A request that the app answers when a test says so, however slow the machine is."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.support.proxy import wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Proxy


class Pending:
    """One that the app has. `app`: the plain app's own address."""

    def __init__(self, wire: Wire, app: str) -> None:
        self.wire = wire
        self._key = secrets.token_hex(8)
        self._app = app
        wire.get(f"/until/{self._key}")

    def answer(self) -> int:
        """Let the app answer; the status that the client gets."""
        assert httpx.get(f"http://{self._app}/go/{self._key}").status_code == 200
        return self.wire.response()[0]


@contextmanager
def pending(proxy: Proxy, address: tuple[str, int] | None = None) -> Iterator[Pending]:
    """It is in flight from here on, in the generation that is in service. `address`: not that of the first route."""
    with Wire(address or proxy.address) as wire:
        before = proxy.status()
        request = Pending(wire, before["upstream"]["address"])
        wait_for(lambda: proxy.status()["in_flight"]["http"] == before["in_flight"]["http"] + 1, "the request")
        yield request
