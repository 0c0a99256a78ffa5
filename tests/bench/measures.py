"""What is measured? One small function a measurement: take one sample of one proxy, return its figures."""

from __future__ import annotations

import math
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.client import client
from tests.bench.drains import drain_busy, drain_idle
from tests.bench.host import BenchError
from tests.bench.load import h2load, wrk, wrk_in_background, wrk_result
from tests.bench.measurement import Figures, Goal, Measurement, Metric
from tests.bench.upstreams import FILES

if TYPE_CHECKING:
    from tests.bench.peers import Peer, Running
    from tests.bench.stage import Spent, Stage

RATE = Metric("rate", "requests/s", "", 0)
BUSY = Metric("busy", "core busy", "%", 0)
CPU = Metric("cpu_us", "CPU per request", "µs", 1, ratio=True)
PER_REQUEST = (CPU, Metric("user_us", "of it in user space", "µs"), RATE, BUSY)
MIB = 1 << 20
CONNECTS_PER_S = 2_000
"""So fast at least are all connections open: more than an accept queue holds are tried again after a second."""
APP_RATE = 20_000
"""Requests a second that the Python app is asked for at most."""
LATENCY_RATE = 2_000
SETTLE_S = 0.3
BULK_CONNECTIONS = 4


def per_request(spent: Spent, requests: float) -> Figures:
    """CPU of the proxy's process over the answers it gave; how many a second; how busy that kept its core."""
    return {
        "cpu_us": spent.cpu_s / requests * 1e6,
        "user_us": spent.user_s / requests * 1e6,
        "rate": requests / spent.wall_s,
        "busy": 100 * spent.cpu_s / spent.wall_s,
    }


# --- CPU per request, as fast as it goes ----------------------------------------------------------------------------


def _wrk(stage: Stage, peer: Peer, *, tls: bool = False, close: bool = False) -> Figures:
    with stage.proxy(peer, mode="tls" if tls else "http1") as proxy:
        if stage.pace.warm_s:
            wrk(stage, proxy.port, seconds=stage.pace.warm_s, tls=tls, close=close)
        with stage.spending(proxy) as spent:
            requests = wrk(stage, proxy.port, seconds=stage.pace.run_s, tls=tls, close=close)
        return per_request(spent, requests)


def _h2load(stage: Stage, peer: Peer, *, grpc: bool = False) -> Figures:
    with stage.proxy(peer, "grpc" if grpc else "http2", "http2") as proxy:
        if grpc:
            with client(stage, "grpc", port=proxy.port) as one_call:
                one_call.go()
        if stage.pace.warm_s:
            h2load(stage, proxy.port, seconds=stage.pace.warm_s, grpc=grpc)
        with stage.spending(proxy) as spent:
            requests = h2load(stage, proxy.port, seconds=stage.pace.run_s, grpc=grpc)
        return per_request(spent, requests)


def websocket(stage: Stage, peer: Peer) -> Figures:
    pace = stage.pace
    with (
        stage.proxy(peer, "app") as proxy,
        client(stage, "ws", port=proxy.port, connections=32, size=64, warm_s=0.3, run_s=pace.bulk_s) as talk,
    ):
        with stage.spending(proxy) as spent:
            messages = talk.go()["messages"]
        return per_request(spent, messages)


# --- large bodies -------------------------------------------------------------------------------------------------


def _bulk(stage: Stage, peer: Peer, *, way: str, name: str) -> Figures:
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
        mebibytes = moved["bytes"] / MIB
        return {
            "cpu_us_mib": spent.cpu_s / mebibytes * 1e6,
            "rate": mebibytes / moved["seconds"],
            "busy": 100 * spent.cpu_s / spent.wall_s,
            "rss": proxy.measured.memory()["VmHWM"] / MIB,
        }


# --- latency and growth -------------------------------------------------------------------------------------------


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


def _step(stage: Stage, proxy: Running, upstream: str, connections: int, path: str) -> Figures:
    """Counted at the upstream while wrk works, so that opening the connections is not in the figures."""
    settle_s = stage.pace.settle_s + connections / CONNECTS_PER_S
    seconds = math.ceil(settle_s + stage.pace.step_s + 0.5)
    load = wrk_in_background(stage, proxy.port, seconds=seconds, connections=connections, path=path)
    try:
        time.sleep(settle_s)
        with stage.spending(proxy) as spent:
            before = stage.upstreams.requests(upstream)
            time.sleep(stage.pace.step_s)
            requests = stage.upstreams.requests(upstream) - before
        load.child.wait(seconds + 30)
        # wrk opens all connections at once. What the accept queue does not hold may be reset, and wrk tries again.
        _, errors = wrk_result(load.log.read_text(), allowed=connections)
    except subprocess.TimeoutExpired as late:
        raise BenchError("wrk did not end") from late
    finally:
        load.stop()
    return {"cpu_us": spent.cpu_s / max(requests, 1) * 1e6, "rate": requests / spent.wall_s, "errors": errors}


