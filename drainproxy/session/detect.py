"""Which protocol does this client speak? Its first bytes say so: HTTP/2 begins with a preface, all else is HTTP/1.

RFC 9113 §3.4: with prior knowledge the client sends the preface at once. No HTTP/1 request begins with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.protocol.http2 import PREFACE
from drainproxy.protocol.reasons import Reason
from drainproxy.protocol.replies import reply
from drainproxy.session.http1 import Http1Session
from drainproxy.session.http2 import Http2Session
from drainproxy.session.ports import Wait

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.drain.phase import Phase
    from drainproxy.protocol.http1 import Forwarding
    from drainproxy.session.ports import Client, Upstream


class DetectSession:
    """Until the first bytes have told. `only_http2`: nothing else is served. See Session for the contract."""

    __slots__ = ("_client", "_config", "_forwarding", "_only_http2", "_phase", "_seen")

    half_closes = False
    whole = True

    def __init__(
        self, client: Client, config: Config, forwarding: Forwarding, phase: Phase, *, only_http2: bool = False
    ) -> None:
        self._client = client
        self._config = config
        self._forwarding = forwarding
        self._phase = phase
        self._only_http2 = only_http2
        self._seen = b""

    @property
    def idle(self) -> bool:
        return not self._seen

    @property
    def hop(self) -> bool:
        return self._forwarding.hopped

    def start(self) -> None:
        """Nothing is done before bytes have come."""

    def client_bytes(self, data: bytes) -> None:
        seen = self._seen + data
        if seen.startswith(PREFACE):
            http2 = Http2Session(self._client, self._config, self._forwarding, self._phase)
            self._client.switch(http2)
            http2.start()
            if len(seen) > len(PREFACE):
                http2.client_bytes(seen[len(PREFACE) :])
        elif PREFACE.startswith(seen):
            if not self._seen:
                self._client.wait(Wait.HEADER)
            self._seen = seen
        elif self._only_http2:
            self._client.rejected(Reason.NOT_HTTP2)
            self._client.write(reply(Reason.NOT_HTTP2))
            self._client.finish()
        else:
            http1 = Http1Session(self._client, self._config, self._forwarding, self._phase)
            self._client.switch(http1)
            http1.client_bytes(seen)

    def client_eof(self) -> None:
        self._client.close()

    def client_gone(self) -> None:
        """Nothing had begun."""

    def upstream_ready(self, upstream: Upstream) -> None:
        raise AssertionError("nothing asks for a connection before the protocol is known")

    def upstream_refused(self, reason: Reason) -> None:
        raise AssertionError("nothing asks for a connection before the protocol is known")

    def upstream_bytes(self, data: bytes) -> None:
        raise AssertionError("there is no connection to the app yet")

    def upstream_closed(self, *, clean: bool) -> None:
        raise AssertionError("there is no connection to the app yet")

    def timed_out(self, what: Wait) -> None:
        if what is Wait.IDLE:
            self.wind_down()
        else:
            self._client.rejected(Reason.HEADER_TIMEOUT)
            self._client.close()

    def enter(self, phase: Phase) -> None:
        self._phase = phase

    def wind_down(self) -> None:
        if self.idle:
            self._client.close_if_silent()
