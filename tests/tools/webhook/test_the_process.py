"""Does `drainproxy webhook` serve what the API server trusts, and lose no question when it is stopped?"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import socket
import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from aiohttp.test_utils import TestServer

from tests.tools.webhook.api import Api
from tests.tools.webhook.test_with_an_api_server import named, until
from tests.unit.tools.manifest.patterns import service, to
from tests.unit.tools.webhook.test_admission import WEB, in_n, pod, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Running:
    """The process; `ask` puts a question to it, trusting what it has published."""

    def __init__(self, process: asyncio.subprocess.Process, listen: int, admin: int, api: Api) -> None:
        self.process, self.listen, self.admin, self.api = process, listen, admin, api

    @property
    def tls(self) -> ssl.SSLContext:
        bundle = base64.b64decode(self.api.configuration["webhooks"][0]["clientConfig"]["caBundle"])
        return ssl.create_default_context(cadata=bundle.decode())

    async def look(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.admin}{path}") as answer:
            return answer.status, await answer.text()

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await self.look("/readyz"))[0] == 200:
                        return
                except aiohttp.ClientError:
                    assert self.process.returncode is None, "it has ended"
                await asyncio.sleep(0.05)

    async def ask(self, session: aiohttp.ClientSession, body: Any = None) -> aiohttp.ClientResponse:
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(pod(WEB))}
        where = f"https://127.0.0.1:{self.listen}/mutate"
        return await session.post(
            where, json=review if body is None else body, ssl=self.tls, server_hostname="hook.hook.svc"
        )


@asynccontextmanager
async def webhook(api: Api, tmp_path: Path, *words: str) -> AsyncIterator[Running]:
    async with TestServer(api.app()) as server:
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("/")).rstrip("/")}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        listen, admin = free_port(), free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "webhook", "--namespace", "hook", "--service", "hook"),
            *("--secret", "keys", "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}", *words),
            env={"KUBECONFIG": str(tmp_path / "config")},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield Running(process, listen, admin, api)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
            api.end_watches()


async def test_from_start_to_end_under_questions(tmp_path: Path) -> None:
    api = Api()
    api.objects["services"] = [in_n(service(to(80, target="http")))]
    api.objects["services"][0]["metadata"]["resourceVersion"] = "1"
    api.objects["namespaces"] = [named("n")]
    async with webhook(api, tmp_path, "--drain", "500ms") as running, aiohttp.ClientSession() as session:
        await running.ready()
        statuses: list[int] = []
        closes: list[bool] = []
        stop = asyncio.Event()

        async def stream() -> None:
            while not stop.is_set():
                async with await running.ask(session) as answer:
                    response = (await answer.json())["response"]
                    assert "drainproxy" in base64.b64decode(response["patch"]).decode()
                    statuses.append(answer.status)
                    closes.append(answer.headers.get("Connection", "").lower() == "close")

        task = asyncio.create_task(stream())
        await until(lambda: len(statuses) > 20)
        assert not any(closes)
        code, text = await running.look("/metrics")
        assert code == 200
        assert float(re.findall(r'admissions_total\{outcome="injected"\} (\S+)', text)[0]) > 20
        assert "drainproxy_webhook_certificate_expiry_timestamp_seconds" in text
        assert 'drainproxy_webhook_cache_age_seconds{kind="Service"} 0.0' in text
        running.process.send_signal(signal.SIGTERM)
        await until(lambda: any(closes))
        assert (await running.look("/readyz")) == (503, "draining\n")
        assert (await running.look("/livez"))[0] == 200
        stop.set()
        await task
        assert set(statuses) == {200}
        assert await asyncio.wait_for(running.process.wait(), 30) == 0


async def test_it_is_not_ready_before_it_knows_the_services(tmp_path: Path) -> None:
    api = Api()
    api.down = True
    async with webhook(api, tmp_path) as running:

        async def why() -> str:
            try:
                return (await running.look("/readyz"))[1]
            except aiohttp.ClientError:
                return ""

        async with asyncio.timeout(60):
            while not (said := await why()):  # noqa: ASYNC110 - a test looks from outside
                await asyncio.sleep(0.05)
        assert "not listed yet: Service, NetworkPolicy, Namespace" in said
        api.down = False
        await running.ready()


async def test_what_is_no_review_gets_400_and_a_sentence(tmp_path: Path) -> None:
    async with webhook(Api(), tmp_path) as running, aiohttp.ClientSession() as session:
        await running.ready()
        async with await running.ask(session, {"kind": "Nonsense"}) as answer:
            assert (answer.status, "AdmissionReview" in await answer.text()) == (400, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "propagation-dealy=1s"), "not an option of drainproxy serve"),
        (("--set", "x"), "OPTION=VALUE"),
        (("--listen", "unix:/x"), "expected host:port"),
    ],
)
async def test_a_bad_option_is_told_in_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    async with webhook(Api(), tmp_path, *words) as running:
        _, error = await asyncio.wait_for(running.process.communicate(), 30)
        assert running.process.returncode == 2
        assert said in error.decode()
        assert "Traceback" not in error.decode()


async def test_without_a_cluster_it_says_so(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "webhook", "--namespace", "hook"),
        env={"KUBECONFIG": str(tmp_path / "missing")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert error.decode().startswith("drainproxy: no cluster: ")
    assert json.dumps(error.decode()).count("\\n") == 1