def _curve(steps: dict[int, Figures]) -> Figures:
    """Points `KEY@STEP`, and how far the CPU per request strays from the middle between 10 and 5 000."""
    inner = [figures["cpu_us"] for step, figures in steps.items() if 10 <= step <= 5_000]
    swing = 100 * (max(inner) - min(inner)) / (max(inner) + min(inner))
    points = {f"{key}@{step}": value for step, figures in steps.items() for key, value in figures.items()}
    return points | {"swing": swing}


def growth_connections(stage: Stage, peer: Peer) -> Figures:
    with stage.proxy(peer) as proxy:
        return _curve({step: _step(stage, proxy, "http1", step, "") for step in stage.pace.connection_steps})


def growth_in_flight(stage: Stage, peer: Peer) -> Figures:
    """The app answers so late that about `step` requests are open at the rate that it can keep up."""
    with stage.proxy(peer, "app") as proxy:
        steps = {}
        for step in stage.pace.in_flight_steps:
            delay_ms = 1000 * step // APP_RATE
            steps[step] = _step(stage, proxy, "app", step, f"/delay/{delay_ms}")
        return _curve(steps)


# --- memory and start ---------------------------------------------------------------------------------------------


def memory_idle(stage: Stage, peer: Peer) -> Figures:
    with stage.proxy(peer) as proxy:
        time.sleep(SETTLE_S)
        memory = proxy.measured.memory()
        return {"rss": memory["VmRSS"] / MIB, "own": memory["RssAnon"] / MIB}


def memory_load(stage: Stage, peer: Peer) -> Figures:
    with stage.proxy(peer) as proxy:
        wrk(stage, proxy.port, seconds=stage.pace.run_s)
        memory = proxy.measured.memory()
        return {"rss": memory["VmHWM"] / MIB, "own": memory["RssAnon"] / MIB}


def memory_connections(stage: Stage, peer: Peer) -> Figures:
    """Idle keep-alive connections that have each had one answer."""
    count = stage.pace.idle_connections
    with stage.proxy(peer) as proxy:
        before = proxy.measured.memory()["VmRSS"]
        with client(stage, "hold", port=proxy.port, connections=count, slow_path="", timeout_s=0):
            time.sleep(SETTLE_S)
            memory = proxy.measured.memory()
        return {
            "rss": memory["VmRSS"] / MIB,
            "own": memory["RssAnon"] / MIB,
            "connections": count,
            "kib_1000": (memory["VmRSS"] - before) / 1024 / (count / 1000),
        }


def memory_many(stage: Stage, peer: Peer) -> Figures:
    """Growth from a tenth of the requests to all of them: caches and pools are full by then, what grows is a leak."""
    total = stage.pace.many_requests
    with stage.proxy(peer) as proxy:
        requests = 0
        while requests < total / 10:
            requests += wrk(stage, proxy.port, seconds=1)
        early, early_at = proxy.measured.memory()["VmRSS"], requests
        while requests < total:
            requests += wrk(stage, proxy.port, seconds=5 if total > 10 * requests else 1)
        late = proxy.measured.memory()["VmRSS"]
        return {"growth": (late - early) / 1024, "requests": requests - early_at, "rss": late / MIB}


def start(stage: Stage, peer: Peer) -> Figures:
    """A second process: the first one has filled the page cache, and Python's cache of compiled files."""
    with stage.proxy(peer):
        pass
    with stage.proxy(peer) as proxy:
        return {"ready_ms": proxy.ready_after_s * 1000, "cpu_ms": proxy.measured.cpu_s() * 1000}


BODY = (
    Metric("cpu_us_mib", "CPU per MiB", "µs", 0, ratio=True),
    Metric("rate", "MiB/s", "", 0),
    BUSY,
    Metric("rss", "resident at most", "MiB", 0),
)
RSS = Metric("rss", "resident", "MiB", 1, ratio=True)
OWN = Metric("own", "of it private", "MiB", 1)
CURVE = (
    CPU,
    Metric("swing", "CPU strays from the middle, 10 to 5 000", "±%", 1),
)
WRK = "wrk, 32 connections, as fast as it goes; path and ten header values differ in every request"
H2LOAD = "h2load, 8 connections x 16 streams, as fast as it goes; the path differs from request to request"
ALL = ("drainproxy", "envoy", "haproxy", "nginx")


def _body(way: str, name: str, *, goal: bool) -> Measurement:
    goals = (Goal("cpu_us_mib", 0.9, 0.7),) if goal else ()
    return Measurement(
        f"{way}-{name.lower()}",
        f"{way.capitalize()}s of {name}",
        f"{BULK_CONNECTIONS} keep-alive connections, one {way} after the other on each",
        BODY,
        partial(_bulk, way=way, name=name),
        goals=goals,
    )


