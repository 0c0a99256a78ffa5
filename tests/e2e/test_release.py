"""May the app stop before the floor? Only once ready siblings have answered; then nobody loses a request."""

from __future__ import annotations

import itertools
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.protocols.calls import KINDS, call, methods
from tests.e2e.protocols.conftest import grpc_app
from tests.e2e.test_successor import NOBODY, at, counted, get
from tests.support.apps import free_port, http_server, uvicorn
from tests.support.certificates import certificate
from tests.support.proxy import Proxy, serve, wait_for
from tests.support.scripted import Peer, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOOR = "6s"
FLOOR_S = 6.0
SLOW: dict[str, Any] = {"propagation_delay": FLOOR}
"""A floor that no test waits for by accident."""


@contextmanager
def replicas(app: str, other_app: str = "", *flags: str, **options: Any) -> Iterator[tuple[Proxy, Proxy]]:
    """A replica that will drain, and a ready one behind the Service; both in front of `app` unless told otherwise."""
    with serve(other_app or app, *flags, successor=NOBODY) as sibling:
        sibling.await_ready()
        with serve(app, *flags, successor=at(sibling), **(SLOW | options)) as proxy:
            yield proxy, sibling


def drain(proxy: Proxy) -> Any:
    """What `/status` says of its drain, which may not have begun yet."""
    return proxy.status()["drain"] or {"released": False, "successor": []}


@contextmanager
def hook(proxy: Proxy) -> Iterator[Any]:
    """The kubelet waits for `/drain`: its answer, in time."""
    with ThreadPoolExecutor(1) as one:
        yield one.submit(proxy.ask, "/drain")


def test_an_idle_app_may_stop_at_once_and_what_comes_later_is_answered_by_siblings(app: str) -> None:
    port = free_port()
    with replicas(f"127.0.0.1:{port}", app, final_scrape_wait="0") as (proxy, sibling), httpx.Client() as client:
        with http_server(port):
            proxy.await_ready()
            assert client.get(f"{proxy.url}/echo").status_code == 200
            began = time.monotonic()
            answer = proxy.ask("/drain")
            assert time.monotonic() - began < FLOOR_S / 2, "the app is not held until the floor"
            assert (answer.status, answer.json["outcome"]) == (200, "clean")
            assert proxy.status()["phase"] == "propagating", "the drain goes on"
        assert client.get(f"{proxy.url}/echo").status_code == 200, "on the connection that was there before"
        assert get(proxy).status_code == 200
        proxy.signal(signal.SIGTERM)
        assert get(proxy).status_code == 200
        assert proxy.wait() == 0
        assert time.monotonic() - began > FLOOR_S, "siblings are forwarded to until floor and quiet have passed"
        (line,) = [line for line in proxy.log if line["msg"] == "drain finished"]
        assert (line["outcome"], line["handed_over"], line["lost"]) == ("clean", 3, 0)
        assert line["let_go_s"] < FLOOR_S / 2
        assert sibling.metric("drainproxy_requests_total", method="GET", code="200") == 3


def test_what_is_in_flight_finishes_here_and_new_requests_are_answered_elsewhere(app: str) -> None:
    with http_server() as own, replicas(own, app) as (proxy, _), ThreadPoolExecutor(1) as one:
        proxy.await_ready()
        slow = one.submit(get, proxy, "/sleep/1.5")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "a request in flight")
        with hook(proxy) as answered:
            wait_for(lambda: drain(proxy)["released"], "siblings have answered")
            assert get(proxy, "/count?key=here").text == "0"
            assert not answered.done()
            assert httpx.get(f"http://{app}/count?key=here").text == "1", "the sibling's app had it"
            assert httpx.get(f"http://{own}/count?key=here").text == "0"
            assert slow.result().text == "slept 1.5\n"
            assert answered.result().status == 200
        assert proxy.status()["phase"] == "propagating"


