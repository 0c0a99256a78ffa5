"""What does a client of an `any` route speak? Whoever speaks first tells: it, or the app.

The app is dialled at once, as on a `tcp` route. If the client begins as HTTP does (a method's name and a space, or the
preface of HTTP/2), an HTTP session takes over and is as strict as ever. Whatever else comes first makes the connection
a tunnel: other bytes of the client, or a word of the app to a client that is silent (MySQL, SMTP). No timer decides, so
a client that connects in advance and asks later is still understood, and nobody waits for a greeting.

What that gives up: a client that wants past the checks of HTTP can, by odd first bytes. And as long as nobody has
spoken, the connection is no work, and does not hold a drain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.protocol.http2 import PREFACE
from drainproxy.protocol.reasons import Reason
from drainproxy.session.http1 import Http1Session
from drainproxy.session.http2 import Http2Session
from drainproxy.session.ports import Wait
from drainproxy.session.tunnel import TunnelSession

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.drain.phase import Phase
    from drainproxy.protocol.http1 import Forwarding
    from drainproxy.session.ports import Client, Session, Upstream

_METHODS: Final = b"""
    GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY PURGE ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT
    COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND
    PROPPATCH REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
""".split()
"""IANA's registry of HTTP methods (RFC 9110 §16.1), and PURGE of the caches."""

_STARTS: Final = (*[method + b" " for method in _METHODS], PREFACE)
_HTTP1: Final = re.compile(rb"(?:%s) " % b"|".join(_METHODS))
_EMPTY_LINES: Final = b"\r\n"


class UndecidedSession:
    """Until somebody has spoken. Without `http` whatever is said is relayed. See Session for the contract."""

    __slots__ = ("_client", "_config", "_dialled_at", "_forwarding", "_http", "_phase", "_seen", "_upstream")

    half_closes = False
    whole = True

    def __init__(
        self, client: Client, config: Config, forwarding: Forwarding, phase: Phase, *, http: bool = True
    ) -> None:
        self._client = client
        self._config = config
        self._forwarding = forwarding
        self._phase = phase
        self._http = http
        self._seen = b""
        self._upstream: Upstream | None = None
        self._dialled_at = 0.0

    @property
    def idle(self) -> bool:
        return not self._seen

    @property
    def hop(self) -> bool:
        return self._forwarding.hopped

    def start(self) -> None:
        self._client.connect(fresh=True, validate=False)

    def client_bytes(self, data: bytes) -> None:
        if not self._http:
            self._relay(data)
            return
        seen = self._seen + data
        told = seen.lstrip(_EMPTY_LINES)  # a server ignores empty lines before a request (RFC 9112 §2.2)
        if _HTTP1.match(told):
            http1 = Http1Session(self._client, self._config, self._forwarding, self._phase)
            self._hand_over(http1)
            http1.client_bytes(seen)
        elif seen.startswith(PREFACE):
            http2 = Http2Session(self._client, self._config, self._forwarding, self._phase)
            self._hand_over(http2)
            http2.start()
            if len(seen) > len(PREFACE):
                http2.client_bytes(seen[len(PREFACE) :])
        elif any(start.startswith(told) for start in _STARTS):
            if not self._seen:
                self._client.wait(Wait.HEADER)
            self._seen = seen
        else:
            self._relay(seen)

    def client_eof(self) -> None:
        """It may still want to hear what the app says first."""
        self._relay(self._seen).client_eof()

    def client_gone(self) -> None:
        self._drop_upstream()

    def upstream_ready(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._dialled_at = self._client.now()

    def upstream_refused(self, reason: Reason) -> None:
        if reason is not Reason.APP_UNAVAILABLE:
            self._client.upstream_error(reason)
            if not self.hop and self._client.hand_over(1):
                return
        self._client.abort()

    def upstream_bytes(self, data: bytes) -> None:
        self._relay(self._seen).upstream_bytes(data)

    def upstream_closed(self, *, clean: bool) -> None:
        """Without a word: the client sees that, too, unless it has just spoken."""
        self._upstream = None
        if not self._seen:
            self._client.close_if_silent()

    def timed_out(self, what: Wait) -> None:
        """What began like HTTP and stopped was none."""
        if what is Wait.IDLE:
            self.wind_down()
        else:
            self._relay(self._seen)

    def enter(self, phase: Phase) -> None:
        self._phase = phase

    def wind_down(self) -> None:
        if self.idle and self._client.close_if_silent():
            self._drop_upstream()

    def _hand_over(self, session: Session) -> None:
        """It is HTTP: the connection to the app goes where such connections wait, unless it has waited too long."""
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            self._client.stop_connecting()
        elif self._client.now() - self._dialled_at < self._config.upstream_idle_s:
            upstream.release()
        else:
            upstream.discard()
        self._client.switch(session)

    def _relay(self, first: bytes) -> TunnelSession:
        """It is something else: `first` is what the client has said."""
        tunnel = TunnelSession(self._client, self._upstream, hop=self.hop)
        if self._upstream is None:
            self._client.stop_connecting()
        self._client.switch(tunnel)
        tunnel.start()
        if first:
            tunnel.client_bytes(first)
        return tunnel

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.discard()
            self._upstream = None
        else:
            self._client.stop_connecting()