MEASUREMENTS = (
    Measurement(
        "http1-small", "HTTP/1: small GET, keep-alive", WRK, PER_REQUEST, _wrk, goals=(Goal("cpu_us", 0.65, 0.5),)
    ),
    Measurement(
        "http1-connect",
        "HTTP/1: a new connection for each request",
        WRK + "; every request says Connection: close",
        PER_REQUEST,
        partial(_wrk, close=True),
        goals=(Goal("cpu_us", 0.9, 0.7),),
    ),
    Measurement(
        "http2-small",
        "HTTP/2: small GET",
        H2LOAD + "; the upstream speaks HTTP/2 (nginx: as grpc_pass)",
        PER_REQUEST,
        _h2load,
        goals=(Goal("cpu_us", 0.35, 0.25),),
    ),
    Measurement(
        "grpc",
        "gRPC: unary call of 16 bytes",
        "h2load, 8 connections x 16 streams; the upstream is a grpcio server, which is the slowest part",
        PER_REQUEST,
        partial(_h2load, grpc=True),
    ),
    Measurement(
        "websocket",
        "WebSocket: 64-byte message there and back",
        "32 connections, each sends the next message when it has the echo; a request is a round trip here",
        PER_REQUEST,
        websocket,
        goals=(Goal("cpu_us", 0.9, 0.6),),
    ),
    Measurement("tls-small", "TLS: small GET, keep-alive", WRK + "; P-256", PER_REQUEST, partial(_wrk, tls=True)),
    Measurement(
        "tls-connect",
        "TLS: a new connection for each request",
        WRK + "; every request says Connection: close, full handshakes with a P-256 certificate",
        PER_REQUEST,
        partial(_wrk, tls=True, close=True),
    ),
    *(_body(way, name, goal=name != "64KiB") for way in ("download", "upload") for name in FILES),
    Measurement(
        "latency",
        f"Latency at {LATENCY_RATE} requests/s",
        "open loop over 32 keep-alive connections: latency counts from when a request was due; "
        "`direct` is the upstream without a proxy",
        (
            Metric("p99", "p99", "µs", 0, ratio=True),
            Metric("p50", "p50", "µs", 0),
            Metric("p99.9", "p99.9", "µs", 0),
            Metric("late_p99", "client sent late by, p99", "µs", 0),
        ),
        latency,
        peers=(*ALL, "direct"),
        goals=(Goal("p99", 1.2, 1.0),),
    ),
    Measurement(
        "connections",
        "CPU as connections grow",
        "wrk, as fast as it goes, on so many keep-alive connections; counted once all are open",
        CURVE,
        growth_connections,
        goals=(Goal("swing", 10, 5, to=""),),
        curve="connections",
    ),
    Measurement(
        "in-flight",
        "CPU as open requests grow",
        "wrk; the app answers later the more connections there are, so that so many requests are open all the time",
        CURVE,
        growth_in_flight,
        goals=(Goal("swing", 10, 5, to=""),),
        curve="requests in flight",
    ),
    Measurement(
        "memory-idle",
        "Memory: just started",
        "resident set after the first answer",
        (RSS, OWN),
        memory_idle,
        goals=(Goal("rss", 0.7, 0.5),),
    ),
    Measurement(
        "memory-load", "Memory: under load", "largest resident set during http1-small", (RSS, OWN), memory_load
    ),
    Measurement(
        "memory-connections",
        "Memory: 10 000 idle connections",
        "keep-alive connections that have each had one answer; fewer where the limit of open files is below 20 200; "
        "the kernel's socket buffers are not in it",
        (RSS, OWN, Metric("connections", "connections", "", 0), Metric("kib_1000", "KiB for 1 000 of them", "", 0)),
        memory_connections,
        goals=(Goal("rss", 1.0, 0.7),),
    ),
    Measurement(
        "memory-many",
        "Memory: growth over a million requests",
        "as http1-small; from a tenth of the requests to all of them",
        (
            Metric("growth", "growth KiB", "", 0),
            Metric("requests", "requests", "", 0),
            Metric("rss", "resident", "MiB", 1),
        ),
        memory_many,
        goals=(Goal("growth", 256, 0, to=""),),
        only_long=True,
    ),
    Measurement(
        "start",
        "Start: exec to the first answer",
        "the app is up; drainproxy and Envoy must also say that they are ready",
        (Metric("ready_ms", "ready after", "ms", 0, ratio=True), Metric("cpu_ms", "CPU", "ms", 0)),
        start,
        goals=(Goal("ready_ms", 500, 300, to=""),),
    ),
    Measurement(
        "drain-idle",
        "Drain: idle connections",
        "10 000 keep-alive connections (fewer where the limit of open files is below 20 200); "
        "--propagation-delay 1s --quiet-period 100ms --close-spread 0",
        (
            Metric("connections", "connections", "", 0),
            Metric("closed_s", "last one closed after the floor", "s", 3),
            Metric("answer_s", "/drain answered after the floor", "s", 3),
            Metric("left_open", "left open", "", 0),
        ),
        drain_idle,
        peers=("drainproxy",),
        goals=(Goal("closed_s", 1.0, 0.5, to=""),),
    ),
    Measurement(
        "drain-busy",
        "Drain: busy connections",
        "1 000 requests that take 3 s, all open at the trigger; the same options",
        (
            Metric("connections", "requests open", "", 0),
            Metric("answered", "answered", "", 0),
            Metric("cut", "cut", "", 0),
            Metric("answer_s", "/drain answered after the last one", "s", 3),
        ),
        drain_busy,
        peers=("drainproxy",),
        goals=(Goal("cut", 0, 0, to=""),),
    ),
)
