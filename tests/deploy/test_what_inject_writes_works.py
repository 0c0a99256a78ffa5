"""Does the proxy do what inject's manifest asks of it? The sidecar's environment and the hook's call, for real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.hooks import read_hook
from drainproxy.tools.manifest.inject import inject
from drainproxy.tools.manifest.objects import resources, workloads
from drainproxy.tools.manifest.sidecar import find
from drainproxy.tools.manifest.source import File, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = (Path(__file__).parents[1] / "unit" / "tools" / "manifest" / "manifests" / "deployment.yaml").read_text()
PATIENCE_S = 20.0


def address_of_this_machine() -> str | None:
    """An address that is not loopback, as the kubelet uses the Pod's; no packet is sent to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = str(probe.getsockname()[0])
    return None if found.startswith("127.") else found


ADDRESS = address_of_this_machine()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


class App(BaseHTTPRequestHandler):
    """An app nobody modified."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


def status(port: int, path: str, host: str = "127.0.0.1", headers: dict[str, str] | None = None) -> int:
    """The status of one GET; 0 where nobody answers."""
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.fixture
def app_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(
    ADDRESS is None, reason="this machine has loopback only: the hook's call cannot be made as the kubelet does"
)
def test_the_sidecar_starts_and_the_hooks_call_waits_for_the_drain(app_port: int, tmp_path: Path) -> None:
    assert ADDRESS is not None
    quick = {"propagation-delay": "100ms", "quiet-period": "100ms"}
    text = MANIFEST.replace("8080", str(app_port))
    injected = inject([File("m", text)], Options(new_token=lambda: "t0ken", settings=quick)).files[0].text
    workload = workloads(resources([parse("m", injected)]))[0]
    sidecar = find(workload)
    assert sidecar is not None
    data, admin = free_port(), free_port()
    environment = {each["name"]: each["value"] for each in sidecar.container["env"]}
    moved = {"DRAINPROXY_LISTEN": f":{data}", "DRAINPROXY_ADMIN": f":{admin}"}  # the defaults may be taken here
    log = tmp_path / "log"
    with log.open("wb") as output:
        proxy = subprocess.Popen(
            [sys.executable, "-m", "drainproxy", "serve"],
            env={**os.environ, **environment, **moved},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        readiness = sidecar.container["readinessProbe"]["httpGet"]["path"]
        while status(admin, readiness) != 200:
            assert proxy.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        for probe in ("startupProbe", "livenessProbe"):
            assert status(admin, sidecar.container[probe]["httpGet"]["path"]) == 200
        assert status(data, "/") == 200
        hook = read_hook(workload.containers[0])
        assert hook.http is not None
        headers = {each["name"]: each["value"] for each in hook.http["httpHeaders"]}
        assert status(admin, hook.http["path"], ADDRESS) == 401
        assert status(admin, readiness) == 200, "a refused call drains nothing"
        assert status(admin, hook.http["path"], ADDRESS, headers) == 200
        assert status(admin, readiness) == 503
        assert status(admin, hook.http["path"]) == 200, "over loopback it needs no token"
    finally:
        proxy.kill()
        proxy.wait()
