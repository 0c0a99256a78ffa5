"""How are bytes relayed that nobody reads? Both ways, each direction ended on its own, until both have ended.

What follows an upgrade, and every connection of a `tcp` route. The app may speak first: a `tcp` route dials on accept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Phase
from drainproxy.protocol.reasons import Reason
from drainproxy.session.ports import UNREAD, Hold, Wait

if TYPE_CHECKING:
    from drainproxy.session.ports import Client, Upstream

SWITCHED: Final = 101


class TunnelSession:
    """Both directions of a tunnel. See Session for the contract.

    `start` makes it the whole conversation of a connection, and asks for an `upstream` if there is none yet. A tunnel
    that follows an upgrade is not started: its exchange has begun long since.
    """

    __slots__ = (
        "_client", "_client_done", "_open", "_outgoing", "_status", "_upstream", "_upstream_done", "_well", "hop",
    )  # fmt: skip

    half_closes = True
    whole = True

    def __init__(self, client: Client, upstream: Upstream | None, *, hop: bool = False) -> None:
        self._client = client
        self.hop = hop
        self._upstream = upstream
        self._status = SWITCHED
        self._outgoing = b""
        self._client_done = False
        self._upstream_done = False
        self._open = True
        self._well = Ended.WELL

    def __repr__(self) -> str:
        ended = [name for name, done in (("client", self._client_done), ("app", self._upstream_done)) if done]
        return f"<TunnelSession {'open' if self._open else 'over'}, ended by {' and '.join(ended) or 'neither side'}>"

    @property
    def idle(self) -> bool:
        return not self._open

    @property
    def writable(self) -> bool:
        """The client's direction is open: something of our own may still be said."""
        return self._open and not self._upstream_done

    def start(self) -> None:
        client = self._client
        self._status = UNREAD
        client.begin(b"", b"", is_work=True)
        client.upgraded(Kind.TCP)
        client.wait(Wait.STREAM)
        if self._upstream is not None:
            if self._upstream.sibling:
                client.goes_elsewhere()
            return
        upstream = client.connect(fresh=True, validate=False)
        if upstream is not None:
            self._upstream = upstream
        else:
            client.hold(Hold.DIALLING)

    def client_bytes(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
        elif self._open:
            self._outgoing += data

    def client_eof(self) -> None:
        if not self._open:
            return
        self._client_done = True
        if self._upstream_done:
            self._end(self._well)
            self._client.close()
        elif self._upstream is not None:
            self._upstream.write_eof()

    def client_gone(self) -> None:
        self._end(self._well if self._client_done or self._upstream_done else Ended.DEPARTED)

    def leave(self) -> None:
        """The client is gone, as it was asked to."""
        self._end(self._well)

    def end_as(self, ended: Ended) -> None:
        """However politely it ends from here on, it has ended like this."""
        self._well = ended

    def upstream_ready(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._client.unhold(Hold.DIALLING)
        if self._outgoing:
            upstream.write(self._outgoing)
            self._outgoing = b""
        if self._client_done:
            upstream.write_eof()

    def upstream_refused(self, reason: Reason) -> None:
        """The client sees what it would see without us: a connection that is refused or reset."""
        if reason is not Reason.APP_UNAVAILABLE:
            self._client.upstream_error(reason)
            if not self.hop and self._client.hand_over(1):
                return
        self._client.unhold(Hold.DIALLING)
        self._end(Ended.BROKEN)
        self._client.abort()

    def upstream_bytes(self, data: bytes) -> None:
        if self._open:
            self._client.write(data)

    def upstream_closed(self, *, clean: bool) -> None:
        if not self._open:
            return
        self._upstream_done = True
        if not clean:
            self._upstream = None
            self._end(Ended.BROKEN)
            self._client.abort()
        elif self._client_done:
            self._end(self._well)
            self._client.close()
        else:
            self._client.write_eof()

    def timed_out(self, what: Wait) -> None:
        self.cut(Ended.TIMED_OUT)

    def enter(self, phase: Phase) -> None:
        if phase is not Phase.FORCING:
            return
        if self._open and self._upstream is None and not self._upstream_done and self._client.rescue():
            return  # the app has seen nothing of it
        self.cut(Ended.CUT)

    def cut(self, ended: Ended, *, told: bool = False) -> None:
        """End it here so that both ends notice: by a reset, unless the client was told in its protocol."""
        if not self._open:
            return
        self._end(ended)
        if told:
            self._client.finish()
        else:
            self._client.abort()

    def wind_down(self) -> None:
        """Nobody can be asked to go in a protocol that is not known."""

    def _end(self, ended: Ended) -> None:
        if not self._open:
            return
        self._open = False
        upstream = self._upstream
        self._upstream = None
        if upstream is None:
            self._client.stop_connecting()
        elif ended is Ended.WELL:
            upstream.discard()
        else:
            upstream.abort()
        self._client.end(self._status if ended is Ended.WELL or self._status == SWITCHED else 0, ended)
