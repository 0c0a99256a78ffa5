"""What follows an upgrade? Bytes both ways, each direction ended on its own, until both have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.drain.phase import Phase

if TYPE_CHECKING:
    from drainproxy.drain.ledger import Kind
    from drainproxy.session.ports import Client, Upstream, Wait

SWITCHED = 101


class TunnelSession:
    """Both directions of a tunnel. See Session for the contract."""

    __slots__ = ("_client", "_client_done", "_kind", "_open", "_phase", "_upstream", "_upstream_done")

    half_closes = True

    def __init__(self, client: Client, upstream: Upstream, phase: Phase, kind: Kind) -> None:
        self._client = client
        self._upstream = upstream
        self._phase = phase
        self._kind = kind
        self._client_done = False
        self._upstream_done = False
        self._open = True

    @property
    def idle(self) -> bool:
        """See Session."""
        return not self._open

    def start(self) -> None:
        """See Session."""

    def client_bytes(self, data: bytes) -> None:
        """See Session."""
        if self._open:
            self._upstream.write(data)

    def client_eof(self) -> None:
        """See Session."""
        if not self._open:
            return
        self._client_done = True
        if self._upstream_done:
            self._end(completed=True)
        else:
            self._upstream.write_eof()

    def client_gone(self) -> None:
        """See Session."""
        self._end(completed=self._client_done)

    def upstream_ready(self, upstream: Upstream) -> None:
        """See Session."""
        raise AssertionError("a tunnel asks for no connection")

    def upstream_refused(self, reason: str) -> None:
        """See Session."""
        raise AssertionError("a tunnel asks for no connection")

    def upstream_bytes(self, data: bytes) -> None:
        """See Session."""
        if self._open:
            self._client.write(data)

    def upstream_closed(self, *, clean: bool) -> None:
        """See Session."""
        if not self._open:
            return
        self._upstream_done = True
        if not clean:
            self._end(completed=False)
            self._client.abort()
        elif self._client_done:
            self._end(completed=True)
        else:
            self._client.write_eof()

    def timed_out(self, what: Wait) -> None:
        """See Session."""
        self._end(completed=False)
        self._client.close()

    def enter(self, phase: Phase) -> None:
        """See Session."""
        self._phase = phase
        if phase is Phase.FORCING and self._open:
            self._end(completed=False)
            self._client.close()

    def wind_down(self) -> None:
        """See Session."""

    def _end(self, *, completed: bool) -> None:
        if not self._open:
            return
        self._open = False
        self._upstream.discard()
        self._client.end(SWITCHED, completed=completed)
        if completed:
            self._client.close()
