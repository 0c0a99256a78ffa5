"""How is the webhook talked to? TLS for the API server's questions, plain HTTP for probes and scrapes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from drainproxy.tools.manifest.admitted import Outcome
from drainproxy.tools.webhook.admission import Answer, ReviewError, decide, read_review, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drainproxy.tools.manifest.asked import Options
    from drainproxy.tools.webhook.metrics import Metrics

log = logging.getLogger(__name__)

REVIEW_LIMIT = 8 * 1024 * 1024
"""Bytes of a question: the API server takes objects of 3 MiB, and a question may hold two."""


class Admissions:
    """Answers questions. `around` gives what stands around the Pods of a namespace."""

    def __init__(self, options: Options, around: Callable[[str], Sequence[dict[str, Any]]], metrics: Metrics) -> None:
        self._options, self._around, self._metrics = options, around, metrics
        self._draining = False
        self._asked = asyncio.Event()
        self.app = web.Application(client_max_size=REVIEW_LIMIT)
        self.app.router.add_post("/mutate", self._answer)

    async def drain(self, floor_s: float, quiet_s: float, limit_s: float) -> None:
        """Return when no question is to be expected: after the floor, and a quiet time, `limit_s` later at most.

        Until then all are answered, and each answer closes its connection, so that the next question goes elsewhere.
        """
        self._draining = True
        start = asyncio.get_running_loop().time()
        await asyncio.sleep(floor_s)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(start + floor_s + limit_s):
                await self._quiet(quiet_s)

    async def _quiet(self, quiet_s: float) -> None:
        """Return when no question has come for so long."""
        while True:
            self._asked.clear()
            try:
                async with asyncio.timeout(quiet_s):
                    await self._asked.wait()
            except TimeoutError:
                return

    async def _answer(self, http: web.Request) -> web.Response:
        try:
            request = read_review(await http.read())
        except ReviewError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        self._asked.set()
        start = time.monotonic()
        answer = self._decided(request)
        response = web.json_response(written(request["uid"], answer))
        if self._draining:
            response.force_close()
        self._metrics.duration.observe(time.monotonic() - start)
        self._metrics.admissions.labels(answer.outcome.value).inc()
        return response

    def _decided(self, request: dict[str, Any]) -> Answer:
        try:
            return decide(request, self._around(str(request.get("namespace"))), self._options)
        except Exception:
            # Whatever is wrong with us must not keep a Pod from being created.
            log.exception("no sidecar for a Pod in %s: an error of drainproxy's", request.get("namespace"))
            return Answer(Outcome.FAILED, warnings=("no sidecar: an error of the webhook's; its log says more",))


def admin_app(why_not_ready: Callable[[], str], metrics: Metrics) -> web.Application:
    """`/livez`, `/readyz`, `/metrics`. `why_not_ready` is empty when all is well."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app
