"""What do the two sockets of an exchange owe each other? While one cannot take more, the other is not read.

And a large body may pass from one to the other unread: see net/splice.py. Each connection tells the pair what became of
its own socket, and never touches the other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drainproxy.session.ports import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.net.flow import End
    from drainproxy.net.splice import Splice, Splices
    from drainproxy.session.ports import Passed, Session

_PEER_FULL: Final = Hold.PEER_FULL  # as a global: looking a member up through its class costs on each request


class Pair:
    """A client's socket, the app's while one is lent to it, and the session between them."""

    __slots__ = ("_client", "_down", "_splices", "_up", "session", "upstream")

    def __init__(self, client: End, session: Session, splices: Splices) -> None:
        self.session = session
        self.upstream: End | None = None
        self._client = client
        self._splices = splices
        self._up: Splice | None = None
        self._down: Splice | None = None

    def join(self, upstream: End) -> None:
        """From now on this is the app's socket. Either may be full already."""
        client = self._client
        self.upstream = upstream
        if client.full:
            upstream.gate.hold(_PEER_FULL)
        if upstream.full:
            client.gate.hold(_PEER_FULL)

    def part(self) -> None:
        """The app's socket is not this client's any more: neither holds the other up."""
        upstream = self.upstream
        assert upstream is not None, "a pair is parted once"
        self.upstream = None
        if self._up is not None or self._down is not None:
            self.stop_passing()
        if upstream.gate.held:
            upstream.gate.unhold(_PEER_FULL)
        gate = self._client.gate
        if gate.held:
            gate.unhold(_PEER_FULL)

    def client_full(self) -> None:
        """The client does not read as fast as the app answers."""
        if self.upstream is not None:
            self.upstream.gate.hold(_PEER_FULL)

    def client_drained(self) -> None:
        """The client has caught up."""
        if self.upstream is not None:
            self.upstream.gate.unhold(_PEER_FULL)
        if self._down is not None:
            self._down.go()

    def upstream_full(self) -> None:
        """The app does not read as fast as the client sends."""
        self._client.gate.hold(_PEER_FULL)

    def upstream_drained(self) -> None:
        """The app has caught up."""
        self._client.gate.unhold(_PEER_FULL)
        if self._up is not None:
            self._up.go()

    def pass_up(self, size: int, count: Callable[[int], None], passed: Passed) -> None:
        """The client's next `size` bytes are for the app as they are. `count`, `passed`: see Splices.begin."""
        if self.upstream is not None:
            self._up = self._splices.begin(self._client, self.upstream, size, count, passed)

    def pass_down(self, size: int, count: Callable[[int], None], passed: Passed) -> None:
        """The app's next `size` bytes are for the client as they are. `count`, `passed`: see Splices.begin."""
        if self.upstream is not None:
            self._down = self._splices.begin(self.upstream, self._client, size, count, passed)

    def stop_passing(self) -> None:
        """One of the two connections ends: what has not passed is met by whoever reads on."""
        if self._up is not None:
            self._up.stop()
            self._up = None
        if self._down is not None:
            self._down.stop()
            self._down = None
