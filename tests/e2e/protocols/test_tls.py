"""TLS: terminated with what the files say now, for curl, openssl and grpcio; a bad certificate is a clear sentence."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import websockets
from cryptography import x509

from tests.e2e.protocols.calls import KINDS, call, methods
from tests.e2e.protocols.conftest import grpc_app, nghttpd
from tests.e2e.protocols.test_websocket import ws_app
from tests.support.apps import http_server, need, nginx
from tests.support.certificates import certificate
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Secret:
    """A mounted Kubernetes Secret: files are links through `..data`, which is swapped in one step."""

    folder: Path
    version: int = 0

    @property
    def cert(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def options(self) -> dict[str, Any]:
        return {"tls-cert": str(self.cert), "tls-key": str(self.key)}

    def put(self, cert: bytes, key: bytes) -> None:
        """As the kubelet does it."""
        self.version += 1
        data = self.folder / f"..{self.version}"
        data.mkdir()
        (data / "tls.crt").write_bytes(cert)
        (data / "tls.key").write_bytes(key)
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(self.folder / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    folder = tmp_path / "secret"
    folder.mkdir()
    secret = Secret(folder)
    secret.put(*certificate("first"))
    return secret


@pytest.fixture(params=["uvloop", "stock"])
def https(request: pytest.FixtureRequest, secret: Secret) -> Iterator[Proxy]:
    """A ready proxy with TLS in front of the plain app. On both loops: each has a TLS of its own."""
    with http_server() as app, serve(app, stock_loop=request.param == "stock", **secret.options) as proxy:
        yield proxy.await_ready()


def trusting(proxy: Proxy, cert: bytes | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLSocket:
    """A client's connection."""
    context = ssl.create_default_context(cadata=cert.decode()) if cert else ssl._create_unverified_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context.wrap_socket(socket.create_connection(proxy.address, timeout=20), server_hostname="localhost")


