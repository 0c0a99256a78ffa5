"""Is other discovery told in time, again if need be, and without holding a drain? Every recipe of docs/discovery.md."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from drainproxy import __version__
from tests.support.apps import free_port, http_server
from tests.support.proxy import serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "discovery.md"
RECIPES = {
    name: dict(re.split(r"\s+= ", line, maxsplit=1) for line in body.strip().splitlines())
    for name, body in re.findall(r"```recipe ([\w-]+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
}
HOST = socket.gethostname()


@dataclass
class Request:
    """What a stand-in was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    at: float = field(default_factory=time.monotonic)


class Registry:
    """A stand-in that speaks one API: `in_service` is what it would tell its clients. Refuses what that API refuses."""

    def __init__(self, answer: Callable[[Registry, Request], int]) -> None:
        self.in_service: bool | None = None
        self.address = ""
        self.asked: list[Request] = []
        self.failures = 0
        self._answer = answer

    def handle(self, request: Request) -> int:
        """The status of the answer."""
        self.asked.append(request)
        if len(self.asked) <= self.failures:
            return 503
        return self._answer(self, request)


def consul(registry: Registry, request: Request) -> int:
    if request.headers.get("X-Consul-Token") != "secret":
        return 403
    if request.method != "PUT":
        return 405
    what = request.path.removeprefix("/v1/agent/service/")
    if what == "maintenance/web":
        registry.in_service = {"true": False, "false": True}[request.query["enable"]]
    elif what == "register":
        made = json.loads(request.body)
        assert request.headers["Content-Type"] == "application/json"
        assert (made["ID"], made["Name"]) == (f"web-{HOST}", "web")
        registry.in_service, registry.address = True, f"{made['Address']}:{made['Port']}"
    elif what == f"deregister/web-{HOST}":
        registry.in_service = False
    else:
        return 404
    return 200


def nacos(registry: Registry, request: Request) -> int:
    if (request.method, request.path) != ("PUT", "/nacos/v1/ns/instance") or request.query["serviceName"] != "web":
        return 404
    registry.in_service = {"true": True, "false": False}[request.query["enabled"]]
    registry.address = f"{request.query['ip']}:{request.query['port']}"
    return 200


def eureka(registry: Registry, request: Request) -> int:
    if request.path != f"/eureka/apps/WEB/{HOST}/status":
        return 404
    state = {("PUT", "OUT_OF_SERVICE"): False, ("DELETE", "UP"): True}.get((request.method, request.query["value"]))
    registry.in_service = registry.in_service if state is None else state
    return 400 if state is None else 200


def powerdns(registry: Registry, request: Request) -> int:
    if request.headers.get("X-API-Key") != "secret":
        return 401
    if (request.method, request.path) != ("PATCH", "/api/v1/servers/localhost/zones/example.org."):
        return 404
    (change,) = json.loads(request.body)["rrsets"]
    if change["name"] != f"{HOST}.web.example.org." or change["type"] != "A":
        return 422
    registry.in_service = change["changetype"] == "REPLACE"
    if registry.in_service:
        registry.address = change["records"][0]["content"]
    return 204