def test_a_handed_over_upload_that_goes_on_does_not_hold_the_app(app: str) -> None:
    with replicas(app) as (proxy, _), socket.create_connection(proxy.address, timeout=20) as client:
        with hook(proxy.await_ready()) as answered:
            wait_for(lambda: drain(proxy)["released"], "siblings have answered")
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
            assert answered.result().status == 200
        client.sendall(b"cd")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@contextmanager
def unproven(app: str, successor: str, why: str, **options: Any) -> Iterator[Proxy]:
    """A replica whose drain goes the late way: its successor was asked, and the answer was no proof."""
    with serve(app, successor=successor, **(SLOW | options)) as proxy, hook(proxy.await_ready()) as answered:
        wait_for(lambda: drain(proxy)["successor"] == [why], f"an answer: {why}")
        assert drain(proxy)["released"] is False
        assert get(proxy).status_code == 200
        assert counted(proxy) == {}
        yield proxy
        assert not answered.done()
        proxy.signal(signal.SIGKILL)


def test_where_nobody_answers_the_app_serves_on(app: str) -> None:
    with unproven(app, NOBODY, "nobody"):
        pass


def test_a_successor_that_leads_back_to_this_pod_is_no_proof(app: str) -> None:
    port = free_port()
    with unproven(app, f"127.0.0.2:{port}", "ourselves", listen=f"0.0.0.0:{port}"):
        pass


def test_two_pods_that_drain_and_are_each_others_successor_serve_on(app: str) -> None:
    ports = free_port(), free_port()
    with serve(app, listen=f"127.0.0.1:{ports[1]}", successor=f"127.0.0.1:{ports[0]}", **SLOW) as second:
        second.await_ready().ask("/drain?wait=0")
        with unproven(app, f"127.0.0.1:{ports[1]}", "serving", listen=f"127.0.0.1:{ports[0]}"):
            wait_for(lambda: drain(second)["successor"] == ["serving"], "an answer")
            assert get(second).status_code == 200
            assert counted(second) == {}


def test_who_is_no_drainproxy_is_no_sibling_and_hears_nothing_but_a_ping(app: str) -> None:
    asked: list[bytes] = []

    def stranger(peer: Peer) -> None:
        asked.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with upstream(stranger) as address, unproven(app, address, "stranger"):
        assert asked[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


def silent(peer: Peer) -> None:
    while peer.sock.recv(100):
        pass


def test_who_accepts_and_never_answers_is_nobody(app: str) -> None:
    with upstream(silent) as address, unproven(app, address, "nobody"):
        pass


def test_a_drainproxy_of_another_workload_is_no_sibling(app: str) -> None:
    with (
        serve(app, successor=NOBODY, workload="shop/cart") as other,
        unproven(app, at(other.await_ready()), "stranger", workload="shop/web"),
    ):
        pass


def test_a_sibling_that_is_not_ready_is_no_proof_until_it_is(app: str) -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", successor=NOBODY) as sibling, serve(app, successor=at(sibling), **SLOW) as proxy:
        proxy.await_ready()
        with hook(proxy) as answered:
            wait_for(lambda: drain(proxy)["successor"] == ["gone"], "an answer")
            assert not answered.done()
            with http_server(port):
                assert answered.result().status == 200
                assert proxy.status()["phase"] == "propagating"


def test_when_the_sibling_goes_before_the_app_may_stop_the_app_is_asked_again(app: str) -> None:
    with ThreadPoolExecutor(1) as one, replicas(app) as (proxy, sibling):
        proxy.await_ready()
        one.submit(get, proxy, "/sleep/3")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "a request in flight")
        with hook(proxy) as answered:
            wait_for(lambda: drain(proxy)["released"], "siblings have answered")
            sibling.signal(signal.SIGKILL)
            assert get(proxy).status_code == 200, "the app lives"
            wait_for(lambda: not drain(proxy)["released"], "the proof is void")
            assert not answered.done()
            proxy.signal(signal.SIGKILL)


