"""What is measured? A table: a name, what a reader is told, the figures, and the function that takes a sample."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tests.bench.drains import LEAVE, drain_busy, drain_idle, drain_under_load
from tests.bench.footprint import memory_connections, memory_idle, memory_load, memory_many, start
from tests.bench.growth import growth_connections, growth_in_flight
from tests.bench.measurement import Goal, Measurement, Metric
from tests.bench.peers import Job
from tests.bench.work import (
    BULK_CONNECTIONS,
    LATENCY_RATE,
    STREAM_CONNECTIONS,
    STREAMS,
    VISITORS,
    bodies_http1,
    bodies_http2,
    grpc_stream,
    latency,
    requests_http1,
    requests_http2,
    tls_connections,
    websocket,
)

RATE = Metric("rate", "requests/s", "", 0)
BUSY = Metric("busy", "core busy", "%", 0)
CPU = Metric("cpu_us", "CPU per request", "µs", 1, ratio=True)
PER_REQUEST = (CPU, Metric("user_us", "of it in user space", "µs"), RATE, BUSY)
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


def compiled(metric: str, at_most: float, aim: float | None = None, to: str = "envoy") -> Goal:
    return Goal(metric, at_most, aim, to, of="compiled")


BODY_GOALS = {
    "download-1mib": (Goal("cpu_us_mib", 0.9, 0.7), compiled("cpu_us_mib", 0.7, 0.5)),
    "download-100mib": (Goal("cpu_us_mib", 0.9, 0.7),),
    "upload-1mib": (Goal("cpu_us_mib", 0.9, 0.7), compiled("cpu_us_mib", 0.4, 0.35)),
    "upload-100mib": (Goal("cpu_us_mib", 0.9, 0.7),),
}


def _body(way: str, size: str) -> Measurement:
    name = f"{way}-{size.lower()}"
    return Measurement(
        name,
        f"{way.capitalize()}s of {size}",
        f"{BULK_CONNECTIONS} keep-alive connections, one {way} after the other on each",
        BODY,
        partial(bodies_http1, way=way, name=size),
        goals=BODY_GOALS.get(name, ()),
    )


def _body_http2(way: str, upstream: str) -> Measurement:
    return Measurement(
        f"http2-{way}-4mib",
        f"HTTP/2: {way}s of 4MiB",
        f"h2load, {BULK_CONNECTIONS} connections x 2 streams, one {way} after the other on each; "
        f"the upstream is {upstream}",
        BODY,
        partial(bodies_http2, way=way, name="4MiB"),
        goals=(compiled("cpu_us_mib", 0.5, 0.4),),
    )


def _ports(count: int) -> Measurement:
    return Measurement(
        f"http1-ports-{count}",
        f"HTTP/1: small GET on {count} ports",
        f"as http1-small, on {count} ports of one proxy at the same time (drainproxy: {count} routes), "
        "by as many processes of wrk",
        PER_REQUEST,
        partial(requests_http1, job=Job(ports=count)),
    )


MEASUREMENTS = (
    Measurement(
        "http1-small",
        "HTTP/1: small GET, keep-alive",
        WRK + "; `drainproxy run` has a child that does nothing",
        PER_REQUEST,
        requests_http1,
        peers=(*ALL, "drainproxy run"),
        goals=(Goal("cpu_us", 0.65, 0.5), compiled("cpu_us", 0.42)),
    ),
    Measurement(
        "http1-connect",
        "HTTP/1: a new connection for each request",
        WRK + "; every request says Connection: close",
        PER_REQUEST,
        partial(requests_http1, close=True),
        goals=(Goal("cpu_us", 0.9, 0.7), compiled("cpu_us", 0.6)),
    ),
    Measurement(
        "http1-access-log",
        "HTTP/1: small GET, with an access log",
        "as http1-small; every request gets a line in a file, in the proxy's usual format",
        PER_REQUEST,
        partial(requests_http1, job=Job(access_log=True)),
    ),
    _ports(2),
    _ports(4),
    Measurement(
        "http2-small",
        "HTTP/2: small GET",
        H2LOAD + "; the upstream speaks HTTP/2 (nginx: as grpc_pass)",
        PER_REQUEST,
        requests_http2,
        goals=(Goal("cpu_us", 0.35, 0.25), compiled("cpu_us", 0.22, 0.18)),
    ),
    Measurement(
        "grpc",
        "gRPC: unary call of 16 bytes",
        "h2load, 8 connections x 16 streams; the upstream is a grpcio server, which is the slowest part",
        PER_REQUEST,
        partial(requests_http2, grpc=True),
    ),
    Measurement(
        "grpc-stream",
        "gRPC streams: 64-byte message there and back",
        f"{STREAM_CONNECTIONS} connections x {STREAMS} streams, each sends the next message when it has the echo, in a "
        "DATA frame of its own; a request is a round trip here; client and upstream are our own, as grpcio's take more "
        "CPU, and still the slowest part",
        PER_REQUEST,
        grpc_stream,
    ),
    Measurement(
        "websocket",
        "WebSocket: 64-byte message there and back",
        "32 connections, each sends the next message when it has the echo; a request is a round trip here",
        PER_REQUEST,
        websocket,
        goals=(Goal("cpu_us", 0.9, 0.6), compiled("cpu_us", 0.7, 0.5)),
    ),
    Measurement(
        "tls-small",
        "TLS: small GET, keep-alive",
        WRK + "; P-256",
        PER_REQUEST,
        partial(requests_http1, job=Job("tls")),
    ),
    Measurement(
        "tls-connect",
        "TLS: a new connection for each request",
        WRK + "; every request says Connection: close, full handshakes with a P-256 certificate: "
        "no proxy gives out session tickets, since wrk would use them",
        PER_REQUEST,
        partial(requests_http1, job=Job("tls"), close=True),
        goals=(compiled("cpu_us", 1.2, 1.0),),
    ),
    Measurement(
        "tls-resume",
        "TLS: a new connection for each request, resumed",
        f"{VISITORS} threads of Python's ssl module, which are the slowest part; a request is a connection with one "
        "small GET; first with full handshakes, then each with the session of the connection before it",
        (
            replace(CPU, title="CPU per resumed connection"),
            Metric("full_us", "CPU per full handshake", "µs"),
            Metric("resumed", "resumed", "%", 0),
            RATE,
            BUSY,
        ),
        tls_connections,
    ),
    *(_body(way, size) for way in ("download", "upload") for size in ("64KiB", "1MiB", "100MiB")),
    _body_http2("download", "nginx"),
    _body_http2("upload", "nghttpd, with windows of 1 MiB"),
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
        goals=(Goal("p99", 1.2, 1.0), compiled("p99", 0.8, 0.6)),
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
        peers=(*ALL, "drainproxy run"),
        goals=(Goal("rss", 0.7, 0.5), compiled("rss", 0.55, 0.45)),
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
        peers=(*ALL, "drainproxy run"),
        goals=(Goal("ready_ms", 500, 300, to=""), compiled("ready_ms", 150, 100, to="")),
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
    Measurement(
        "drain-load",
        "Drain: 5 000 busy connections, 10 s",
        "every connection has a request open that takes 2 s, and then the next one, on a new connection where the "
        f"answer said `Connection: close`, until {LEAVE:.0%} of the floor has passed; --propagation-delay 10s, else as "
        "above; a request without a whole answer or without a connection is lost; HAProxy is stopped by SIGUSR1, Envoy "
        "by /drain_listeners?graceful with a drain time of 10 s; nginx without a master process cannot stop gracefully",
        (
            replace(CPU, title="CPU in the drain per request"),
            Metric("cpu_s", "CPU in all", "s", 2),
            Metric("connections", "connections", "", 0),
            Metric("answered", "answered", "", 0),
            Metric("lost", "lost", "", 0),
            Metric("last_s", "last answer after", "s", 2),
            Metric("answer_s", "/drain answered after that and the floor", "s", 3),
        ),
        drain_under_load,
        peers=("drainproxy", "envoy", "haproxy"),
        goals=(Goal("lost", 0, 0, to=""),),
    ),
)