@contextmanager
def standing(registry: Registry) -> Iterator[str]:
    """The stand-in, at an address."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            code = registry.handle(Request(self.command, parts.path, query, dict(self.headers), body))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - http.server finds them by these names

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


@pytest.fixture
def headers(tmp_path: Path) -> str:
    (tmp_path / "headers").write_text("X-Consul-Token: secret\nX-API-Key: secret\n")
    return str(tmp_path / "headers")


def at(recipe: str, address: str) -> dict[str, str]:
    """The recipe's options, with the stand-in's address for the usual one."""
    return {name: re.sub(r"127\.0\.0\.1:\d+", address, call) for name, call in RECIPES[recipe].items()}


APIS = {"consul": consul, "consul-register": consul, "nacos": nacos, "eureka": eureka, "powerdns": powerdns}


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "target-group"])
def test_the_recipe_takes_the_service_out_and_back(recipe: str, app: str, headers: str) -> None:
    registry = Registry(APIS[recipe])
    with standing(registry) as address:
        options = {**at(recipe, address), "hook-headers-file": headers, "quiet-limit": "20s"}
        with serve(app, grace_period="60s", **options) as proxy:  # type: ignore[arg-type]  # texts, all of them
            proxy.await_ready()
            if "on-ready" in options:
                wait_for(lambda: registry.in_service is True, "registration")
            proxy.ask("/drain?wait=0")
            wait_for(lambda: registry.in_service is False, "deregistration")
            proxy.ask("/drain")
            proxy.ask("/resume", "POST")
            wait_for(lambda: registry.in_service is True, "the way back")
            proxy.await_log("on-resume")
            assert proxy.status()["told"]["resume"]["result"] == "ok"
            if registry.address:
                assert registry.address.startswith("127.0.0.1")


def test_the_target_group_recipe_runs_the_providers_program(
    app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for `aws` that notes how it was called, in place of the real one's signed requests."""
    program, called = tmp_path / "aws", tmp_path / "called"
    program.write_text(f'#!/bin/sh\necho "$DRAINPROXY_OCCASION $*" >> {called}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with serve(app, grace_period="60s", **RECIPES["target-group"]) as proxy:  # type: ignore[arg-type]  # as above
        proxy.await_ready().await_log("on-ready")
        proxy.ask("/drain")
        proxy.ask("/resume", "POST")
        proxy.await_log("on-resume")
    calls = called.read_text().splitlines()
    assert [line.split()[:3] for line in calls] == [
        ["ready", "elbv2", "register-targets"],
        ["drain", "elbv2", "deregister-targets"],
        ["resume", "elbv2", "register-targets"],
    ]
    assert all(re.search(r"--targets Id=127\.0\.0\.1,Port=\d+$", line) for line in calls)


def test_every_recipe_is_tried() -> None:
    assert set(RECIPES) == {*APIS, "target-group"}


# What it means for the drain.


def test_the_floor_counts_from_the_success_and_attempts_are_repeated(app: str) -> None:
    registry = Registry(lambda *_: 200)
    registry.failures = 3
    with standing(registry) as address, serve(app, on_drain=f"PUT http://{address}/out", grace_period="60s") as proxy:
        summary = proxy.await_ready().ask("/drain").json
        told = summary["told"]
        assert (told["result"], told["attempts"], told["error"]) == ("ok", 4, None)
        assert told["took_s"] >= 0.7  # 100 + 200 + 400 ms between them
        assert summary["elapsed_s"] >= told["took_s"] + 0.3 + 0.2
        assert summary["elapsed_s"] < 5, "not from the limit"
        assert proxy.metric("drainproxy_hooks_total", hook="drain", result="ok") == 1


def test_a_registry_that_says_no_delays_the_floor_to_the_limit_and_no_longer(app: str) -> None:
    registry = Registry(lambda *_: 403)
    with (
        standing(registry) as address,
        serve(app, on_drain=f"PUT http://{address}/out", hook_limit="1s", grace_period="60s") as proxy,
    ):
        summary = proxy.await_ready().ask("/drain").json
        assert summary["told"]["result"] == "failed"
        assert summary["told"]["error"].startswith("403")
        assert summary["told"]["attempts"] >= 3
        assert 1.0 <= summary["elapsed_s"] < 5
        assert summary["outcome"] == "clean"
        assert proxy.logged("on-drain") is not None
        assert proxy.metric("drainproxy_hooks_total", hook="drain", result="failed") == 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("PUT http://127.0.0.1:1/out", "Cannot connect"),
        ("PUT http://no-such-host.invalid/out", "Cannot connect"),
        ("no-such-program --now", "cannot run no-such-program"),
        ("false", "false ended with 1"),
        ("sleep 60", "no answer in time"),
    ],
)
def test_whatever_goes_wrong_the_drain_goes_on_and_says_why(app: str, call: str, error: str) -> None:
    with serve(app, on_drain=call, hook_limit="1450ms", hook_timeout="1400ms", grace_period="60s") as proxy:
        summary = proxy.await_ready().ask("/drain").json
        assert error in summary["told"]["error"]
        assert summary["outcome"] == "clean"


