"""What does each admin endpoint answer?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from drainproxy.admin.aiohttp_web import Response, StreamResponse
from drainproxy.config.values import parse_duration
from drainproxy.drain.phase import Outcome, Trigger
from drainproxy.drain.readiness import readiness
from drainproxy.errors import HandoverError, RestartError, RestartRefusedError, UpgradeRefusedError
from drainproxy.observe.documents import drain_block, status
from drainproxy.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from drainproxy.admin.access import Access
    from drainproxy.admin.aiohttp_web import BaseRequest
    from drainproxy.admin.control import Control, Operations
    from drainproxy.admin.guard import Guards
    from drainproxy.observe.documents import Process
    from drainproxy.observe.meter import Meter
    from drainproxy.observe.metrics import Exposition

    Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]

HEADERS = {"Server": "drainproxy", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
ANY_HOST = frozenset({"/livez", "/healthz", "/readyz", "/startupz", "/metrics"})
"""What probes and scrapers ask for under any name: nothing there is secret, and nothing changes."""
ENDPOINTS = "/livez /readyz /startupz /status /metrics /drain /resume /upgrade /restart /hold /release /"
UNAUTHORIZED = 401
STATUS_OF = {Outcome.CLEAN: 200, Outcome.STILL_ARRIVING: 200, Outcome.FORCED: 504, Outcome.RESUMED: 409}


class Endpoints:
    """Every endpoint. `assets`: the page's files by path, each with its content type."""

    def __init__(
        self,
        process: Process,
        control: Control,
        meter: Meter,
        exposition: Exposition,
        access: Access,
        guards: Guards,
        assets: Mapping[str, tuple[bytes, str]],
        operations: Operations,
    ) -> None:
        self._process = process
        self._control = control
        self._meter = meter
        self._exposition = exposition
        self._access = access
        self._guards = guards
        self._assets = assets
        self._operations = operations
        drain, resume = self._allowed(self._drain), self._allowed(self._resume)
        self._routes: dict[str, dict[str, Handler]] = {
            "/livez": _reading(self._livez),
            "/healthz": _reading(self._livez),
            "/startupz": _reading(self._startupz),
            "/readyz": _reading(self._readyz),
            "/status": _reading(self._status),
            "/metrics": _reading(self._metrics),
            "/drain": {"GET": drain, "POST": drain, "DELETE": resume},
            "/resume": {"POST": resume},
            "/upgrade": {"POST": self._allowed(self._upgrade)},
            "/restart": {"POST": self._allowed(self._restart)},
            "/hold": {"POST": self._allowed(self._hold), "DELETE": self._allowed(self._release)},
            "/release": {"POST": self._allowed(self._release)},
        } | {path: _reading(self._asset) for path in assets}

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer one request; the connection ends with it."""
        self._guards.started(request)
        misdirected = None if request.path in ANY_HOST else self._access.misdirected(request.headers)
        if misdirected is not None:
            self._meter.rejected(Reason.AUTH)
            return _line(421, misdirected)
        methods = self._routes.get(request.path)
        if methods is None:
            return _line(404, f"no such endpoint; there are {ENDPOINTS}")
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(methods)
            return _line(405, f"{request.path} takes {allowed}", {"Allow": allowed})
        return await handler(request)

    async def _livez(self, _: BaseRequest) -> StreamResponse:
        """That this answers is the answer: the event loop turns."""
        return _line(200, "live")

    async def _startupz(self, _: BaseRequest) -> StreamResponse:
        if self._process.machine.answered_once:
            return _line(200, "the app has answered")
        return _line(503, f"starting: {self._app()}")

    async def _readyz(self, _: BaseRequest) -> StreamResponse:
        process = self._process
        ready, why = readiness(process.machine, process.config, process.now(), self._app())
        return _line(200 if ready else 503, why)

    def _app(self) -> str:
        """What the last health check saw; of several routes the first that is not well."""
        upstreams = self._process.upstreams()
        return next((each for each in upstreams if not each.healthy), upstreams[0]).reason

    def _allowed(self, handler: Handler) -> Handler:
        async def checked(request: BaseRequest) -> StreamResponse:
            refusal = self._access.refusal(_peer(request), request.headers)
            return await handler(request) if refusal is None else self._refused(*refusal)

        return checked

    def _refused(self, code: int, why: str) -> StreamResponse:
        self._meter.rejected(Reason.AUTH)
        return _line(code, why, {"WWW-Authenticate": 'Bearer realm="drainproxy"'} if code == UNAUTHORIZED else {})

    async def _drain(self, request: BaseRequest) -> StreamResponse:
        """Begin or join; answer when it is over. Whatever else the query says, the drain begins."""
        query, control = request.query, self._control
        control.drain(Trigger.CLI if query.get("trigger") == "cli" else Trigger.HTTP)
        if query.get("wait") == "0":
            return _document(202, drain_block(self._process))
        with self._guards.wait(request) as may_wait:
            if not may_wait:
                return _line(503, "the drain is running, but too many callers already wait for its end: ask /status")
            finish = await control.finished()
        if finish.outcome is Outcome.FORCED and query.get("event") == "1":
            return _hang_up(request)
        summary = self._process.last_drain
        assert summary is not None, "a drain has ended"
        # A resume may already have followed: everyone who waited for this end is told this one.
        return _document(STATUS_OF[finish.outcome], {**summary, "outcome": finish.outcome.value, "why": finish.why})

    async def _resume(self, _: BaseRequest) -> StreamResponse:
        if not self._control.resume():
            return _line(409, "SIGTERM was received, so this process will end: the drain can no longer be called off")
        return _line(200, self._process.machine.state.value)

    async def _upgrade(self, request: BaseRequest) -> StreamResponse:
        """Answer when the new process serves, or will not."""
        program = request.query.get("exec")
        if program is not None:
            refusal = self._access.refusal_to_run(_peer(request), request.headers)
            if refusal is not None:
                return self._refused(*refusal)
        with self._guards.wait(request) as may_wait:
            if not may_wait:
                return _line(503, "too many wait already: ask /status")
            try:
                upgraded = await self._operations.upgrades.upgrade(program)
            except UpgradeRefusedError as refused:
                return _line(409, str(refused))
            except HandoverError as failed:
                return _line(500, str(failed))
        return _document(200, upgraded._asdict())

    async def _restart(self, request: BaseRequest) -> StreamResponse:
        """Answer when the new process of the app is there to stay, or will not be."""
        restarts = self._operations.restarts
        if restarts is None:
            return _line(409, "the app is no child of drainproxy: only `run` can restart it")
        with self._guards.wait(request) as may_wait:
            if not may_wait:
                return _line(503, "too many wait already: ask /status")
            try:
                restarted = await restarts.restart()
            except RestartRefusedError as refused:
                return _line(409, str(refused))
            except RestartError as failed:
                return _line(500, str(failed))
        return _document(200, restarted._asdict())

    async def _hold(self, request: BaseRequest) -> StreamResponse:
        text = request.query.get("for")
        try:
            for_s = None if text is None else parse_duration(text)
        except ValueError:
            return _line(400, "for: a duration such as 500ms, 5s, 1m30s or a number of seconds")
        try:
            return _document(200, self._operations.holds.hold(for_s))
        except RestartRefusedError as refused:
            return _line(409, str(refused))

    async def _release(self, _: BaseRequest) -> StreamResponse:
        held = self._operations.holds.release()
        return _line(200, "requests go on" if held else "nothing was held")

    async def _status(self, request: BaseRequest) -> StreamResponse:
        document = status(self._process)
        if request.query.get("totals") == "1":
            document["totals"] = self._exposition.totals()
        return _document(200, document)

    async def _metrics(self, request: BaseRequest) -> StreamResponse:
        body, content_type = self._exposition.render(request.headers.get("Accept", ""))
        response = _answer(200, body, content_type)
        await response.prepare(request)
        await response.write_eof()
        if request.method == "GET":
            self._control.scraped()
        return response

    async def _asset(self, request: BaseRequest) -> StreamResponse:
        body, content_type = self._assets[request.path]
        return _answer(200, body, content_type, PAGE_HEADERS)


def _peer(request: BaseRequest) -> object:
    return None if request.transport is None else request.transport.get_extra_info("peername")


def _reading(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _answer(code: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(status=code, body=body, headers={**HEADERS, "Content-Type": content_type, **(headers or {})})
    response.force_close()
    return response


def _line(code: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    shown = text if text.isprintable() else json.dumps(text)
    return _answer(code, f"{shown}\n".encode(), "text/plain; charset=utf-8", headers)


def _document(code: int, document: object) -> Response:
    return _answer(code, json.dumps(document, indent=2).encode() + b"\n", "application/json")


def _hang_up(request: BaseRequest) -> StreamResponse:
    """End the connection without an answer, so that the kubelet records a FailedPreStopHook event."""
    if request.transport is not None:
        request.transport.abort()
    return _line(504, "")
