"""What does a piece of work cost: a request, a message, a connection, a MiB? One sample of one proxy under load."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.bench.client import client
from tests.bench.load import grpc_calls, h2load, small_gets, wrk, wrk_on_each
from tests.bench.peers import PLAIN, Job
from tests.bench.upstreams import FILES

if TYPE_CHECKING:
    from tests.bench.measurement import Figures
    from tests.bench.peers import Peer, Running
    from tests.bench.stage import Spent, Stage

MIB = 1 << 20
LATENCY_RATE = 2_000
BULK_CONNECTIONS = 4
HTTP2 = Job("http2")
STREAM_CONNECTIONS, STREAMS = 8, 16
VISITORS = 4
"""Threads that make TLS connections: while one of them waits for the proxy, another one has something to do."""


def per_request(spent: Spent, requests: float) -> Figures:
    """CPU of the proxy's process over the answers it gave; how many a second; how busy that kept its core."""
    return {
        "cpu_us": spent.cpu_s / requests * 1e6,
        "user_us": spent.user_s / requests * 1e6,
        "rate": requests / spent.wall_s,
        "busy": 100 * spent.cpu_s / spent.wall_s,
    }


def requests_http1(stage: Stage, peer: Peer, *, job: Job = PLAIN, close: bool = False) -> Figures:
    """Small GETs by wrk; on all ports at the same time if there are several."""

    def load(seconds: int) -> int:
        if len(proxy.ports) > 1:
            return wrk_on_each(stage, proxy.ports, seconds=seconds)
        return wrk(stage, proxy.port, seconds=seconds, tls=job.mode == "tls", close=close)

    with stage.proxy(peer, job=job) as proxy:
        if stage.pace.warm_s:
            load(stage.pace.warm_s)
        with stage.spending(proxy) as spent:
            requests = load(stage.pace.run_s)
        return per_request(spent, requests)


def requests_http2(stage: Stage, peer: Peer, *, grpc: bool = False) -> Figures:
    """Small GETs or unary gRPC calls by h2load."""
    with stage.proxy(peer, "grpc" if grpc else "http2", HTTP2) as proxy:
        if grpc:
            with client(stage, "grpc", port=proxy.port) as one_call:
                one_call.go()
        what = (grpc_calls if grpc else small_gets)(stage, proxy.port)
        if stage.pace.warm_s:
            h2load(stage, what, seconds=stage.pace.warm_s)
        with stage.spending(proxy) as spent:
            requests = h2load(stage, what, seconds=stage.pace.run_s)
        return per_request(spent, requests)


def grpc_stream(stage: Stage, peer: Peer) -> Figures:
    with (
        stage.proxy(peer, "stream", HTTP2) as proxy,
        client(
            stage,
            "stream",
            port=proxy.port,
            connections=STREAM_CONNECTIONS,
            streams=STREAMS,
            size=64,
            warm_s=0.3,
            run_s=stage.pace.bulk_s,
        ) as talk,
    ):
        with stage.spending(proxy) as spent:
            messages = talk.go()["messages"]
        return per_request(spent, messages)


def tls_connections(stage: Stage, peer: Peer) -> Figures:
    """The same client and process twice: with full handshakes, and with resumed sessions."""
    with stage.proxy(peer, job=Job("tls", resumption=True)) as proxy:
        spans = []
        for resumes in (False, True):
            run_s = stage.pace.bulk_s
            with (
                client(stage, "tls", port=proxy.port, visitors=VISITORS, resumes=resumes, run_s=run_s) as visitors,
                stage.spending(proxy) as spent,
            ):
                made = visitors.go()
            spans.append((made, per_request(spent, made["connections"])))
        (_, full), (made, resumed) = spans
        share = made["resumed"] / made["connections"]
        return {**resumed, "full_us": full["cpu_us"], "resumed": 100 * share}


def websocket(stage: Stage, peer: Peer) -> Figures:
    pace = stage.pace
    with (
        stage.proxy(peer, "app") as proxy,
        client(stage, "ws", port=proxy.port, connections=32, size=64, warm_s=0.3, run_s=pace.bulk_s) as talk,
    ):
        with stage.spending(proxy) as spent:
            messages = talk.go()["messages"]
        return per_request(spent, messages)


def per_mib(spent: Spent, moved_bytes: float, seconds: float, proxy: Running) -> Figures:
    """CPU of the proxy's process over the bodies it passed on; how many MiB a second; the most memory it had."""
    mebibytes = moved_bytes / MIB
    return {
        "cpu_us_mib": spent.cpu_s / mebibytes * 1e6,
        "rate": mebibytes / seconds,
        "busy": 100 * spent.cpu_s / spent.wall_s,
        "rss": proxy.measured.memory()["VmHWM"] / MIB,
    }


def bodies_http1(stage: Stage, peer: Peer, *, way: str, name: str) -> Figures:
    path, upstream = (f"/file/{name}", "http1") if way == "download" else ("/upload", "app")
    with (
        stage.proxy(peer, upstream) as proxy,
        client(
            stage,
            "bulk",
            port=proxy.port,
            connections=BULK_CONNECTIONS,
            way=way,
            path=path,
            size=FILES[name],
            run_s=stage.pace.bulk_s,
        ) as bulk,
    ):
        with stage.spending(proxy) as spent:
            moved = bulk.go()
        return per_mib(spent, moved["bytes"], moved["seconds"], proxy)


def bodies_http2(stage: Stage, peer: Peer, *, way: str, name: str) -> Figures:
    """What h2load leaves unfinished at its end is not counted: a few bodies of some hundred."""
    file = stage.upstreams.file(name)
    with stage.proxy(peer, "http2" if way == "download" else "upload2", HTTP2) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        what = [f"{url}/file/{name}"] if way == "download" else ["-d", str(file), f"{url}/upload"]
        load = partial(h2load, stage, what, connections=BULK_CONNECTIONS, streams=2)
        if stage.pace.warm_s:
            load(seconds=stage.pace.warm_s)
        with stage.spending(proxy) as spent:
            bodies = load(seconds=stage.pace.run_s)
        return per_mib(spent, bodies * FILES[name], spent.wall_s, proxy)


def latency(stage: Stage, peer: Peer) -> Figures:
    with (
        stage.proxy(peer) as proxy,
        client(
            stage,
            "steady",
            port=proxy.port,
            connections=32,
            rate=LATENCY_RATE,
            warm_s=stage.pace.warm_s,
            run_s=stage.pace.latency_s,
        ) as steady,
        stage.spending(proxy),
    ):
        figures = steady.go()
        return {key: figures[key] * 1e6 for key in ("p50", "p99", "p99.9", "late_p99")}
