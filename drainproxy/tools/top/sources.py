"""How are the Pods' statuses asked for? Through the Kubernetes API, which asks the Pods; or at given addresses."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp

from drainproxy.errors import DrainproxyError
from drainproxy.tools.advise.texts import workload_of
from drainproxy.tools.live.watch import program
from drainproxy.tools.top.rows import SILENT, Row, row
from drainproxy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from drainproxy.tools.live.scope import Scope

    Look = Callable[[], Awaitable[list[Row]]]
    """One look at all Pods."""

ADMIN_PORT = "drain-admin"
TIMEOUT_S = 3.0
AT_ONCE = 50
"""Pods that are asked at the same time: the API server has its limits."""
_OK = 200
_MOST_REASON = 80


class LookError(DrainproxyError):
    """The cluster's API did not answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A Pod to ask: where `/status` is, as a path of the API or a URL."""

    namespace: str
    pod: str
    workload: str
    status: str


def pods_to_ask(found: dict[str, Any]) -> list[Asked]:
    """The Pods of a PodList that have a port named `drain-admin`, and have not ended."""
    asked = []
    for pod in found["items"]:
        meta, spec = pod["metadata"], pod["spec"]
        containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
        ports = [port for each in containers for port in each.get("ports", ()) if port.get("name") == ADMIN_PORT]
        if ports and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            namespace, name = meta["namespace"], meta["name"]
            path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}:{ports[0]['containerPort']}/proxy/status"
            asked.append(Asked(namespace, name, workload_of(pod).name, path))
    return asked


@asynccontextmanager
async def through_kubectl(scope: Scope) -> AsyncIterator[Look]:
    """With kubectl's config and authentication, over a socket that only this user can reach. Raises LookError."""
    with tempfile.TemporaryDirectory(prefix="drainproxy-top-") as folder:
        socket = Path(folder) / "api"
        command = [program(), *_context(scope), "proxy", f"--unix-socket={socket}"]
        proxy = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            assert proxy.stdout is not None
            if not await proxy.stdout.readline():  # it says where it listens, or ends
                _, said = await proxy.communicate()
                raise LookError(f"kubectl proxy: {_last_line(said.decode(errors='replace'))}")
            namespace = scope.namespace or await _namespace(scope)
            async with aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(socket))) as api:
                yield lambda: _look(api, scope, namespace)
        finally:
            if proxy.returncode is None:
                proxy.terminate()
            await proxy.communicate()


@asynccontextmanager
async def through_api(url: str, scope: Scope, token: str | None, ca_file: str | None) -> AsyncIterator[Look]:
    """At the API server itself, as from within the cluster."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    trust = aiohttp.TCPConnector(ssl=trusting(ca_file) if url.startswith("https:") else True)
    async with aiohttp.ClientSession(url, headers=headers, connector=trust) as api:
        yield lambda: _look(api, scope, scope.namespace or "default")


@asynccontextmanager
async def at_addresses(addresses: tuple[str, ...]) -> AsyncIterator[Look]:
    """At admin ports that can be reached from here: Compose, VMs, port-forwards."""
    asked = [Asked("", address, "", f"http://{address}/status") for address in addresses]
    async with aiohttp.ClientSession() as session:
        limit = asyncio.Semaphore(AT_ONCE)
        yield lambda: _all(session, asked, limit)


async def _look(api: aiohttp.ClientSession, scope: Scope, namespace: str) -> list[Row]:
    where = "" if scope.all_namespaces else f"/namespaces/{quote(namespace)}"
    query = urlencode({"labelSelector": scope.selector}) if scope.selector else ""
    try:
        async with api.get(f"/api/v1{where}/pods?{query}", timeout=aiohttp.ClientTimeout(2 * TIMEOUT_S)) as answer:
            if answer.status != _OK:
                raise LookError(f"the API answers {answer.status}: {(await answer.text())[:200]}")
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise LookError(f"no answer from the API: {error or 'too slow'}") from error
    return await _all(api, pods_to_ask(found), asyncio.Semaphore(AT_ONCE))


async def _all(session: aiohttp.ClientSession, asked: list[Asked], limit: asyncio.Semaphore) -> list[Row]:
    return list(await asyncio.gather(*(_one(session, each, limit) for each in asked)))


async def _one(session: aiohttp.ClientSession, asked: Asked, limit: asyncio.Semaphore) -> Row:
    """Its status, or why there is none."""
    try:
        async with limit, session.get(asked.status, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as answer:
            text = await answer.text()
            if answer.status == _OK:
                return row(asked.namespace, asked.pod, asked.workload, json.loads(text))
            reason = f"{answer.status} {_message(text)}"
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or "too slow"
    except (ValueError, KeyError, TypeError):
        reason = "not a drainproxy of this version"
    return Row(asked.namespace, asked.pod, asked.workload, SILENT, error=reason[:_MOST_REASON])


def _message(text: str) -> str:
    """What a Status object of the API says, else the text."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return _last_line(text)


async def _namespace(scope: Scope) -> str:
    """The context's."""
    command = [program(), *_context(scope), "config", "view", "--minify", "--output=jsonpath={..namespace}"]
    asked = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asked.communicate()
    return said.decode().strip() or "default"


def _context(scope: Scope) -> list[str]:
    return ["--context", scope.context] if scope.context else []


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["failed, and said nothing"])[-1]
