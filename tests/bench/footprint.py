"""What does a proxy take before it does anything, and what does it keep? One sample of memory, or of its start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.client import client
from tests.bench.load import wrk

if TYPE_CHECKING:
    from tests.bench.measurement import Figures
    from tests.bench.peers import Peer
    from tests.bench.stage import Stage

MIB = 1 << 20
SETTLE_S = 0.3


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