def test_as_a_classic_sidecar_sigterm_comes_first_and_the_app_may_stop_as_early(app: str) -> None:
    port = free_port()
    with replicas(f"127.0.0.1:{port}", app, propagation_delay="2s") as (proxy, _):
        with http_server(port):
            proxy.await_ready()
            proxy.signal(signal.SIGTERM)
            assert proxy.ask("/drain").json["elapsed_s"] < 1
        assert get(proxy).status_code == 200
        assert proxy.wait() == 0
        (line,) = [line for line in proxy.log if line["msg"] == "drain finished"]
        assert (line["trigger"], line["outcome"], line["handed_over"]) == ("sigterm", "clean", 1)


def test_late_is_as_ever(app: str) -> None:
    with replicas(app, release="late", propagation_delay="1s") as (proxy, _):
        assert proxy.await_ready().ask("/drain").json["elapsed_s"] > 1
        assert drain(proxy)["successor"] == []
        assert counted(proxy) == {}


def test_a_restart_of_the_app_after_it_was_let_go_calls_the_drain_off(app: str) -> None:
    port = free_port()
    with replicas(f"127.0.0.1:{port}", app) as (proxy, _):
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        wait_for(lambda: not proxy.status()["upstream"]["healthy"], "the app is seen to be gone")
        with http_server(port):
            proxy.await_state("ready")
            sent = counted(proxy).get("sent", 0)
            assert get(proxy).status_code == 200
            assert counted(proxy).get("sent", 0) == sent


def test_grpc_channels_that_open_late_are_served_by_a_sibling_as_a_whole() -> None:
    with grpc_app() as own, grpc_app() as other, replicas(own, other) as (proxy, sibling):
        with grpc.insecure_channel(at(proxy.await_ready())) as early:
            call(methods(early), "unary")
            assert proxy.ask("/drain").status == 200, "the channel was asked to go, and knows"
            with grpc.insecure_channel(at(proxy), options=[("grpc.use_local_subchannel_pool", 1)]) as late:
                for kind in KINDS:
                    call(methods(late), kind)
            call(methods(early), "unary")
        assert counted(proxy)["sent"] >= 2
        assert proxy.status()["drain"]["handed_over"] >= len(KINDS)
        assert sibling.status()["handed_over"]["sent"] == 0


def test_a_websocket_is_asked_to_go_before_the_floor_and_opens_again_at_a_sibling() -> None:
    with uvicorn() as own, uvicorn() as other, replicas(own, other) as (proxy, _):
        with connect(f"ws://{at(proxy.await_ready())}/ws") as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=10)
            with hook(proxy) as answered:
                with pytest.raises(ConnectionClosed) as closed:
                    websocket.recv(timeout=10)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001
                assert answered.result().status == 200
            assert proxy.status()["phase"] == "propagating"
        with connect(f"ws://{at(proxy)}/ws") as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=10)
        assert counted(proxy)["sent"] == 1


def tcp_route(address: str, listen: int, successor: str) -> str:
    return f"127.0.0.1:{listen}={address},protocol=tcp,successor={successor}"


@pytest.mark.parametrize("speaks_first", [False, True], ids=["the client speaks first", "the app speaks first"])
def test_tcp_connections_that_open_late_go_to_a_sibling_as_a_whole(speaks_first: bool) -> None:
    def app(name: bytes) -> Any:
        def script(peer: Peer) -> None:
            if speaks_first:
                peer.send(b"220 " + name)
            while data := peer.sock.recv(100):
                peer.send(name + data)

        return script

    ports = free_port(), free_port()
    with upstream(app(b"own ")) as own, upstream(app(b"other ")) as other:
        routes = tcp_route(own, ports[0], f"127.0.0.1:{ports[1]}"), tcp_route(other, ports[1], NOBODY)
        with serve(own, "--route", routes[0], **SLOW) as proxy, serve(own, "--route", routes[1]) as sibling:
            proxy.await_ready()
            sibling.await_ready()
            assert proxy.ask("/drain").status == 200
            with socket.create_connection(proxy.address, timeout=20) as client:
                if speaks_first:
                    assert client.recv(100) == b"220 other "
                client.sendall(b"hello")
                assert client.recv(100) == b"other hello"
            assert sibling.status()["handed_over"]["sent"] == 0


