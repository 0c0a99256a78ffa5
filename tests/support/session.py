"""Who stands in for the sockets when a session is tested? Scripted ends that keep a readable transcript.

A `Dialogue` is one client connection with a session behind it. A test says what each end does, in order, and what each
has got since it was last asked. Every rule that a session must keep in all dialogues is checked on the way: the ledger
is opened and closed in turn, nothing is written to a connection that was closed, no connection is given back twice.
When something is not as promised, the failure shows what was said on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.config.options import Config
from drainproxy.drain.ledger import Ended, Kind, Work
from drainproxy.drain.phase import Phase
from drainproxy.protocol.hello import Identity
from drainproxy.protocol.http1 import Forwarding
from drainproxy.protocol.reasons import Counted, Reason
from drainproxy.session import http1, http2, websocket
from drainproxy.session.http1 import Http1Session
from drainproxy.session.http2 import Http2Session
from drainproxy.session.ports import Hold, Wait
from drainproxy.session.websocket import WebSocketSession
from tests.support.transitions import watch

if TYPE_CHECKING:
    from drainproxy.protocol.hello import Question
    from drainproxy.session.ports import Passed, Session, Upstream

ADDRESS = b"10.0.0.9"
REQUEST_ID = b"0123456789abcdef"
SHOWN = 200
"""Bytes of one message that the transcript shows."""


def forwarding(*, trusted: bool = True, hops: bool = False) -> Forwarding:
    """What the sessions of these tests add to a request."""
    return Forwarding(ADDRESS, b"http", trusted, lambda: REQUEST_ID, hops=hops)


def as_forwarded(request: bytes, host: bytes = b"app") -> bytes:
    """The request as the app gets it: with the fields that every request gets added behind its own."""
    head, end, body = request.partition(b"\r\n\r\n")
    added = (
        b"X-Forwarded-For: " + ADDRESS,
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: " + host,
        b"X-Request-Id: " + REQUEST_ID,
    )
    return b"\r\n".join((head, *added)) + end + body


watch(
    Http1Session,
    {"_request_state": http1.NEXT_REQUEST_STATES, "_response_state": http1.NEXT_RESPONSE_STATES},
)
watch(Http2Session, {"_departure": http2.NEXT_DEPARTURE})
watch(WebSocketSession, {"_farewell": websocket.NEXT_FAREWELL})


class Transcript:
    """What was said, in order, by whom."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, who: str, what: str, data: bytes = b"") -> None:
        """One thing that happened."""
        more = f" …{len(data) - SHOWN} more" if len(data) > SHOWN else ""
        self._lines.append(f"{who:>10}  {what}{' ' + repr(data[:SHOWN]) + more if data else ''}")

    def __str__(self) -> str:
        return "\n".join(self._lines)


class BrokenRuleError(AssertionError):
    """A rule that every session must keep was broken."""

    def __init__(self, rule: str, transcript: Transcript) -> None:
        super().__init__(f"{rule}\n\n{transcript}\n")


class ScriptedUpstream:
    """A connection to the app. `state`: lent, idle, discarded, aborted or gone."""

    def __init__(self, name: str, pool: list[ScriptedUpstream], transcript: Transcript) -> None:
        self.name = name
        self.reused = False
        self.state = "idle"
        self.got = b""
        self.writes = 0
        self.in_two = 0
        """Writes of two pieces that were not copied into one."""
        self.half_closed = False
        self.silent = True
        self.sibling = False
        self._pool = pool
        self._transcript = transcript

    def write(self, data: bytes) -> None:
        """See Upstream."""
        self._said("gets", data)
        if self.half_closed:
            raise BrokenRuleError(f"{self.name}: written to after write_eof", self._transcript)
        self.got += data
        self.writes += 1

    def write_both(self, first: bytes, second: memoryview) -> None:
        """See Upstream."""
        self.write(first + second)
        self.in_two += 1

    def write_eof(self) -> None:
        """See Upstream."""
        self._said("gets EOF")
        self.half_closed = True

    def is_silent(self) -> bool:
        """See Upstream."""
        return self.silent

    def release(self) -> None:
        """See Upstream."""
        self._said("released")
        if self.half_closed:
            raise BrokenRuleError(f"{self.name}: half-closed and released for the next exchange", self._transcript)
        self.state = "idle"
        self._pool.append(self)

    def discard(self) -> None:
        """See Upstream."""
        self._said("discarded", even_if_gone=True)
        self.state = "discarded"

    def abort(self) -> None:
        """See Upstream."""
        self._said("aborted", even_if_gone=True)
        self.state = "aborted"

    def _said(self, what: str, data: bytes = b"", *, even_if_gone: bool = False) -> None:
        self._transcript.add(self.name, what, data)
        if self.state != "lent" and not (even_if_gone and self.state == "gone"):
            raise BrokenRuleError(f"{self.name}: used while {self.state}", self._transcript)


