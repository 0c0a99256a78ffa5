"""What is measured? One small function a measurement: take one sample of one proxy, return its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.load import wrk
from tests.bench.measurement import Goal, Measurement, Metric

if TYPE_CHECKING:
    from tests.bench.peers import Peer
    from tests.bench.stage import Spent, Stage

Figures = dict[str, float]

CPU = Metric("cpu_us", "CPU a request", "µs", 1, ratio=True)
RATE = Metric("rate", "requests/s", "", 0)
BUSY = Metric("busy", "core busy", "%", 0)
PER_REQUEST = (CPU, Metric("user_us", "of it in user space", "µs"), RATE, BUSY)


def per_request(spent: Spent, requests: int) -> Figures:
    """CPU of the proxy's process over the answers it gave; how many a second; how busy that kept its core."""
    return {
        "cpu_us": spent.cpu_s / requests * 1e6,
        "user_us": spent.user_s / requests * 1e6,
        "rate": requests / spent.wall_s,
        "busy": 100 * spent.cpu_s / spent.wall_s,
    }


def http1_small(stage: Stage, peer: Peer) -> Figures:
    with stage.proxy(peer) as proxy:
        wrk(stage, proxy.port, seconds=stage.pace.warm_s)
        with stage.spending(proxy) as spent:
            requests = wrk(stage, proxy.port, seconds=stage.pace.run_s)
        return per_request(spent, requests)


def http1_connect(stage: Stage, peer: Peer) -> Figures:
    with stage.proxy(peer) as proxy:
        wrk(stage, proxy.port, seconds=stage.pace.warm_s, close=True)
        with stage.spending(proxy) as spent:
            requests = wrk(stage, proxy.port, seconds=stage.pace.run_s, close=True)
        return per_request(spent, requests)


MEASUREMENTS = (
    Measurement(
        "http1-small",
        "HTTP/1: small GET, keep-alive",
        "wrk, 32 connections, as fast as it goes; path and ten header values differ in every request",
        PER_REQUEST,
        http1_small,
        goals=(Goal("cpu_us", 0.65, 0.5),),
    ),
    Measurement(
        "http1-connect",
        "HTTP/1: a new connection for each request",
        "as http1-small, every request with Connection: close",
        PER_REQUEST,
        http1_connect,
        goals=(Goal("cpu_us", 0.9, 0.7),),
    ),
)