def test_late_requests_without_end_do_not_hold_the_app_and_none_is_lost(app: str) -> None:
    port, codes, stop = free_port(), list[int](), threading.Event()

    def pinned(url: str) -> None:
        with httpx.Client(timeout=20) as client:
            while not stop.is_set():
                codes.append(client.get(f"{url}/echo").status_code)

    options = {"propagation_delay": "500ms", "quiet_limit": "500ms"}
    with replicas(f"127.0.0.1:{port}", app, **options) as (proxy, _), ThreadPoolExecutor(4) as crowd:
        with http_server(port):
            proxy.await_ready()
            for _ in range(4):
                crowd.submit(pinned, proxy.url)
            wait_for(lambda: len(codes) > 100, "requests")
            assert proxy.ask("/drain").json["elapsed_s"] < 0.5
        proxy.signal(signal.SIGTERM)
        before = len(codes)
        wait_for(lambda: proxy.status()["drain"]["elapsed_s"] > 3, "long behind the quiet limit")
        assert proxy.alive
        assert len(codes) > before
        stop.set()
        assert proxy.wait() == 0
    assert set(codes) == {200}


def test_at_the_deadline_what_the_app_has_not_seen_is_answered_by_a_sibling(app: str) -> None:
    never = f"127.0.0.1:{free_port()}"
    patient: dict[str, Any] = {"successor_after": "60s", "connect_wait": "60s", "release": "late"}
    budget: dict[str, Any] = {"grace_period": "6s", "app_stop_time": "3s", "propagation_delay": "300ms"}
    with serve(app, successor=NOBODY) as sibling, serve(never, successor=at(sibling), **patient, **budget) as proxy:
        sibling.await_ready()
        with ThreadPoolExecutor(1) as one:
            held = one.submit(get, proxy)
            wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "a request that waits for the app")
            assert proxy.ask("/drain").json["cut_total"] == 0
            assert held.result().status_code == 200
        assert counted(proxy) == {"sent": 1}
        assert proxy.metric("drainproxy_handed_over_duration_seconds_count") == 1


