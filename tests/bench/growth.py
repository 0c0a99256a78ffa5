"""Does a request cost more when there are many? One sample of one proxy at growing numbers."""

from __future__ import annotations

import math
import subprocess
import time
from typing import TYPE_CHECKING

from tests.bench.host import BenchError
from tests.bench.load import wrk_in_background, wrk_result

if TYPE_CHECKING:
    from tests.bench.measurement import Figures
    from tests.bench.peers import Peer, Running
    from tests.bench.stage import Stage

CONNECTS_PER_S = 2_000
"""So fast at least are all connections open: more than an accept queue holds are tried again after a second."""
APP_RATE = 20_000
"""Requests a second that the Python app is asked for at most."""


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
