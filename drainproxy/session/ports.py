"""What may a session ask of the shell around it? The two sockets, the ledger, a clock's alarm: as plain methods.

A session is fed by the shell (`client_bytes`, `upstream_bytes`, …) and answers by calling these. Nothing here blocks or
awaits, and nothing calls the session back before it returns: what follows comes with a later turn of the loop. Tests
put scripted stand-ins in place of both.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from drainproxy.drain.ledger import Ended, Kind, Work
    from drainproxy.drain.phase import Phase
    from drainproxy.protocol.hello import Question
    from drainproxy.protocol.reasons import Reason


UNREAD = 1
"""The status of what was answered, in a protocol whose answers are relayed unread: HTTP/2, TCP."""


class Wait(IntEnum):
    """What a session waits for, as far as time limits care. An index: an Enum's hash is Python code, each time."""

    IDLE = 0
    HEADER = 1
    RESPONSE = 2
    STREAM = 3
    LEFT = 4
    """The client has said all that it will, and what is open may still be answered."""


class Hold(IntEnum):
    """Why reading from a socket is held: bits of an int. Reading goes on when none is left."""

    NONE = 0
    PEER_FULL = 1
    PIPELINE = 2
    DIALLING = 4
    SPLICING = 8


class Passed(Protocol):
    """A session that offers bytes to pass unread hears of it once, at the end; or never, and is fed all of them."""

    def __call__(self, size: int) -> None:
        """So many bytes have passed, perhaps fewer than were offered. What follows is fed to the session as ever."""


class Upstream(Protocol):
    """A connection to the app, lent to one session at a time."""

    reused: bool
    """It has carried an exchange before: the app may be closing it as idle this very moment."""

    @property
    def sibling(self) -> bool:
        """It leads to another replica, not to the app."""

    def write(self, data: bytes) -> None:
        """Send."""

    def write_both(self, first: bytes, second: memoryview) -> None:
        """Send the one and the other, without copying them into one. `second` must stay as it is."""

    def write_eof(self) -> None:
        """Send nothing more (half-close): what is written afterwards is dropped."""

    def is_silent(self) -> bool:
        """Neither bytes nor an end wait in its socket."""

    def release(self) -> None:
        """Give it back for the next exchange."""

    def discard(self) -> None:
        """Close it after what was written."""

    def abort(self) -> None:
        """Reset it: the app must not take what it got for the whole."""


