"""An API server in miniature: lists, watches, replaces by version, patches. As much of it as the webhook asks."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jsonpatch
from aiohttp import web
from aiohttp.test_utils import TestServer
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GROUPS = ("services", "networkpolicies", "namespaces", "pods")


class Api:
    """`objects` by plural, `secret` and `configuration` as they are; `down`: nothing is answered."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {each: [] for each in GROUPS}
        self.secret: dict[str, Any] = {"metadata": {"name": "keys", "namespace": "hook", "resourceVersion": "1"}}
        webhooks: list[dict[str, Any]] = [{"name": each, "clientConfig": {}} for each in ("a", "b")]
        self.configuration: dict[str, Any] = {"metadata": {"name": "drainproxy"}, "webhooks": webhooks}
        self.events: list[dict[str, Any]] = []
        self.down = False
        self.lists = 0
        self.secret_writes = 0
        self._watches: list[tuple[str, asyncio.Queue[dict[str, Any] | None]]] = []

    def change(self, plural: str, change: str, each: dict[str, Any]) -> None:
        """Tell it to all watches, as the API server does."""
        each["metadata"]["resourceVersion"] = "9"
        for watched, queue in self._watches:
            if watched == plural:
                queue.put_nowait({"type": change, "object": each})

    def gone(self) -> None:
        """Tell all watches that what they ask for is too long ago."""
        for _, queue in self._watches:
            queue.put_nowait({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})

    def end_watches(self) -> None:
        for _, queue in list(self._watches):
            queue.put_nowait(None)

    @property
    def watches(self) -> int:
        return len(self._watches)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate])
        for path in ("/api/v1/{plural}", "/apis/networking.k8s.io/v1/{plural}"):
            app.router.add_get(path, self._many)
        app.router.add_get("/api/v1/namespaces/hook/secrets/keys", self._get_secret)
        app.router.add_put("/api/v1/namespaces/hook/secrets/keys", self._put_secret)
        where = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/drainproxy"
        app.router.add_get(where, self._get_configuration)
        app.router.add_patch(where, self._patch_configuration)
        app.router.add_post("/api/v1/namespaces/{namespace}/events", self._post_event)
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.down:
            return _status(503, "down")
        response: web.StreamResponse = await handler(request)
        return response

    async def _many(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": self.objects[plural]})
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        response = web.StreamResponse()
        await response.prepare(request)
        self._watches.append((plural, queue))
        try:
            while (event := await queue.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches.remove((plural, queue))
        return response

    async def _get_secret(self, _request: web.Request) -> web.Response:
        return web.json_response(self.secret)

    async def _put_secret(self, request: web.Request) -> web.Response:
        given = await request.json()
        version = self.secret["metadata"]["resourceVersion"]
        if given["metadata"]["resourceVersion"] != version:
            return _status(409, "changed meanwhile")
        self.secret_writes += 1
        self.secret = {**given, "metadata": {**given["metadata"], "resourceVersion": str(int(version) + 1)}}
        return web.json_response(self.secret)

    async def _get_configuration(self, _request: web.Request) -> web.Response:
        return web.json_response(self.configuration)

    async def _patch_configuration(self, request: web.Request) -> web.Response:
        self.configuration = jsonpatch.apply_patch(self.configuration, await request.json())
        return web.json_response(self.configuration)

    async def _post_event(self, request: web.Request) -> web.Response:
        event = await request.json()
        if any(each["metadata"]["name"] == event["metadata"]["name"] for each in self.events):
            return _status(409, "already exists")
        self.events.append(event)
        return web.json_response(event, status=201)


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with TestServer(api.app()) as server:
        cluster = Cluster(server=str(server.make_url("/")).rstrip("/"))
        config = KubeConfig.from_one(cluster=cluster, user=User())
        async with AsyncClient(config=config, namespace="hook", trust_env=False) as client:
            yield client
            api.end_watches()