IDENTITY = Identity(b"0123456789abcdef", b"shop/web")


class ScriptedClient:
    """The client's connection, and the shell around the session. `state`: open, finished, closed, aborted or gone."""

    def __init__(self, transcript: Transcript) -> None:
        self.asked_again = 0
        self.transcript = transcript
        self.state = "open"
        self.got = b""
        self.writes = 0
        self.in_two = 0
        """Writes of two pieces that were not copied into one."""
        self.half_closed = False
        self.held: int = Hold.NONE
        self.waiting: Wait | None = Wait.IDLE
        self.waits: list[Wait] = []
        self.exchange: tuple[bytes, bytes, bool] | None = None
        self.ended: list[tuple[int, bool]] = []
        self.endings: list[Ended] = []
        self.client_left = False
        self.idle_at_end: list[bool] = []
        self.rejections: list[str] = []
        self.upstream_errors: list[str] = []
        self.retries = 0
        self.kind: Kind | None = None
        self.session: Session | None = None
        self.silent = True
        self.streams: list[Work] = []
        self.farewell = False
        self.time = 0.0
        self.idle: list[ScriptedUpstream] = []
        self.lent: ScriptedUpstream | None = None
        self.wanted = False
        self.passing: dict[str, tuple[int, Passed]] = {}
        self.asked: list[tuple[bool, bool]] = []
        self.elsewhere: list[Work | None] = []
        self.siblings = 0
        """So many attempts may be made to hand a request over."""

    def write(self, data: bytes) -> None:
        """See Client."""
        self._says("gets", data)
        if self.half_closed:
            raise BrokenRuleError("client written to after write_eof", self.transcript)
        self.got += data
        self.writes += 1

    def write_both(self, first: bytes, second: memoryview) -> None:
        """See Client."""
        self.write(first + second)
        self.in_two += 1

    def write_eof(self) -> None:
        """See Client."""
        self._says("gets EOF")
        self.half_closed = True

    def finish(self) -> None:
        """See Client."""
        self._ends("finished")

    def close(self) -> None:
        """See Client."""
        self._ends("closed")

    def close_if_silent(self) -> bool:
        """See Client."""
        if self.silent:
            self._ends("closed")
        return self.silent

    def abort(self) -> None:
        """See Client."""
        self._ends("aborted")

    def hold(self, why: Hold) -> None:
        """See Client."""
        self.transcript.add("client", f"held: {why.name}")
        self.held |= why

    def unhold(self, why: Hold) -> None:
        """See Client."""
        self.held &= ~why

    def pass_up(self, size: int, passed: Passed) -> None:
        """See Client."""
        self._offers("up", size, passed)

    def pass_down(self, size: int, passed: Passed) -> None:
        """See Client."""
        self._offers("down", size, passed)

    def _offers(self, way: str, size: int, passed: Passed) -> None:
        self._says(f"offers {size} bytes {way}")
        if way in self.passing:
            raise BrokenRuleError(f"a second body is offered {way}", self.transcript)
        self.passing[way] = size, passed

    def connect(self, *, fresh: bool, validate: bool) -> Upstream | None:
        """See Client."""
        self._says("wants a fresh connection" if fresh else "wants a connection")
        if self.wanted:
            raise BrokenRuleError("a second connection was asked for", self.transcript)
        self.asked.append((fresh, validate))
        if fresh or not self.idle:
            self.wanted = True
            return None
        upstream = self.idle.pop()
        upstream.reused = True
        return self.lend(upstream)

    def lend(self, upstream: ScriptedUpstream) -> ScriptedUpstream:
        """This connection is the session's now."""
        upstream.state = "lent"
        self.lent = upstream
        return upstream

    def hand_over(self, attempt: int, *, turned_down: bool = False) -> bool:
        """See Client."""
        self._says(f"asks a sibling, attempt {attempt}{' after it was turned down' if turned_down else ''}")
        if attempt > self.siblings or (self.session is not None and self.session.hop):
            return False
        self.wanted = True
        return True

    def introduce(self, question: Question) -> bytes:
        """See Client."""
        self._says(f"introduces itself, {question.purpose.name}")
        return IDENTITY.answer(question, b"ready")

    def goes_elsewhere(self, work: Work | None = None) -> None:
        """See Client."""
        self.elsewhere.append(work)

    def rescue(self) -> bool:
        """See Client."""
        self.stop_connecting()
        return self.hand_over(1)

    def stop_connecting(self) -> None:
        """See Client."""
        self.transcript.add("client", "stops connecting")
        self.wanted = False

    def begin(self, method: bytes, target: bytes, *, is_work: bool) -> None:
        """See Client."""
        self._says(f"begins {method.decode('latin-1')} {target.decode('latin-1')}"[:80])
        if self.exchange is not None:
            raise BrokenRuleError("an exchange begins within another", self.transcript)
        self.exchange = (method, target, is_work)

    def end(self, status: int, ended: Ended) -> None:
        """See Client."""
        self.transcript.add("client", f"ends {status} {ended.name}")
        if self.exchange is None:
            raise BrokenRuleError("an exchange ends that is not open", self.transcript)
        self.exchange = None
        self.waiting = Wait.IDLE
        self.ended.append((status, ended is Ended.WELL))
        self.endings.append(ended)
        self.idle_at_end.append(self.session is not None and self.session.idle)

    def departed(self) -> None:
        """See Client."""
        self._says("may be gone")
        self.client_left = True

    def stream_begun(self) -> Work:
        """See Client."""
        self._says("a stream begins")
        work = Work(Kind.HTTP2, ADDRESS.decode())
        self.streams.append(work)
        return work

    def stream_ended(self, work: Work, ended: Ended) -> None:
        """See Client."""
        self.transcript.add("client", f"a stream ends {ended.name}")
        if work not in self.streams:
            raise BrokenRuleError("a stream ends that is not open", self.transcript)
        self.streams.remove(work)
        self.endings.append(ended)

    def now(self) -> float:
        """See Client."""
        return self.time

    def upgraded(self, kind: Kind) -> None:
        """See Client."""
        self._says(f"upgraded to {kind.value}")
        self.kind = kind

    def ask_again(self) -> None:
        self._says("is to be asked again")
        self.asked_again += 1

    def switch(self, session: Session) -> None:
        """See Client."""
        self._says(f"switches to {type(session).__name__}")
        self.session = session

    def wait(self, what: Wait) -> None:
        """See Client."""
        self.waiting = what
        self.waits.append(what)

    def farewell_begun(self) -> None:
        """See Client."""
        self._says("is asked to go")
        if self.farewell:
            raise BrokenRuleError("asked to go twice", self.transcript)
        self.farewell = True

    def farewell_ended(self) -> None:
        """See Client."""
        self.transcript.add("client", "knows that it should go")
        if not self.farewell:
            raise BrokenRuleError("answers a farewell that was not said", self.transcript)
        self.farewell = False

    def rejected(self, reason: Reason) -> None:
        """See Client."""
        self._is_counted(reason, Counted.REJECTED)
        self.transcript.add("client", f"rejected: {reason}")
        self.rejections.append(reason.label)

    def upstream_error(self, reason: Reason) -> None:
        """See Client."""
        self._is_counted(reason, Counted.UPSTREAM_ERROR)
        self.transcript.add("client", f"upstream error: {reason}")
        self.upstream_errors.append(reason.label)

    def retried(self) -> None:
        """See Client."""
        self._says("sent once more")
        self.retries += 1

    def _is_counted(self, reason: Reason, metric: Counted) -> None:
        if metric not in reason.counted:
            raise BrokenRuleError(f"{metric} does not count {reason}", self.transcript)

    def _says(self, what: str, data: bytes = b"") -> None:
        self.transcript.add("client", what, data)
        if self.state != "open":
            raise BrokenRuleError(f"client: used while {self.state}", self.transcript)

    def _ends(self, state: str) -> None:
        self.transcript.add("client", state)
        if self.state == "open" or (state == "aborted" and self.state != "gone"):
            self.state = state


