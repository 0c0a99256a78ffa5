"""How does an HTTP/2 connection go, and end? Its frames are relayed as they came; streams are counted; GOAWAY in time.

One client connection has one upstream connection to itself, so HPACK, flow control and stream numbers stay between the
two ends. Only frame headers are read. A chunk is passed on as the object that came, except where a frame of ours must
stand or one must not pass.

    departure   STAYING ─▶ DUE ─GOAWAY(max), PING▶ ASKED ─PING's answer▶ TOLD ─nothing open, GOAWAY(last)▶ GONE

When the PING's answer is here, so is every stream that the client opened before it read the GOAWAY (RFC 9113 §6.8).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from drainproxy.drain.ledger import Ended
from drainproxy.drain.phase import LATE, Phase
from drainproxy.protocol import http2
from drainproxy.protocol.http2 import (
    ACK,
    DATA,
    DEFAULT_FRAME_SIZE,
    EMPTY_SETTINGS,
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    HEADERS,
    MAX_STREAM_ID,
    FrameReader,
    TokenBucket,
    unpack_header,
)
from drainproxy.protocol.reasons import BadFrame, ErrorCode, Reason
from drainproxy.session.ports import Hold, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drainproxy.config.options import Config
    from drainproxy.drain.ledger import Work
    from drainproxy.protocol.http1 import Forwarding
    from drainproxy.session.ports import Client, Upstream

MAX_STREAMS: Final = 10_000
"""Open streams of a connection. The app's own limit (100 or so) comes first, if the app has one."""
RESETS: Final = (1_000, 200.0)
"""Streams that a client may reset unfinished: at once, and a second (CVE-2023-44487)."""


class Departure(Enum):
    """How far the connection's end has come."""

    STAYING = "the client was not asked to leave"
    DUE = "GOAWAY at the next place where it may stand"
    ASKED = "GOAWAY sent: streams that the client has opened meanwhile may still come"
    TOLD = "the client knows; what is open finishes"
    GONE = "ended"


NEXT_DEPARTURE: dict[Departure, frozenset[Departure]] = {
    Departure.STAYING: frozenset({Departure.DUE, Departure.GONE}),
    Departure.DUE: frozenset({Departure.ASKED, Departure.TOLD, Departure.STAYING, Departure.GONE}),
    Departure.ASKED: frozenset({Departure.TOLD, Departure.GONE}),
    Departure.TOLD: frozenset({Departure.GONE}),
    Departure.GONE: frozenset(),
}
"""Which step may follow which. DUE may be TOLD at once (the app's GOAWAY has passed), or STAYING again (resume)."""


class FrameAction(Enum):
    """What becomes of a frame."""

    RELAY = "relayed"
    WAIT = "kept until it is complete"
    DROP = "not relayed"


_RELAY: Final = FrameAction.RELAY
_WAIT: Final = FrameAction.WAIT
_DROP: Final = FrameAction.DROP
_STAYING: Final = Departure.STAYING
_DUE: Final = Departure.DUE
_ASKED: Final = Departure.ASKED
_TOLD: Final = Departure.TOLD
_GONE: Final = Departure.GONE
_WELL: Final = Ended.WELL

_STREAMS_END: dict[Reason, Ended] = {
    Reason.DRAIN_DEADLINE: Ended.CUT,
    Reason.TIMEOUT: Ended.TIMED_OUT,
    Reason.APP_UNAVAILABLE: Ended.BROKEN,
    Reason.UPSTREAM_BROKE: Ended.BROKEN,
    Reason.UPSTREAM_BAD_RESPONSE: Ended.BROKEN,
}
"""What becomes of the streams that are open when the connection is left. For other reasons the client is at fault."""