def test_a_registry_that_never_answers_is_given_up_and_its_connection_closed(app: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        serve(
            app,
            on_drain=f"PUT http://127.0.0.1:{silent.getsockname()[1]}/out",
            hook_limit="900ms",
            hook_timeout="300ms",
            grace_period="60s",
        ) as proxy,
    ):
        summary = proxy.await_ready().ask("/drain").json
        assert summary["told"]["error"] == "no answer in time"
        assert 2 <= summary["told"]["attempts"] <= 3
        for _ in range(summary["told"]["attempts"]):
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(5)
                while connection.recv(65536):
                    pass


def test_requests_are_served_while_the_registry_is_being_told(app: str) -> None:
    registry = Registry(lambda *_: 503)
    with (
        standing(registry) as address,
        serve(app, on_drain=f"PUT http://{address}/out", hook_limit="3s", grace_period="60s") as proxy,
    ):
        proxy.await_ready().ask("/drain?wait=0")
        with urllib.request.urlopen(f"{proxy.url}/bytes/10", timeout=10) as answer:
            assert answer.status == 200
        assert proxy.status()["phase"] == "propagating"


def test_a_resume_ends_the_attempts_and_the_registry_hears_the_last_word(app: str) -> None:
    out = Registry(lambda *_: 503)
    back = Registry(lambda *_: 200)
    with (
        standing(out) as here,
        standing(back) as there,
        serve(
            app,
            on_drain=f"PUT http://{here}/out",
            on_resume=f"PUT http://{there}/back",
            hook_limit="15s",
            grace_period="60s",
        ) as proxy,
    ):
        proxy.await_ready().ask("/drain?wait=0")
        wait_for(lambda: out.asked, "the first attempt")
        proxy.ask("/resume", "POST")
        wait_for(lambda: back.asked, "the way back")
        proxy.await_log("on-resume")
        asked = len(out.asked)
        proxy.ask("/status")
        assert len(out.asked) == asked
        assert out.asked[-1].at < back.asked[0].at


def test_sigterm_tells_too(app: str) -> None:
    registry = Registry(lambda *_: 200)
    port = free_port()
    call = "PUT http://{}/$OCCASION/$ADDRESS/$PORT"
    with (
        standing(registry) as address,
        serve(app, listen=f"127.0.0.1:{port}", on_drain=call.format(address)) as proxy,
    ):
        proxy.await_ready().signal(signal.SIGTERM)
        assert proxy.wait() == 0
    assert [each.path for each in registry.asked] == [f"/drain/127.0.0.1/{port}"]


def test_ready_is_told_once(app: str) -> None:
    registry = Registry(lambda *_: 200)
    with standing(registry) as address, serve(app, on_ready=f"PUT http://{address}/in") as proxy:
        proxy.await_ready().await_log("on-ready")
        proxy.ask("/drain")
        proxy.ask("/resume", "POST")
        proxy.await_state("ready")
        assert len(registry.asked) == 1
        assert registry.asked[0].headers["User-Agent"] == f"drainproxy/{__version__}"


def test_headers_that_cannot_be_read_are_told(app: str, tmp_path: Path) -> None:
    with serve(
        app,
        on_drain="PUT http://127.0.0.1:1/x",
        hook_headers_file=str(tmp_path / "missing"),
        hook_limit="200ms",
        grace_period="60s",
    ) as proxy:
        told: Any = proxy.await_ready().ask("/drain").json["told"]
        assert "No such file" in told["error"]