@contextmanager
def tls_replicas(folder: Path, own: str, other: str, *flags: str, **options: Any) -> Iterator[tuple[Proxy, Proxy]]:
    """As `replicas`, with a certificate for localhost, which vouches for itself."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    for file, content in zip((cert, key), certificate("web"), strict=True):
        file.write_bytes(content)
    tls: dict[str, Any] = {"tls_cert": str(cert), "tls_key": str(key)}
    trust: dict[str, Any] = {"successor_ca": str(cert), "successor_name": "localhost"}
    with serve(other, *flags, successor=NOBODY, **tls) as sibling:
        more = tls | trust | SLOW | options
        with serve(own, *flags, successor=at(sibling.await_ready()), **more) as proxy:
            yield proxy, sibling


def tls_get(proxy: Proxy, folder: Path) -> httpx.Response:
    verify = ssl.create_default_context(cafile=folder / "tls.crt")
    return httpx.get(f"https://localhost:{proxy.address[1]}/bytes/100000", verify=verify, timeout=20)


def test_with_tls_siblings_are_asked_with_tls(app: str, tmp_path: Path) -> None:
    port = free_port()
    with tls_replicas(tmp_path, f"127.0.0.1:{port}", app) as (proxy, _):
        assert tls_get(proxy, tmp_path).content == tls_get(proxy, tmp_path).content, "the app is gone"
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        assert len(tls_get(proxy, tmp_path).content) == 100_000
        assert proxy.status()["phase"] == "propagating"
        assert counted(proxy)["sent"] == 3


def test_grpc_with_tls_goes_to_a_sibling_as_a_whole(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    for file, content in zip((cert, key), certificate("web"), strict=True):
        file.write_bytes(content)
    tls: dict[str, Any] = {"tls_cert": str(cert), "tls_key": str(key), "successor_ca": str(cert)}

    def route(app: str, mine: int, other: int) -> tuple[str, str]:
        return "--route", f"127.0.0.1:{mine}={app},protocol=http2,successor=localhost:{other}"

    with (
        grpc_app() as own,
        grpc_app() as theirs,
        serve(own, *route(own, *ports), **(tls | SLOW)) as proxy,
        serve(theirs, *route(theirs, *ports[::-1]), **tls) as sibling,
    ):
        sibling.await_ready()
        assert proxy.await_ready().ask("/drain").status == 200
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"localhost:{ports[0]}", credentials) as late:
            for kind in KINDS:
                call(methods(late), kind)
        assert counted(proxy)["sent"] >= 1
        assert proxy.status()["drain"]["handed_over"] == len(KINDS)


@pytest.mark.parametrize(
    ("options", "trouble"),
    [
        ({"successor_name": "other.example"}, "Hostname mismatch"),
        ({"successor_ca": ""}, "self-signed certificate"),
    ],
)
def test_a_certificate_that_is_not_the_siblings_is_no_proof_and_the_log_says_why(
    app: str, tmp_path: Path, options: dict[str, Any], trouble: str
) -> None:
    with tls_replicas(tmp_path, app, app, **options) as (proxy, _), hook(proxy.await_ready()):
        wait_for(lambda: drain(proxy)["successor"] == ["untrusted"], "an answer")
        assert len(tls_get(proxy, tmp_path).content) == 100_000
        told = [line["msg"] for line in proxy.log if line["level"] == "warning" and "TLS with" in line["msg"]]
        assert len(told) == 1, "once"
        assert trouble in told[0]
        proxy.signal(signal.SIGKILL)


def test_a_request_that_a_sibling_may_have_done_is_sent_to_nobody_else(app: str) -> None:
    with http_server() as theirs, replicas(app, theirs) as (proxy, sibling), ThreadPoolExecutor(1) as one:
        proxy.await_ready()
        with hook(proxy) as answered:
            assert answered.result().status == 200
        answer = one.submit(httpx.post, f"{proxy.url}/sleep/3?key=pay", timeout=20)
        asked = itertools.count()  # to ask counts, too
        wait_for(lambda: int(httpx.get(f"http://{theirs}/count?key=pay").text) - next(asked) == 1, "the payment there")
        sibling.signal(signal.SIGKILL)
        assert answer.result().status_code == 502
        assert httpx.get(f"http://{app}/count?key=pay").text == "0"
        assert int(httpx.get(f"http://{theirs}/count?key=pay").text) - next(asked) == 1


def test_a_sibling_that_is_killed_in_the_middle_of_its_answer_is_noticed_by_the_client(app: str) -> None:
    with replicas(app) as (proxy, sibling):
        proxy.await_ready()
        assert proxy.ask("/drain").status == 200
        with httpx.stream("GET", f"{proxy.url}/bytes/{1 << 30}", timeout=20) as answer:
            body = answer.iter_raw()
            next(body)
            sibling.signal(signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in body:
                    pass


def test_a_client_that_reads_slowly_gets_a_siblings_whole_answer_after_the_app_has_stopped(app: str) -> None:
    port, size = free_port(), 64 << 20  # more than the buffers of all sockets on the way hold
    with replicas(f"127.0.0.1:{port}", app, propagation_delay="500ms") as (proxy, _):
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        with httpx.stream("GET", f"{proxy.url}/bytes/{size}", timeout=20) as answer:
            body = answer.iter_raw(1 << 16)
            got = len(next(body))
            proxy.signal(signal.SIGTERM)
            wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
            got += sum(len(part) for part in body)
        assert got == size
        assert proxy.wait() == 0