def get(sock: ssl.SSLSocket) -> int:
    """One request on this connection; its status."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    response = http.client.HTTPResponse(sock)
    response.begin()
    response.read()
    return response.status


def name_shown(proxy: Proxy) -> str:
    """The name in the certificate that a new connection gets to see."""
    with trusting(proxy) as sock:
        shown = sock.getpeercert(binary_form=True)
    assert shown is not None
    return str(x509.load_der_x509_certificate(shown).subject.rdns[0].rfc4514_string().removeprefix("CN="))


def run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_curl_is_served_and_the_app_learns_that_it_was_https(https: Proxy, secret: Secret) -> None:
    host, port = https.address
    out = run(
        need("curl", "curl"), "-sS", "--cacert", str(secret.cert), "--connect-to", f"localhost:443:{host}:{port}",
        "-w", "\n%{http_version} %{http_code}", "https://localhost/headers",
    )  # fmt: skip
    assert out.endswith("\n1.1 200"), out
    assert ["X-Forwarded-Proto", "https"] in json.loads(out.rsplit("\n", 1)[0])["headers"]


def test_openssl_sees_modern_tls_only(https: Proxy) -> None:
    openssl = need("openssl", "openssl")
    target = "{}:{}".format(*https.address)
    assert "TLSv1.3" in run(openssl, "s_client", "-connect", target, "-brief")
    assert "TLSv1.2" in run(openssl, "s_client", "-connect", target, "-brief", "-tls1_2")
    old = run(openssl, "s_client", "-connect", target, "-brief", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "CONNECTION ESTABLISHED" not in old


def test_each_protocol_offers_its_own_alpn(secret: Secret, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"ok")
    with http_server() as http1, nghttpd(tmp_path) as http2:
        flags = [
            *("--route", f"127.0.0.1:0={http1}"),
            *("--route", f"127.0.0.1:0={http1},protocol=http1"),
            *("--route", f"127.0.0.1:0={http2},protocol=http2"),
            *("--route", f"127.0.0.1:0={http1},protocol=tcp"),
        ]
        with serve(http1, *flags, **secret.options) as proxy:
            proxy.await_ready()
            chosen = []
            for address in proxy.addresses:
                context = ssl._create_unverified_context()
                context.set_alpn_protocols(["h2", "http/1.1"])
                with context.wrap_socket(socket.create_connection(address, timeout=20)) as sock:
                    chosen.append(sock.selected_alpn_protocol())
            assert chosen == ["http/1.1", "http/1.1", "h2", None]
            host, port = proxy.addresses[2]
            out = run(
                need("curl", "curl"), "-sSk", "-w", "%{http_version} %{http_code}", f"https://{host}:{port}/small"
            )
            assert out == "ok2 200"


@pytest.mark.parametrize("kind", KINDS)
def test_grpcio_is_served(kind: str, secret: Secret) -> None:
    with grpc_app() as app:
        route = f"127.0.0.1:0={app},protocol=http2"
        with serve(app, "--route", route, **secret.options) as proxy:
            proxy.await_ready()
            trust = grpc.ssl_channel_credentials(secret.cert.read_bytes())
            options = [("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel("{}:{}".format(*proxy.address), trust, options=options) as channel:
                call(methods(channel), kind)


def test_large_bodies_pass_both_ways(https: Proxy, tmp_path: Path) -> None:
    size = 20 << 20
    body = tmp_path / "body"
    body.write_bytes(os.urandom(size))
    out = tmp_path / "out"
    url = "https://{}:{}".format(*https.address)
    curl = need("curl", "curl")
    assert json.loads(run(curl, "-sSk", "--data-binary", f"@{body}", url))["body"] == str(size)
    run(curl, "-sSk", "-o", str(out), f"{url}/bytes/{size}")
    assert out.read_bytes() == bytes(range(256)) * (size // 256)


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on(https: Proxy, secret: Secret) -> None:
    with trusting(https) as old:
        assert get(old) == 200
        assert name_shown(https) == "first"
        secret.put(*certificate("second"))
        wait_for(lambda: name_shown(https) == "second", "the new certificate")
        https.await_log("certificate read again")
        assert get(old) == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_also_those_from_before_a_new_certificate(
    https: Proxy, secret: Secret, version: ssl.TLSVersion
) -> None:
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version

    def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        plain = socket.create_connection(https.address, timeout=20)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
            assert get(sock) == 200  # by then the ticket has been read
            return sock.session, sock.session_reused

    session, reused = visit(None)
    assert not reused
    for _ in range(2):
        session, reused = visit(session)
        assert reused
    secret.put(*certificate("second"))
    wait_for(lambda: name_shown(https) == "second", "the new certificate")
    _, reused = visit(session)
    assert reused


def test_a_bad_certificate_keeps_the_old_and_says_so(https: Proxy, secret: Secret) -> None:
    cert, key = certificate("second")
    secret.put(cert, certificate("other")[1])
    said = https.await_log("certificate cannot be used: the old one stays")
    assert "tls.key" in said["reason"]
    assert name_shown(https) == "first"
    secret.put(cert, key)
    wait_for(lambda: name_shown(https) == "second", "the mended certificate")


FAULTS = {
    "no file": "--tls-cert",
    "no certificate": "--tls-cert",
    "no key": "--tls-key",
    "another key": "--tls-key",
    "a key with a password": "--tls-key",
    "a broken certificate": "--tls-cert",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_certificate_at_start_is_one_clear_line(fault: str, tmp_path: Path) -> None:
    cert, key = certificate("first")
    match fault:
        case "no certificate":
            cert = b"hello"
        case "no key":
            key = cert
        case "another key":
            key = certificate("other")[1]
        case "a key with a password":
            cert, key = certificate("first", b"secret")
        case "a broken certificate":
            cert = cert.replace(b"M", b"N", 3)
    (tmp_path / "crt").write_bytes(cert)
    (tmp_path / "key").write_bytes(key)
    path = tmp_path / ("missing" if fault == "no file" else "crt")
    command = [
        sys.executable, "-m", "drainproxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--tls-cert", str(path), "--tls-key", str(tmp_path / "key"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert FAULTS[fault] in last, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stock_loop", [False, True], ids=["uvloop", "stock"])
def test_clients_that_never_say_hello_count_as_connections_until_their_time_is_over(
    stock_loop: bool, secret: Secret
) -> None:
    limits = {"max_connections": "3", "header_timeout": "2s"}
    with http_server() as app, serve(app, stock_loop=stock_loop, **limits, **secret.options) as proxy:
        proxy.await_ready()
        assert proxy.is_accepting()
        silent = [socket.create_connection(proxy.address) for _ in range(3)]
        wait_for(lambda: not proxy.is_accepting(), "accepting to pause")
        counts = proxy.status()["connections"]
        assert (counts["handshakes"], counts["client"]) == (3, 0)
        with trusting(proxy) as fourth:
            assert get(fourth) == 200
        for each in silent:
            each.close()


def test_a_client_that_does_not_read_costs_little_and_what_it_cost_is_given_back(
    secret: Secret, tmp_path: Path
) -> None:
    """165 of them are to fit into the memory limit that inject writes, 256 MiB."""
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    with nginx(tmp_path) as app, serve(app, **secret.options) as proxy:
        before = proxy.await_ready().resident_kib()
        stalled = []
        for _ in range(40):
            sock = trusting(proxy)
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stalled.append(sock)
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 40, "all requests")
        wait_for(Steady(proxy), "memory to stand still")
        assert proxy.resident_kib() - before < 40 * 1024
        for sock in stalled:
            sock.close()
        wait_for(lambda: proxy.resident_kib() - before < 24 * 1024, "memory to be given back")


class Steady:
    """Whether memory has not grown since it was last asked."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._last = 0

    def __call__(self) -> bool:
        before, self._last = self._last, self._proxy.resident_kib()
        time.sleep(0.2)  # growth is what is looked for, so time has to pass
        return self._last <= before


def test_a_drain_with_tls_loses_nothing(https: Proxy) -> None:
    with trusting(https) as sock:
        sock.sendall(b"GET /sleep/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: https.status()["in_flight"]["http"] == 1, "the request")
        assert https.ask("/drain").status == 200
        got = b""
        while more := sock.recv(1 << 16):
            got += more
    assert got.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in got


async def test_a_websocket_over_tls_is_closed_with_1001_and_so_is_its_app(secret: Secret, tmp_path: Path) -> None:
    context = ssl.create_default_context(cadata=secret.cert.read_text())
    with ws_app(tmp_path) as app, serve(app.address, **secret.options) as proxy:
        host, port = proxy.await_ready().address
        async with websockets.connect("wss://localhost/", host=host, port=port, ssl=context) as client:
            await client.send("x" * 100_000)
            assert await client.recv() == "x" * 100_000
            answer = await asyncio.to_thread(proxy.ask, "/drain")
            assert answer.status == 200
            await client.wait_closed()
            assert client.close_code == 1001
        await asyncio.to_thread(wait_for, lambda: app.ends == ["1001 client"], "the app to see the end")
        assert proxy.metric("drainproxy_drain_aborted_total", kind="websocket", by="us") == 0
