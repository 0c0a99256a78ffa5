"""What does an HTTP client see during a rollout? One request in, one `Reply` out: each way to fail has its name.

Nothing is repeated behind the report's back: aiohttp's silent second attempt on a dead keep-alive connection is off.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from drainproxy.tools.probe import verdict
from drainproxy.tools.probe.faults import classify, how_it_ended
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from drainproxy.tools.probe.load import Traffic

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2: a client may send these again by itself."""

_TELLING = 200
"""So much of an error's body is kept for the report. Bytes."""

KEEP_IDLE_S = 300.0
"""Our end never closes an idle keep-alive connection first: the point is to see what the server does with it."""


def plain_connector(fresh: bool, ssl_context: ssl.SSLContext | bool = True) -> aiohttp.BaseConnector:
    """A connector for keep-alive (one connection) or for fresh connections. Names are looked up each time."""
    if fresh:
        return aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, ssl=ssl_context)
    return aiohttp.TCPConnector(limit=1, keepalive_timeout=KEEP_IDLE_S, use_dns_cache=False, ssl=ssl_context)


class HttpClient:
    """Sends requests on keep-alive connections and on fresh ones.

    A request that finds all kept connections busy opens one of its own, so a slow answer never holds back the next
    request. `url_of(number)` and `body_of(number)` choose what request `number` asks for. `server_name`: the name for
    TLS (SNI, and the one the certificate must be for) if it is not the URL's.
    """

    def __init__(
        self,
        traffic: Traffic,
        url_of: Callable[[int], str],
        *,
        method: str = "GET",
        body_of: Callable[[int], bytes | AsyncIterator[bytes] | None] = lambda _: None,
        ok: Callable[[int], bool] = lambda status: status < 400,  # noqa: PLR2004 - RFC 9110: 4xx and 5xx are errors
        retry: bool = False,
        connector: Callable[[bool], aiohttp.BaseConnector] = plain_connector,
        server_name: str | None = None,
    ) -> None:
        self.on_loss: Callable[[Reply], None] = lambda _: None
        self._server_name = server_name
        self._url_of, self._body_of = url_of, body_of
        self._traffic, self._method, self._ok = traffic, method.upper(), ok
        self._retry = retry and self._method in IDEMPOTENT
        self._fresh = _session(connector(True))
        self._idle = [_session(connector(False)) for _ in range(traffic.connections)]
        self._sessions = [self._fresh, *self._idle]

    async def send(self, number: int) -> Reply:
        """Send request `number`; the failure class says how it ended if not well."""
        kept = None if self._traffic.wants_fresh(number) or not self._idle else self._idle.pop(0)
        try:
            reply = await self._once(kept or self._fresh, number)
            if self._retry and reply.reused and reply.fault in (verdict.RESET, verdict.EMPTY):
                again = await self._once(self._fresh, number)
                return replace(again, retried=True)
            return reply
        finally:
            if kept is not None:
                self._idle.append(kept)

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()

    async def _once(self, session: aiohttp.ClientSession, number: int) -> Reply:
        trace = SimpleNamespace(reused=False)
        try:
            async with asyncio.timeout(self._traffic.timeout_s):
                return await self._exchange(session, number, trace)
        except TimeoutError:
            return Reply(verdict.TIMEOUT, f"nothing complete after {self._traffic.timeout_s:g} s", reused=trace.reused)
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            fault, detail = classify(error)
            return Reply(fault, detail, reused=trace.reused)

    async def _exchange(self, session: aiohttp.ClientSession, number: int, trace: SimpleNamespace) -> Reply:
        url, body = self._url_of(number), self._body_of(number)
        async with session.request(
            self._method,
            url,
            headers=self._traffic.headers,
            data=body,
            allow_redirects=False,
            trace_request_ctx=trace,
            server_hostname=self._server_name,
        ) as response:
            size, fault, detail, start = 0, "", "", b""
            try:
                async for chunk in response.content.iter_any():
                    size += len(chunk)
                    start += chunk[: _TELLING - len(start)]
            except (aiohttp.ClientError, OSError) as error:
                fault = verdict.CUT
                detail = f"status {response.status}, then {how_it_ended(error)} after {_amount(response, size)}"
            if not fault and not self._ok(response.status):
                fault, detail = str(response.status), _told(response, start)
            return Reply(
                fault,
                detail,
                response.status,
                response.headers.get(self._traffic.pod_header, ""),
                size,
                trace.reused,
                unchecked=not fault and _ends_with_the_connection(self._method, response),
            )


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    tracing: Any = aiohttp.TraceConfig(trace_config_ctx_factory=cast("Any", _given))
    tracing.on_connection_reuseconn.append(_note_reuse)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[tracing],
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )
    # The switch has no public name; aiohttp's own test client sets it the same way.
    session._retry_connection = False
    return session


def _given(trace_request_ctx: SimpleNamespace) -> SimpleNamespace:
    return trace_request_ctx


async def _note_reuse(_session: object, context: Any, _params: object) -> None:
    context.reused = True


def _ends_with_the_connection(method: str, response: aiohttp.ClientResponse) -> bool:
    """RFC 9112 section 6.3: neither length nor chunks, so a cut body looks like a whole one."""
    bodyless = method == "HEAD" or response.status in (204, 304)
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return not bodyless and not chunked and "Content-Length" not in response.headers


def _amount(response: aiohttp.ClientResponse, size: int) -> str:
    """How much of the body had come."""
    whole = response.headers.get("Content-Length", "")
    return f"{size} of {whole} bytes" if whole.isdigit() else f"{size} bytes"


def _told(response: aiohttp.ClientResponse, start: bytes) -> str:
    """The status line and, if the body is text, its first line: a proxy's reason mostly stands there."""
    status = f"{response.status} {response.reason or ''}".rstrip()
    first = start.decode(errors="replace").strip().partition("\n")[0].strip()
    return f"{status}: {first}" if first and first.isprintable() and not first.startswith("<") else status
