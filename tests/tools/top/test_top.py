"""Does `top` show what each Pod does, who has gone, and why one says nothing?"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from drainproxy.cli import cli
from drainproxy.drain.phase import Trigger
from drainproxy.observe.documents import status
from drainproxy.tools.top.rows import Row, lines, ordered, row, summed
from drainproxy.tools.top.sources import pods_to_ask
from drainproxy.tools.top.view import REMEMBERED_S, View
from tests.support.apps import http_server
from tests.support.control import ScriptedControl
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["top", *arguments])


def a_row(pod: str = "web-1", state: str = "ready", **more: Any) -> Row:
    return Row("shop", pod, "web", state, **more)


# Rows.


def test_a_row_tells_what_the_status_tells() -> None:
    control = ScriptedControl()
    control.open("/report")
    control.tick(3)
    assert row("shop", "web-1", "web", status(control)).state == "ready"
    control.drain(Trigger.HTTP)
    control.tick(6)
    control.end(control.open())
    shown = row("shop", "web-1", "web", status(control))
    assert (shown.state, shown.phase, shown.in_flight, shown.oldest_s) == ("draining", "finishing", 1, 9)
    assert (shown.drain_s, shown.deadline_in_s, shown.late, shown.outcome) == (6, 18, 1, None)
    control.wait(20)
    shown = row("shop", "web-1", "web", status(control))
    assert (shown.state, shown.outcome, shown.deadline_in_s) == ("drained", "forced", None)


def test_a_document_that_is_not_a_status_is_refused() -> None:
    with pytest.raises((KeyError, TypeError)):
        row("shop", "web-1", "web", {"state": "ready"})


def test_columns_without_content_are_left_out() -> None:
    head, line = lines([a_row(version="1.0", in_flight=2)])
    assert head.split() == ["NAMESPACE", "POD", "STATE", "IN", "FLIGHT", "VERSION"]
    assert line.split() == ["shop", "web-1", "ready", "2", "1.0"]


def test_rows_are_sorted_by_what_matters_and_those_without_come_last() -> None:
    rows = [
        a_row("idle", in_flight=0),
        a_row("busy", in_flight=9, oldest_s=1),
        a_row("late", "draining", in_flight=1, oldest_s=30, deadline_in_s=2),
        a_row("soon", "draining", in_flight=1, oldest_s=3, deadline_in_s=20),
        a_row("silent", "no answer"),
    ]

    def names(by: str) -> list[str]:
        return [each.pod for each in ordered(rows, by)]

    assert names("state") == ["late", "soon", "silent", "busy", "idle"]
    assert names("in-flight") == ["busy", "late", "soon", "idle", "silent"]
    assert names("oldest") == ["late", "soon", "busy", "idle", "silent"]
    assert names("deadline")[:2] == ["late", "soon"]
    assert names("pod") == sorted(names("pod"))
    assert summed(rows) == "5 Pods: 2 draining, 1 no answer, 2 ready; 11 in flight"


# What is remembered.


def test_a_pod_that_has_gone_is_shown_for_a_while_with_what_it_said_last() -> None:
    view = View()
    view.update([a_row(state="drained", outcome="clean", drain_s=6.9), a_row("web-2")], 0)
    gone = next(each for each in view.update([a_row("web-2")], 1) if each.pod == "web-1")
    assert (gone.state, gone.outcome, gone.drain_s) == ("gone", "clean", 6.9)
    assert len(view.update([a_row("web-2")], REMEMBERED_S)) == 2
    assert len(view.update([a_row("web-2")], REMEMBERED_S + 1.5)) == 1


def test_a_pod_that_comes_back_is_not_gone() -> None:
    view = View()
    view.update([a_row()], 0)
    view.update([], 1)
    assert [each.state for each in view.update([a_row()], 2)] == ["ready"]


def test_a_drained_pod_that_answers_no_more_keeps_its_outcome() -> None:
    view = View()
    view.update([a_row(state="drained", outcome="forced")], 0)
    (shown,) = view.update([a_row(state="no answer", error="connection refused")], 1)
    assert (shown.state, shown.outcome, shown.error) == ("no answer", "forced", "connection refused")


# Which Pods.


def pod(name: str, port: int | None, phase: str = "Running", *, native: bool = True) -> dict[str, Any]:
    """As the API tells of it, with as much as matters here."""
    ports = [{"name": "drain-admin", "containerPort": port}] if port else [{"containerPort": 8080}]
    containers = {"initContainers" if native else "containers": [{"name": "drainproxy", "ports": ports}]}
    owner = {"kind": "ReplicaSet", "name": "web-5d9f", "controller": True}
    meta = {"name": name, "namespace": "shop", "labels": {"pod-template-hash": "5d9f"}, "ownerReferences": [owner]}
    return {"kind": "Pod", "metadata": meta, "spec": containers, "status": {"phase": phase}}


def test_pods_with_drainproxy_are_asked_on_their_admin_port() -> None:
    found = [pod("a", 9081), pod("b", 9181, native=False), pod("c", None), pod("d", 9081, "Succeeded")]
    asked = pods_to_ask({"items": found})
    assert [(each.pod, each.workload) for each in asked] == [("a", "web"), ("b", "web")]
    assert asked[1].status == "/api/v1/namespaces/shop/pods/b:9181/proxy/status"


# The command, on real drainproxies.


@pytest.fixture(scope="module")
def proxies() -> Iterator[list[Proxy]]:
    """Three that are ready."""
    with http_server() as app, ExitStack() as all_of_them:
        yield [all_of_them.enter_context(serve(app)).await_ready() for _ in range(3)]


def addresses(proxies: list[Proxy]) -> list[str]:
    return [each.admin.removeprefix("http://") for each in proxies]


def test_once_shows_those_that_answer_and_why_one_does_not(proxies: list[Proxy]) -> None:
    done = run(*addresses(proxies), "127.0.0.1:1", "--once")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("4 Pods: 1 no answer, 3 ready; 0 in flight\n")
    assert "Cannot connect" in done.output


def test_json_is_one_document_a_look(proxies: list[Proxy]) -> None:
    done = run(*addresses(proxies), "--once", "--json", "--sort", "pod")
    (document,) = [json.loads(line) for line in done.output.splitlines()]
    assert [each["pod"] for each in document["pods"]] == sorted(addresses(proxies))
    assert {each["state"] for each in document["pods"]} == {"ready"}


@contextmanager
def api_of(proxies: list[Proxy], token: str = "") -> Iterator[str]:
    """An API server with as much as `top` uses: a list of Pods, and requests passed on to them."""
    pods = {f"web-5d9f-{n}": each.admin for n, each in enumerate(proxies)}

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.say(401, {"message": "Unauthorized"})
            elif self.path.partition("?")[0] in ("/api/v1/namespaces/shop/pods", "/api/v1/pods"):
                self.say(200, {"kind": "PodList", "items": [pod(name, 9081) for name in [*pods, "web-5d9f-dead"]]})
            elif self.path.endswith("/proxy/status"):
                self.pass_on(self.path.split("/")[-3].partition(":")[0])
            else:
                self.say(404, {"message": f"no {self.path}"})

        def pass_on(self, name: str) -> None:
            try:
                with urllib.request.urlopen(pods[name] + "/status", timeout=5) as answer:
                    self.say(200, json.load(answer))
            except (KeyError, urllib.error.URLError):
                self.say(503, {"message": "error trying to reach service: connection refused"})

        def say(self, code: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_the_api_asks_the_pods_for_us(proxies: list[Proxy], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with api_of(proxies, "secret") as url:
        done = run("--api", url, "-n", "shop", "--token-file", str(tmp_path / "token"), "--once")
        refused = run("--api", url, "-n", "shop", "--once")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("4 Pods: 1 no answer, 3 ready;")
    assert "503 error trying to reach service" in done.output
    assert refused.exit_code == 1
    assert "the API answers 401" in str(refused.exception)


@pytest.mark.debian
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: `top` is NOT tested with it")
def test_kubectl_leads_there_and_nothing_of_it_is_left(
    proxies: list[Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_of(proxies) as url:
        context = {"cluster": "c", "namespace": "shop"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "contexts": [{"name": "x", "context": context}],
            "current-context": "x",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        done = run("--once", "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        states = {each["pod"]: each["state"] for each in json.loads(done.output)["pods"]}
        assert states == {f"web-5d9f-{n}": "ready" for n in range(3)} | {"web-5d9f-dead": "no answer"}
        missing = run("--once", "--context", "nowhere")
    assert missing.exit_code == 1
    assert "nowhere" in str(missing.exception)
    assert [each.name for each in tmp_path.iterdir()] == ["config"]


def test_a_terminal_shows_a_drain_live_and_keys_sort_and_quit() -> None:
    with http_server() as app, serve(app, propagation_delay="60s", grace_period="90s") as proxy:
        proxy.await_ready()
        screen, terminal = pty.openpty()
        command = [sys.executable, "-m", "drainproxy", "top", *addresses([proxy]), "--every", "100ms"]
        top = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE)
        os.close(terminal)
        seen = b""
        try:

            def shows(text: bytes) -> bool:
                nonlocal seen
                seen += os.read(screen, 65536)
                return text in seen

            wait_for(lambda: shows(b"1 ready"), "the first look")
            proxy.ask("/drain?wait=0")
            wait_for(lambda: shows(b"propagating"), "the drain")
            os.write(screen, b"oq")
            reader = threading.Thread(target=_drain_screen, args=(screen,), daemon=True)
            reader.start()
            assert top.wait(20) == 0
        finally:
            top.kill()
            top.wait()
            os.close(screen)
        assert top.stderr is not None
        assert top.stderr.read() == b""
        top.stderr.close()


def _drain_screen(screen: int) -> None:
    """Whatever else is written: a terminal that nobody reads would stop the command."""
    try:
        while os.read(screen, 65536):
            pass
    except OSError:
        return


def test_ctrl_c_ends_it_quietly(proxies: list[Proxy]) -> None:
    command = [sys.executable, "-m", "drainproxy", "top", *addresses(proxies), "--every", "50ms", "--json"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        top = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with top:
        assert top.stdout is not None
        assert json.loads(top.stdout.readline())["pods"]
        started = time.monotonic()
        top.send_signal(signal.SIGINT)
        _, said = top.communicate(timeout=20)
    assert (top.returncode, said) == (0, "")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-n", "a", "-A"), "either -n or -A"),
        (("h:1", "-n", "a"), "either HOST:PORT or a cluster"),
        (("--api", "ftp://x"), "expected http://"),
        (("--every", "soon"), "expected a duration"),
        (("--api", "http://x", "--token-file", "nowhere"), "a file that can be read"),
    ],
)
def test_bad_usage_is_told(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, "--once")
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)