class Client(Protocol):
    """The client's connection, and what the process offers its session."""

    def write(self, data: bytes) -> None:
        """Send."""

    def write_both(self, first: bytes, second: memoryview) -> None:
        """Send the one and the other, without copying them into one. `second` must stay as it is."""

    def write_eof(self) -> None:
        """Send nothing more (half-close): what is written afterwards is dropped."""

    def finish(self) -> None:
        """Send what was written, half-close, drop what still comes for a moment, close (RFC 9112 §9.6)."""

    def close(self) -> None:
        """Send what was written and close."""

    def close_if_silent(self) -> bool:
        """Close an idle connection, unless bytes of a next request wait in its socket: then False."""

    def abort(self) -> None:
        """Reset the connection, so that the client cannot take what it has for the whole."""

    def hold(self, why: Hold) -> None:
        """Stop reading."""

    def unhold(self, why: Hold) -> None:
        """Read on, if nothing else holds."""

    def pass_up(self, size: int, passed: Passed) -> None:
        """The client's next `size` bytes are for the app as they are. They may pass unread: see Passed."""

    def pass_down(self, size: int, passed: Passed) -> None:
        """The app's next `size` bytes are for the client as they are. They may pass unread: see Passed."""

    def introduce(self, question: Question) -> bytes:
        """What is answered to a sibling that asks who we are."""

    def connect(self, *, fresh: bool, validate: bool) -> Upstream | None:
        """A connection to the app at once, or None: then `upstream_ready` or `upstream_refused` follows.

        In a drain it may be one to a sibling, if the session's `hop` is false.

        `fresh`: not from the pool. `validate`: if from the pool, look first whether the app has closed it.
        """

    def hand_over(self, attempt: int, *, turned_down: bool = False) -> bool:
        """Instead of the app, that could not be had, ask a sibling for a connection: `upstream_ready` or
        `upstream_refused` follows once more, perhaps with a connection to the app after all.

        `attempt`: 1 for the first of this exchange. `turned_down`: the sibling of the last one has no app either.
        False: nobody is left to be asked. Siblings are asked of sessions only whose `hop` is false.
        """

    def rescue(self) -> bool:
        """The deadline has passed, and the connection that was asked for has not come: a sibling's, then, or nobody's.

        False: there is nobody to ask, and no connection comes any more.
        """

    def stop_connecting(self) -> None:
        """The connection that was asked for is not wanted any more."""

    def begin(self, method: bytes, target: bytes, *, is_work: bool) -> None:
        """A request's head is complete. Health checks are no work: they are counted, but never hold a drain."""

    def end(self, status: int, ended: Ended) -> None:
        """The exchange is over. `status` 0: no response was sent; or UNREAD."""

    def goes_elsewhere(self, work: Work | None = None) -> None:
        """A sibling has this piece of work, or that of the connection: our app is not needed for it."""

    def departed(self) -> None:
        """The client has sent FIN while its exchange is open: it is told of as one that may be gone."""

    def stream_begun(self) -> Work:
        """One of several pieces of work at a time, an HTTP/2 stream, begins."""

    def stream_ended(self, work: Work, ended: Ended) -> None:
        """It is over."""

    def now(self) -> float:
        """The time, in seconds on a clock of the shell's choice."""

    def upgraded(self, kind: Kind) -> None:
        """The exchange has become a tunnel of this kind."""

    def ask_again(self) -> None:
        """It is no good moment to ask the client to go: `wind_down` is called once more, in a second or so."""

    def switch(self, session: Session) -> None:
        """From now on this session has the connection."""

    def wait(self, what: Wait) -> None:
        """A wait of this kind begins now; `timed_out` follows if the option for it says so."""

    def farewell_begun(self) -> None:
        """The client was asked to go in a way that it answers. What it sends until then may be work."""

    def farewell_ended(self) -> None:
        """It has answered, or is gone."""

    def rejected(self, reason: Reason) -> None:
        """A request was refused for this reason."""

    def upstream_error(self, reason: Reason) -> None:
        """The app failed in this way."""

    def retried(self) -> None:
        """A request was sent to the app once more."""


class Session(Protocol):
    """One client connection's conversation, in both directions. Bytes in by these methods, bytes out by the ports."""

    half_closes: bool
    """When the app closes its side, bytes may still go to it."""
    whole: bool
    """What it asks a connection for is all that the client will say; else it is one exchange."""

    @property
    def hop(self) -> bool:
        """What it asks a connection for was handed over by a sibling: it is for our app, and handed on by nobody."""

    @property
    def idle(self) -> bool:
        """No work is open here."""

    def start(self) -> None:
        """The client has connected; nothing has come of it yet."""

    def client_bytes(self, data: bytes) -> None:
        """The client sent this."""

    def client_eof(self) -> None:
        """The client will send nothing more; it may still read."""

    def client_gone(self) -> None:
        """The client's connection is lost."""

    def upstream_ready(self, upstream: Upstream) -> None:
        """The connection that was asked for."""

    def upstream_refused(self, reason: Reason) -> None:
        """No connection to the app could be had, within the time that a request is held.

        APP_UNAVAILABLE: none to a sibling, either.
        """

    def upstream_bytes(self, data: bytes) -> None:
        """The app sent this."""

    def upstream_closed(self, *, clean: bool) -> None:
        """The app's connection has ended: by FIN (`clean`) or broken."""

    def timed_out(self, what: Wait) -> None:
        """A wait has lasted too long."""

    def enter(self, phase: Phase) -> None:
        """The drain has moved on. FORCING: cut what is open, before this returns."""

    def wind_down(self) -> None:
        """This connection's turn to be asked to go (after the floor, spread)."""
