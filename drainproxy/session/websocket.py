"""How does a WebSocket end politely? With Close 1001 where nothing is cut off; its client's answer goes to the app.

    NONE ─our turn▶ DUE ─the app has spoken, or a second turn▶ NEXT ─between two frames▶ SENT

Nothing of the app's may follow a Close (RFC 6455 §5.5.1), so an answer that the app still works on, and one to a
message that crosses our Close, would be lost. Where the client has said anything since the drain began, the Close waits
for the app's next words and goes right behind them, until our second turn; but not once the app may be stopped. The app
sees a client that says Close 1001, answers it and closes; what the client sent before its Close arrives.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from drainproxy.drain.ledger import Ended
from drainproxy.drain.phase import Phase
from drainproxy.protocol.websocket import GOING_AWAY, Frames, carries_data, close_frame
from drainproxy.session.tunnel import TunnelSession

if TYPE_CHECKING:
    from drainproxy.protocol.reasons import Reason
    from drainproxy.session.ports import Client, Upstream, Wait

CLOSE: Final = close_frame(GOING_AWAY, "restarting, connect again")
CUT: Final = close_frame(GOING_AWAY, "out of time, connect again")


class Farewell(Enum):
    """How far our Close is."""

    NONE = "not our turn"
    DUE = "right behind the app's next words"
    NEXT = "at the end of the frame that is under way"
    SENT = "sent: the client's answer is awaited"


_NONE: Final = Farewell.NONE  # as a global: see net/pair.py

NEXT_FAREWELL: dict[Farewell, frozenset[Farewell]] = {
    Farewell.NONE: frozenset({Farewell.DUE, Farewell.NEXT}),
    Farewell.DUE: frozenset({Farewell.NEXT}),
    Farewell.NEXT: frozenset({Farewell.SENT}),
    Farewell.SENT: frozenset(),
}
"""Which step may follow which."""


class WebSocketSession:
    """A tunnel whose frames from the app are followed. See Session for the contract."""

    __slots__ = ("_client", "_farewell", "_frames", "_patient", "_phase", "_talking", "_tunnel")

    half_closes = True
    whole = True
    hop = False

    def __init__(self, client: Client, upstream: Upstream, phase: Phase, *, patient: bool) -> None:
        self._client = client
        self._tunnel = TunnelSession(client, upstream)
        self._frames = Frames()
        self._farewell = Farewell.NONE
        self._patient = patient  # left alone until the deadline
        self._phase = phase
        self._talking = False  # the client has said something since the drain began

    def __repr__(self) -> str:
        return f"<WebSocketSession {self._farewell.name} {self._tunnel!r}>"

    @property
    def idle(self) -> bool:
        return self._tunnel.idle

    def start(self) -> None:
        """The upgrade was the start."""

    def client_bytes(self, data: bytes) -> None:
        self._talking = True
        self._tunnel.client_bytes(data)

    def client_eof(self) -> None:
        self._tunnel.client_eof()

    def client_gone(self) -> None:
        if self._farewell is Farewell.SENT:
            self._tunnel.leave()
        else:
            self._tunnel.client_gone()

    def upstream_ready(self, upstream: Upstream) -> None:
        raise AssertionError("an upgraded connection asks for no other")

    def upstream_refused(self, reason: Reason) -> None:
        raise AssertionError("an upgraded connection asks for no other")

    def upstream_bytes(self, data: bytes) -> None:
        farewell = self._farewell
        if farewell is _NONE or farewell is Farewell.DUE:
            self._frames.follow(data)
            self._tunnel.upstream_bytes(data)
            if farewell is not _NONE and self._may_close and self._frames.at_boundary:
                self._farewell = Farewell.NEXT
                self._say_farewell()
        elif farewell is Farewell.NEXT:
            end = self._frames.end_of_frame(data)
            self._tunnel.upstream_bytes(data[:end])
            self._say_farewell()
            self._drop(data[end:])
        else:
            self._drop(data)

    def _drop(self, data: bytes) -> None:
        """What the app says behind our Close. A message is lost there, and the exchange counts as cut."""
        if self._frames.at_boundary and carries_data(data):
            self._tunnel.end_as(Ended.CUT)
        self._frames.follow(data)

    def upstream_closed(self, *, clean: bool) -> None:
        self._tunnel.upstream_closed(clean=clean)

    def timed_out(self, what: Wait) -> None:
        self._cut(Ended.TIMED_OUT)

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.PROPAGATING:
            self._talking = False
        elif phase is Phase.FORCING:
            self._cut(Ended.CUT)

    def wind_down(self) -> None:
        if self._patient or not self._may_close:
            return
        if self._farewell is Farewell.NONE and self._talking and self._phase is not Phase.DRAINED:
            self._farewell = Farewell.DUE
            self._client.ask_again()
        elif self._farewell in (Farewell.NONE, Farewell.DUE):
            self._farewell = Farewell.NEXT
            self._say_farewell()

    @property
    def _may_close(self) -> bool:
        return self._tunnel.writable and not self._frames.closing

    def _say_farewell(self) -> None:
        if self._frames.at_boundary:
            self._farewell = Farewell.SENT
            self._client.write(CLOSE)

    def _cut(self, ended: Ended) -> None:
        told = self._farewell is Farewell.SENT or self._frames.closing
        if not told and self._may_close and self._frames.at_boundary:
            self._client.write(CUT)
            told = True
        self._tunnel.cut(ended, told=told)
