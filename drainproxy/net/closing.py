"""When does a connection end that we are through with? Once all is sent; but nobody is waited for who takes nothing.

A transport that closes keeps what it could not send yet. If the peer has stopped reading, that is for ever, and the
connection's place with it. So it is looked at while it closes, and reset once the peer has taken nothing for a while. A
peer that reads slowly, but reads, gets everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drainproxy.net.flow import Taken, all_taken, reset, taken

if TYPE_CHECKING:
    import asyncio

    from drainproxy.net.timers import Timers

STALL_S: Final = 5.0
"""A peer that takes nothing for this long while its connection closes is not waited for: no byte, no TLS goodbye."""


class Closing:
    """One connection on its way out. Its owner calls `stop` when it has ended."""

    __slots__ = ("_stalled_at", "_taken", "_timers", "_transport", "bucket", "delivered")

    def __init__(
        self,
        transport: asyncio.Transport,
        timers: Timers,
        now: float,
        *,
        linger_s: float = 0.0,
        acknowledged: bool = False,
    ) -> None:
        """Close it now, or after `linger_s` seconds in which what the peer sends is still read (RFC 9112 §9.6).

        `acknowledged`: or once the peer has everything that was sent, our FIN included: then `delivered` tells.
        """
        self.bucket: int | None = None
        self.delivered = False
        """The peer's kernel has acknowledged everything. Only known if asked for."""
        self._transport = transport
        self._timers = timers
        self._taken = -1
        self._stalled_at = now + STALL_S if acknowledged else 0.0
        if acknowledged:
            timers.watch(self, now)
        elif linger_s:
            timers.watch(self, now + linger_s)
        else:
            self._close(now)

    def _close(self, now: float) -> None:
        transport = self._transport
        transport.close()
        if transport.get_write_buffer_size() or not transport.can_write_eof():  # there is more to send; TLS: a goodbye
            self._taken = taken(transport)
            self._timers.watch(self, now + STALL_S)

    def alarm(self, now: float) -> None:
        if not self._transport.is_closing():
            if not self._stalled_at or self._is_settled(now):
                self._close(now)
            return
        before, self._taken = self._taken, taken(self._transport)
        if self._taken == before:
            reset(self._transport)
        else:
            self._timers.watch(self, now + STALL_S)

    def _is_settled(self, now: float) -> bool:
        """The peer has everything, or never will; else look again."""
        all_is = all_taken(self._transport)
        self.delivered = all_is is Taken.ALL
        before, self._taken = self._taken, taken(self._transport)
        if self._taken != before:
            self._stalled_at = now + STALL_S
        if all_is is not Taken.NOT_YET:
            return True
        if now >= self._stalled_at:
            reset(self._transport)
            return False
        self._timers.watch(self, now)
        return False

    def stop(self) -> None:
        """The connection has ended."""
        self._timers.forget(self)
