"""Does a sibling ask who we are, before anything else is said? Only where siblings may hand requests over.

Everything passes through to the session of the route's protocol until the client's first bytes. If they are the
question (protocol/hello.py), it is answered here, and the app never sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.protocol.hello import FIRST, MAX_QUESTION, Purpose, read_question
from drainproxy.session.ports import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.drain.phase import Phase
    from drainproxy.protocol.hello import Question
    from drainproxy.protocol.reasons import Reason
    from drainproxy.session.ports import Client, Session, Upstream


class HelloSession:
    """Until the client has said something. See Session for the contract.

    `conversation` makes the session that follows; `hop`: for a connection that a sibling has handed over.
    """

    __slots__ = ("_client", "_conversation", "_inner", "_phase", "_seen")

    half_closes = False
    whole = True

    def __init__(self, client: Client, conversation: Callable[[bool], Session]) -> None:
        self._client = client
        self._conversation = conversation
        self._inner = conversation(False)
        self._seen = b""

    @property
    def idle(self) -> bool:
        return self._inner.idle and not self._seen

    @property
    def hop(self) -> bool:
        return self._inner.hop

    def start(self) -> None:
        self._inner.start()

    def client_bytes(self, data: bytes) -> None:
        seen = self._seen + data
        question = read_question(seen) if seen.startswith(FIRST) else None
        if question is not None:
            self._answer(question, seen[question.end :])
        elif seen.startswith(FIRST) and len(seen) < MAX_QUESTION:
            self._seen = seen
            self._client.wait(Wait.HEADER)
        else:
            self._pass_on(seen)

    def _answer(self, question: Question, rest: bytes) -> None:
        client = self._client
        client.wait(Wait.IDLE)
        client.write(client.introduce(question))
        inner = self._inner
        if question.purpose is Purpose.ASK:
            inner.client_gone()
            client.finish()
            return
        if question.purpose is Purpose.CONNECTION:
            inner.client_gone()
            inner = self._conversation(True)
        client.switch(inner)
        if question.purpose is Purpose.CONNECTION:
            inner.start()
        if rest:
            inner.client_bytes(rest)

    def _pass_on(self, seen: bytes) -> None:
        self._client.switch(self._inner)
        if seen:
            self._inner.client_bytes(seen)

    def client_eof(self) -> None:
        self._pass_on(self._seen)
        self._inner.client_eof()

    def client_gone(self) -> None:
        self._inner.client_gone()

    def upstream_ready(self, upstream: Upstream) -> None:
        self._inner.upstream_ready(upstream)

    def upstream_refused(self, reason: Reason) -> None:
        self._inner.upstream_refused(reason)

    def upstream_bytes(self, data: bytes) -> None:
        self._inner.upstream_bytes(data)

    def upstream_closed(self, *, clean: bool) -> None:
        self._inner.upstream_closed(clean=clean)

    def timed_out(self, what: Wait) -> None:
        if self._seen:
            self._pass_on(self._seen)
        else:
            self._inner.timed_out(what)

    def enter(self, phase: Phase) -> None:
        self._inner.enter(phase)

    def wind_down(self) -> None:
        if not self._seen:
            self._inner.wind_down()