class Http2Session:
    """The conversation on one client connection, from behind the preface. See Session for the contract.

    A stream is in one of three tables: `_asking` (neither end has finished), `_awaiting` (the client has) or
    `_answered` (the app has, its client still sends). It leaves when both have, or when one resets it.
    """

    __slots__ = (
        "_accepted", "_answered", "_asking", "_awaiting", "_client", "_client_done", "_cut_departed", "_departure",
        "_down", "_ends_at_goaway", "_last", "_last_pushed", "_new_id", "_on_arrival", "_outgoing", "_phase", "_ping",
        "_resets", "_up", "_upstream", "hop",
    )  # fmt: skip

    half_closes = False
    whole = True

    def __init__(self, client: Client, config: Config, forwarding: Forwarding, phase: Phase) -> None:
        self._client = client
        self.hop = forwarding.hopped
        self._new_id = forwarding.new_id
        self._phase = phase
        self._upstream: Upstream | None = None
        self._outgoing: list[bytes] | None = None  # what came while there is no connection to the app yet
        self._up = FrameReader(config.max_header_size)  # from the client to the app
        self._down = FrameReader(config.max_header_size)
        self._asking: dict[int, Work] = {}
        self._awaiting: dict[int, Work] = {}
        self._answered: dict[int, Work] = {}
        self._last = 0  # highest stream that the client has opened
        self._last_pushed = 0
        self._accepted = MAX_STREAM_ID  # the app serves no stream above this (its own GOAWAY)
        self._departure = _STAYING
        self._on_arrival = phase in LATE  # come late: its first stream is served, then it is asked to go
        self._ends_at_goaway = False
        self._client_done = False
        self._cut_departed = config.departed_clients == "cut"
        self._ping = b""  # the eight bytes of our PING, until it is answered
        self._resets = TokenBucket(*RESETS)

    def __repr__(self) -> str:
        return f"<Http2Session {self._departure.name} {self._phase.name} open={self._open}>"

    @property
    def _open(self) -> int:
        return len(self._asking) + len(self._awaiting) + len(self._answered)

    @property
    def idle(self) -> bool:
        return not (self._awaiting or self._asking or self._answered)

    def start(self) -> None:
        """The client's preface has come: get a connection to the app."""
        self._client.wait(Wait.IDLE)
        self._outgoing = [http2.PREFACE]
        upstream = self._client.connect(fresh=True, validate=False)
        if upstream is not None:
            self.upstream_ready(upstream)
        else:
            self._client.hold(Hold.DIALLING)

    # This loop and that of `_relay_down` are long and alike: a call more a frame is a tenth of what a request costs.
    def client_bytes(self, data: bytes) -> None:  # noqa: C901, PLR0912, PLR0915 - see above
        frames = self._up
        if frames.held:
            data = frames.held + data
            frames.held = b""
        begin, end = 0, len(data)  # of what is to be relayed
        position = frames.skip
        if position and frames.ending and position <= end and not frames.block:
            self._client_ended(frames.take_ending())
        last = end - HEADER_SIZE
        try:
            while position <= last:
                word, flags, stream = unpack_header(data, position)
                kind = word & 0xFF
                stop = position + HEADER_SIZE + (word >> 8)
                if kind > HEADERS or word > frames.usual or stream <= 0 or frames.block:
                    stream &= MAX_STREAM_ID  # the bit before it is reserved, and ignored (RFC 9113 §4.1)
                    frames.check(kind, flags, stream, word >> 8)
                    action = self._client_control(kind, flags, stream, data, position, stop)
                    if action is _WAIT:
                        break
                    if action is _DROP:
                        self._relay_up(data[begin:position])
                        begin = stop
                if kind == HEADERS:
                    if stream > self._last:
                        self._begin(stream, flags)
                    elif flags & END_STREAM:
                        if stop > end or not flags & END_HEADERS:
                            frames.ending = stream
                        else:
                            self._client_ended(stream)
                    if not flags & END_HEADERS:
                        frames.open_block(stream, word >> 8)
                        self._client.wait(Wait.HEADER)
                elif kind == DATA:
                    if flags & END_STREAM:
                        if stop > end:
                            frames.ending = stream
                        else:
                            self._client_ended(stream)
                    elif not word:
                        self._count_empty(frames, DATA)
                position = stop
        except BadFrame as bad:
            self._relay_up(data[begin:position])
            frames.skip = 0
            self._misbehaved(bad, by_client=True)
            return
        if position < end:
            frames.held = data[position:]
            end = position
        frames.skip = position - end
        if begin or frames.held:
            data = data[begin:end]
        if self._outgoing is None:
            if data and self._upstream is not None:
                self._upstream.write(data)
        else:
            self._outgoing.append(data)
        if self._departure is not _STAYING or self._client_done:
            self._settle()

    def _relay_up(self, data: bytes) -> None:
        if self._outgoing is not None:
            self._outgoing.append(data)
        elif data and self._upstream is not None:
            self._upstream.write(data)

    def _begin(self, stream: int, flags: int) -> None:
        """The client opens a stream."""
        if not stream & 1:
            raise BadFrame(Reason.BAD_STREAM_ID)
        self._last = stream
        if stream > self._accepted:
            return  # the app has said that it will not look at it
        table = self._awaiting if flags & END_STREAM else self._asking
        if len(table) >= MAX_STREAMS:
            raise BadFrame(Reason.TOO_MANY_STREAMS)
        table[stream] = self._client.stream_begun()
        if self._on_arrival:
            self._on_arrival = False
            self._depart(_DUE)

    def _client_ended(self, stream: int) -> None:
        work = self._asking.pop(stream, None)
        if work is not None:
            self._awaiting[stream] = work
            return
        work = self._answered.pop(stream, None)
        if work is not None:
            self._client.stream_ended(work, _WELL)

    def _client_control(self, kind: int, flags: int, stream: int, data: bytes, start: int, stop: int) -> FrameAction:
        """A frame from the client that is not usual."""
        if kind == http2.CONTINUATION:
            if flags & END_HEADERS:
                self._client.wait(Wait.STREAM)
                if self._up.ending and stop <= len(data):
                    self._client_ended(self._up.take_ending())
        elif kind == http2.RST_STREAM:
            if self._reset(stream, Ended.DEPARTED) and not self._resets.take(self._client.now()):
                raise BadFrame(Reason.RAPID_RESET)
        elif kind == http2.SETTINGS:
            return self._settings(self._up, self._down, flags, data, start, stop)
        elif kind == http2.PING and flags & ACK and self._ping:
            if stop > len(data):
                return _WAIT
            if data[start + HEADER_SIZE : stop] == self._ping:
                self._ping = b""
                self._depart(_TOLD)
                return _DROP
        elif kind == http2.PUSH_PROMISE:
            raise BadFrame(Reason.PUSH_BY_CLIENT)
        elif kind not in (HEADERS, DATA):
            self._count_empty(self._up, kind)
        return _RELAY

    def client_eof(self) -> None:
        """What is open may still be answered, as long as the app does not fall silent."""
        self._client_done = True
        if self._cut_departed and not self.idle:
            self.client_gone()
            self._client.close()
            return
        if not self.idle:
            for table in (self._asking, self._awaiting, self._answered):
                for work in table.values():
                    work.client_left = True
            self._client.wait(Wait.LEFT)
            if self._upstream is not None:
                self._upstream.write_eof()
        self._settle()

    def client_gone(self) -> None:
        self._depart(_GONE)
        politely = self.idle
        self._end_streams(self._client_streams(), Ended.DEPARTED)
        self._drop_upstream(politely=politely)

    def upstream_ready(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._client.unhold(Hold.DIALLING)
        if upstream.sibling:
            for table in (self._asking, self._awaiting, self._answered):
                for work in table.values():
                    self._client.goes_elsewhere(work)
        if self._outgoing is not None:
            data = b"".join(self._outgoing)
            self._outgoing = None
            upstream.write(data)
            if self._client_done:
                upstream.write_eof()

    def upstream_refused(self, reason: Reason) -> None:
        """No stream was seen by an app: a client may send each again, elsewhere."""
        if reason is not Reason.APP_UNAVAILABLE:
            self._client.upstream_error(reason)
            if not self.hop and self._client.hand_over(1):
                return
        self._client.unhold(Hold.DIALLING)
        self._leave(Reason.APP_UNAVAILABLE)

    def upstream_bytes(self, data: bytes) -> None:
        frames = self._down
        if self._departure is not _STAYING and 0 < frames.skip < len(data):
            rest = data[frames.skip :]
            self._relay_down(data[: frames.skip])  # up to a boundary: something may have to stand there
            if self._departure is _GONE:
                return
            data = rest
        self._relay_down(data)

    def _relay_down(self, data: bytes) -> None:  # noqa: C901, PLR0912, PLR0915 - as client_bytes
        frames = self._down
        if frames.held:
            data = frames.held + data
            frames.held = b""
        end = len(data)
        position = frames.skip
        if position and frames.ending and position <= end and not frames.block:
            self._app_ended(frames.take_ending())
        last = end - HEADER_SIZE
        try:
            while position <= last:
                word, flags, stream = unpack_header(data, position)
                kind = word & 0xFF
                stop = position + HEADER_SIZE + (word >> 8)
                if kind > HEADERS or word > frames.usual or stream <= 0 or frames.block:
                    stream &= MAX_STREAM_ID  # the bit before it is reserved, and ignored (RFC 9113 §4.1)
                    frames.check(kind, flags, stream, word >> 8)
                    if self._app_control(kind, flags, stream, data, position, stop) is _WAIT:
                        break
                if kind == HEADERS:
                    if not flags & END_HEADERS:
                        frames.open_block(stream, word >> 8)
                    if not stream & 1 and stream > self._last_pushed:
                        self._pushed(stream)
                    if flags & END_STREAM:
                        if stop > end or not flags & END_HEADERS:
                            frames.ending = stream
                        else:
                            self._app_ended(stream)
                elif kind == DATA:
                    if flags & END_STREAM:
                        if stop > end:
                            frames.ending = stream
                        else:
                            self._app_ended(stream)
                    elif not word:
                        self._count_empty(frames, DATA)
                position = stop
        except BadFrame as bad:
            self._client.write(data[:position])
            frames.skip = 0
            self._misbehaved(bad, by_client=False)
            return
        if position < end:
            frames.held = data[position:]
            data = data[:position]
            end = position
        frames.skip = position - end
        if data:
            self._client.write(data)
        if self._departure is not _STAYING or self._client_done:
            self._settle()

    def _app_ended(self, stream: int) -> None:
        work = self._awaiting.pop(stream, None)
        if work is not None:
            self._client.stream_ended(work, _WELL)
            return
        work = self._asking.pop(stream, None)
        if work is not None:
            self._answered[stream] = work

    def _pushed(self, stream: int) -> None:
        """The app answers a request that it has promised by itself: nothing more comes from the client."""
        self._last_pushed = stream
        self._awaiting[stream] = self._client.stream_begun()

    def _app_control(self, kind: int, flags: int, stream: int, data: bytes, start: int, stop: int) -> FrameAction:
        """A frame from the app that is not usual."""
        if kind == http2.RST_STREAM:
            self._reset(stream, Ended.BROKEN)
        elif kind == http2.SETTINGS:
            return self._settings(self._down, self._up, flags, data, start, stop)
        elif kind == http2.GOAWAY:
            if stop > len(data):
                return _WAIT
            self._app_goes(*http2.read_goaway(data, start))
        elif kind == http2.PUSH_PROMISE:
            if not flags & END_HEADERS:
                self._down.open_block(stream, stop - start - HEADER_SIZE)
        elif kind == http2.CONTINUATION:
            if flags & END_HEADERS and self._down.ending and stop <= len(data):
                self._app_ended(self._down.take_ending())
        elif kind not in (HEADERS, DATA):
            self._count_empty(self._down, kind)
        return _RELAY

    def _app_goes(self, accepted: int, code: int) -> None:
        """The app's GOAWAY: streams above are not served, so they are no work, either. After an error, none is."""
        if code == ErrorCode.NO_ERROR:
            self._accepted = min(self._accepted, accepted)
            self._end_streams([stream for stream in self._client_streams() if stream > self._accepted], Ended.BROKEN)
        else:
            self._accepted = min(self._accepted, accepted, self._last)
            self._end_streams(self._client_streams(), Ended.BROKEN)

    def upstream_closed(self, *, clean: bool) -> None:
        self._upstream = None
        if self._departure is _GONE:
            return
        if self.idle:
            self._leave(Reason.APP_CLOSED)
        else:
            self._client.upstream_error(Reason.CLOSED_EARLY)
            self._leave(Reason.UPSTREAM_BROKE)

    def _settings(
        self, frames: FrameReader, other: FrameReader, flags: int, data: bytes, start: int, stop: int
    ) -> FrameAction:
        """What an end says of the frames that it accepts holds for the other frames."""
        if not flags & ACK:
            if stop > len(data):
                return _WAIT
            if not frames.begun:
                frames.begin()
                if frames is self._up:
                    self._ends_at_goaway = http2.ends_at_goaway(data[start + HEADER_SIZE : stop])
            other.allow(http2.max_frame_size(data[start + HEADER_SIZE : stop]) or DEFAULT_FRAME_SIZE)
        self._count_empty(frames, http2.SETTINGS)
        return _RELAY

    def _reset(self, stream: int, ended: Ended) -> bool:
        """The stream is given up. True: before its answer was complete."""
        answered = stream in self._answered
        for table in (self._asking, self._awaiting, self._answered):
            work = table.pop(stream, None)
            if work is not None:
                self._client.stream_ended(work, _WELL if answered else ended)
                return not answered
        return False

    def _count_empty(self, frames: FrameReader, kind: int) -> None:
        """A frame that carries nothing for the other end's application."""
        bucket = frames.window_updates if kind == http2.WINDOW_UPDATE else frames.empty_frames
        if not bucket.take(self._client.now()):
            raise BadFrame(Reason.FRAME_FLOOD)

    def _misbehaved(self, bad: BadFrame, *, by_client: bool) -> None:
        """One end breaks the protocol: it is told why, and the other that it is over."""
        if by_client:
            self._client.rejected(bad.reason)
            self._leave(bad.reason)
            return
        self._client.upstream_error(bad.reason)
        if self._upstream is not None and self._up.at_boundary:
            self._upstream.write(http2.goaway(self._last_pushed, bad.reason))
        self._leave(Reason.UPSTREAM_BAD_RESPONSE)

    def _settle(self) -> None:
        """Take the steps of the departure that can be taken now."""
        if self._client_done and self.idle:
            self._leave(Reason.CLIENT_CLOSED)
        if not self._down.at_boundary:
            return
        if self._departure is _DUE:
            if self._ends_at_goaway:
                # Its first GOAWAY must be the last. A stream that meets it is above `last`: it is sent again elsewhere.
                if self.idle and self._last:
                    self._leave(Reason.DRAINING)
            elif self._accepted < MAX_STREAM_ID:  # the app's own GOAWAY is on its way: ours must not take it back
                self._depart(_TOLD)
            else:
                self._depart(_ASKED)
                self._ping = self._new_id()[:8]
                self._client.write(http2.goaway(MAX_STREAM_ID, Reason.DRAINING) + http2.ping(self._ping))
        if self._departure is _TOLD and self.idle:
            self._leave(Reason.DRAINING)

    def _depart(self, to: Departure) -> None:
        """The farewell is said when the client is asked, and answered when it has been told, or is gone."""
        if self._departure is _ASKED:
            self._client.farewell_ended()
        self._departure = to
        if to is _ASKED:
            self._client.farewell_begun()

    def _leave(self, reason: Reason) -> None:
        """End both connections, now. What is open is cut so that both ends know."""
        if self._departure is _GONE:
            return
        self._depart(_GONE)
        streams = self._client_streams()
        last = min(self._last, self._accepted) if self._outgoing is None else 0
        if self._down.at_boundary or not self._down.begun:
            greeting = b"" if self._down.begun else EMPTY_SETTINGS
            resets = [http2.rst_stream(stream, ErrorCode.INTERNAL_ERROR) for stream in streams if stream <= last]
            self._client.write(b"".join([greeting, *resets, http2.goaway(last, reason)]))
        unheard = bool(streams) and self._client_done  # the app was told that nothing more comes: only a reset says it
        if self._upstream is not None and streams and self._up.at_boundary and not unheard:
            self._upstream.write(b"".join([http2.rst_stream(stream, ErrorCode.CANCEL) for stream in streams]))
        self._drop_upstream(politely=not unheard)
        self._end_streams(streams, _STREAMS_END.get(reason, Ended.REFUSED))
        self._client.finish()

    def _client_streams(self) -> list[int]:
        return [*self._asking, *self._awaiting, *self._answered]

    def _end_streams(self, streams: Iterable[int], ended: Ended) -> None:
        for stream in streams:
            self._reset(stream, ended)

    def _drop_upstream(self, *, politely: bool) -> None:
        upstream = self._upstream
        self._upstream = None
        if upstream is None:
            if self._outgoing is not None:
                self._outgoing = None
                self._client.stop_connecting()
        elif politely:
            upstream.discard()
        else:
            upstream.abort()

    def timed_out(self, what: Wait) -> None:
        """Twice idle: even our PING was not answered."""
        if what is Wait.HEADER:
            self._client.rejected(Reason.HEADER_TIMEOUT)
            self._leave(Reason.HEADER_TIMEOUT)
        elif what is not Wait.IDLE:
            self._leave(Reason.TIMEOUT)
        elif self._departure is _STAYING:
            self.wind_down()
            self._client.wait(Wait.IDLE)
        else:
            self._leave(Reason.IDLE)

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.FORCING and not self.idle:
            if self._outgoing is not None and self._client.rescue():
                return  # the app has seen nothing of it
            self._leave(Reason.DRAIN_DEADLINE)
        elif phase is Phase.SERVING:  # the drain was called off: who has not been told need not go
            self._on_arrival = False
            if self._departure is _DUE:
                self._depart(_STAYING)

    def wind_down(self) -> None:
        if self._departure is _STAYING:
            self._depart(_DUE)
            self._settle()