class Dialogue:
    """One client connection with a session behind it, and an app that is up, with `pooled` idle connections to it."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        pooled: int = 1,
        phase: Phase = Phase.SERVING,
        trusted: bool = True,
        siblings: int = 0,
    ) -> None:
        self.transcript = Transcript()
        self.client = ScriptedClient(self.transcript)
        self._made = 0
        self.ended_reading = False
        self.app_ended = False
        self.client.siblings = siblings
        self.client.idle += [self._make() for _ in range(pooled)]
        self.http1 = Http1Session(
            self.client, config or Config(), forwarding(trusted=trusted, hops=siblings > 0), phase
        )
        self.client.session = self.http1

    @property
    def session(self) -> Session:
        """Whoever has the connection now."""
        assert self.client.session is not None
        return self.client.session

    def _make(self) -> ScriptedUpstream:
        self._made += 1
        return ScriptedUpstream(f"app #{self._made}", self.client.idle, self.transcript)

    # --- what the ends do ---------------------------------------------------------------------------------------------

    def send(self, *pieces: bytes) -> Dialogue:
        """The client sends, a piece at a time, as long as somebody reads."""
        for data in pieces:
            self.transcript.add("client", "sends", data)
            if self.client.state == "open":
                self.session.client_bytes(data)
        return self

    def half_close(self) -> Dialogue:
        """The client sends no more."""
        self.transcript.add("client", "half-closes")
        self.ended_reading = True
        if self.client.state == "open":
            self.session.client_eof()
        return self

    def vanish(self) -> Dialogue:
        """The client's connection is lost."""
        self.transcript.add("client", "is gone")
        if self.client.state == "open":
            self.client.state = "gone"
            self.session.client_gone()
        return self

    def connects(self, reused: bool = False, *, sibling: bool = False) -> Dialogue:
        """The connection that was asked for is there. `sibling`: it leads to another replica."""
        self.check(self.client.wanted, "nobody asked for a connection")
        self.client.wanted = False
        upstream = self.client.lend(self._make())
        upstream.reused = reused
        upstream.sibling = sibling
        self.transcript.add(upstream.name, "connects")
        self.session.upstream_ready(upstream)
        return self

    def refuses(self, reason: Reason = Reason.CONNECT_REFUSED) -> Dialogue:
        """There is no connection to be had."""
        self.check(self.client.wanted, "nobody asked for a connection")
        self.client.wanted = False
        self.transcript.add("app", f"refuses: {reason}")
        self.session.upstream_refused(reason)
        return self

    def answer(self, *pieces: bytes) -> Dialogue:
        """The app sends on the connection that is lent, a piece at a time, as long as it is."""
        upstream = self.app
        for data in pieces:
            self.transcript.add(upstream.name, "sends", data)
            if upstream.state == "lent":
                self.session.upstream_bytes(data)
        return self

    def app_closes(self, *, clean: bool = True) -> Dialogue:
        """The app's connection ends."""
        upstream = self.app
        self.transcript.add(upstream.name, "closes" if clean else "breaks")
        if upstream.state == "lent":
            self.app_ended = clean and self.session.half_closes
            if not self.app_ended:
                upstream.state = "gone"
            self.session.upstream_closed(clean=clean)
        return self

    def offers(self, way: str, size: int) -> Dialogue:
        """So many bytes may pass unread."""
        offered = self.client.passing.get(way, (0, None))[0]
        self.check(offered == size, f"{offered} bytes are offered {way}, not {size}")
        return self

    def passes(self, way: str, size: int) -> Dialogue:
        """So many of the bytes that were offered have passed unread; what follows is read."""
        _, passed = self.client.passing.pop(way)
        self.transcript.add("shell", f"passed {size} bytes {way}")
        passed(size)
        return self

    def enter(self, *phases: Phase) -> Dialogue:
        """The drain moves on."""
        for phase in phases:
            self.transcript.add("drain", phase.value)
            self.session.enter(phase)
        return self

    def wind_down(self) -> Dialogue:
        """It is the connection's turn to go."""
        self.transcript.add("drain", "wind down")
        self.session.wind_down()
        return self

    def time_out(self) -> Dialogue:
        """What is waited for has not come."""
        assert self.client.waiting is not None
        self.transcript.add("clock", f"{self.client.waiting.name} timed out")
        self.session.timed_out(self.client.waiting)
        return self

    # --- what they have got -------------------------------------------------------------------------------------------

    @property
    def app(self) -> ScriptedUpstream:
        """The connection that was lent last."""
        assert self.client.lent is not None, f"no connection was lent\n\n{self.transcript}"
        return self.client.lent

    def app_got(self, expected: bytes) -> Dialogue:
        """All that the app has got since it was last asked."""
        got, self.app.got = self.app.got, b""
        self.check(got == expected, f"the app got\n  {got!r}\nnot\n  {expected!r}")
        return self

    def client_got(self, expected: bytes) -> Dialogue:
        """All that the client has got since it was last asked."""
        got, self.client.got = self.client.got, b""
        self.check(got == expected, f"the client got\n  {got!r}\nnot\n  {expected!r}")
        return self

    def client_got_reply(self, status: int, reason: str) -> Dialogue:
        """The client was answered by us, in one line, and the connection ends."""
        got, self.client.got = self.client.got, b""
        head, _, body = got.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.check(lines[0].startswith(b"HTTP/1.1 %d " % status), f"the client got {got!r}, not a {status}")
        self.check(b"X-Drainproxy: " + reason.encode() in lines, f"the client got {got!r}, not {reason}")
        self.check(b"Connection: close" in lines, f"the client got {got!r}, without Connection: close")
        self.check(body.count(b"\n") <= 1, f"the client got {got!r}: more than a line")
        self.client_is("finished")
        return self

    def client_is(self, state: str) -> Dialogue:
        """What has become of the client's connection."""
        self.check(self.client.state == state, f"the client's connection is {self.client.state}, not {state}")
        return self

    def app_is(self, state: str) -> Dialogue:
        """What has become of the app's connection."""
        self.check(self.app.state == state, f"{self.app.name} is {self.app.state}, not {state}")
        return self

    def app_half_closed(self) -> Dialogue:
        """The app was told that nothing more comes."""
        self.check(self.app.half_closed, f"{self.app.name} was not told that nothing more comes")
        return self

    def ended(self, *exchanges: tuple[int, bool]) -> Dialogue:
        """Every exchange so far, (status, completed), and none is open."""
        self.check(self.client.exchange is None, f"{self.client.exchange} is open")
        self.check(self.client.ended == list(exchanges), f"exchanges {self.client.ended}, not {list(exchanges)}")
        return self

    def ended_as(self, *endings: Ended) -> Dialogue:
        """How every exchange and stream so far has ended."""
        self.check(self.client.endings == list(endings), f"ended as {self.client.endings}, not {list(endings)}")
        return self

    def open(self) -> Dialogue:
        """An exchange is open."""
        self.check(self.client.exchange is not None, "no exchange is open")
        return self

    def waits(self, what: Wait) -> Dialogue:
        """Which limit applies now."""
        self.check(self.client.waiting is what, f"waits for {self.client.waiting}, not {what}")
        return self

    def check(self, fact: bool, otherwise: str) -> None:
        """Fail with the transcript unless this is a fact."""
        if not fact:
            raise BrokenRuleError(f"{otherwise}\n{self.http1!r}", self.transcript)
