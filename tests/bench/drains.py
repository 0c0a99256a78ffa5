"""How long does a drain take with many connections? Measured at the clients, and at the caller of /drain."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.bench.client import client
from tests.bench.host import BenchError
from tests.bench.peers import Job
from tests.bench.wire import status_of

if TYPE_CHECKING:
    from tests.bench.measurement import Figures
    from tests.bench.peers import Peer, Running
    from tests.bench.stage import Stage

FLOOR_S = 1.0
SLOW_MS = 3000
LEAVE = 0.9
"""This share of the floor has passed when clients learn of the drain and stop coming."""
GIVE_UP_S = 50.0


def drains_after(floor_s: float, *, stops: bool = False) -> Job:
    """As soon as it may: what is measured is not the sum of its waits. `stops`: see Job."""
    return Job(
        flags=(
            f"--propagation-delay={floor_s:g}s",
            "--quiet-period=100ms",
            "--close-spread=0",
            "--grace-period=60s",
            "--resume-after=never",
        ),
        stops=stops,
    )


class DrainCall:
    """One blocking GET /drain; times are monotonic seconds."""

    def __init__(self, proxy: Running) -> None:
        self.begun = time.monotonic()
        self.answered = 0.0
        self.status = 0
        self._thread = threading.Thread(target=self._call, args=(proxy.admin,), daemon=True)
        self._thread.start()

    def _call(self, port: int) -> None:
        self.status = status_of(port, "/drain", GIVE_UP_S)
        self.answered = time.monotonic()

    def wait(self) -> None:
        """Until it was answered. Raises BenchError unless the drain was clean."""
        self._thread.join(GIVE_UP_S)
        if self.status != 200:
            raise BenchError(f"/drain answered {self.status or 'nothing'}")


def drain_idle(stage: Stage, peer: Peer) -> Figures:
    count = stage.pace.idle_connections
    with (
        stage.proxy(peer, job=drains_after(FLOOR_S)) as proxy,
        client(stage, "hold", port=proxy.port, connections=count, slow_path="", timeout_s=20) as idle,
    ):
        idle.begin()
        drain = DrainCall(proxy)
        seen = idle.result()
        drain.wait()
        floor = drain.begun + FLOOR_S
        if seen["first_end"] < floor - 0.02:
            raise BenchError("idle connections were closed before the floor")
        return {
            "connections": count,
            "closed_s": seen["last_end"] - floor,
            "answer_s": drain.answered - floor,
            "left_open": count - seen["ended"],
        }


def drain_busy(stage: Stage, peer: Peer) -> Figures:
    count = stage.pace.busy_connections
    path = f"/delay/{SLOW_MS}"
    with (
        stage.proxy(peer, "app", drains_after(FLOOR_S)) as proxy,
        client(stage, "hold", port=proxy.port, connections=count, slow_path=path, timeout_s=20) as busy,
    ):
        busy.begin()
        drain = DrainCall(proxy)
        seen = busy.result()
        drain.wait()
        return {
            "connections": count,
            "answered": seen["answered"],
            "cut": count - seen["answered"],
            "answer_s": drain.answered - seen["last_answer"],
        }


def drain_under_load(stage: Stage, peer: Peer) -> Figures:
    """Clients go on sending, on new connections where the answer said so, until they learn of the drain."""
    pace = stage.pace
    count, floor_s, path = pace.drain_connections, pace.drain_floor_s, f"/delay/{pace.drain_turn_ms}"
    with (
        stage.proxy(peer, "app", drains_after(floor_s, stops=peer.stop is not None)) as proxy,
        client(stage, "busy", port=proxy.port, connections=count, path=path, leave_s=LEAVE * floor_s) as busy,
    ):
        with stage.spending(proxy) as spent:
            begun = time.monotonic()
            busy.begin()
            drain = _begin(peer, proxy)
            seen = busy.result()
            if drain:
                drain.wait()
        figures = {
            "cpu_us": spent.cpu_s / max(seen["answered"], 1) * 1e6,
            "cpu_s": spent.cpu_s,
            "connections": count,
            "answered": seen["answered"],
            "lost": seen["lost"],
            "last_s": seen["last_answer"] - begun,
        }
        if drain:
            figures["answer_s"] = drain.answered - max(seen["last_answer"], drain.begun + floor_s)
        return figures


def _begin(peer: Peer, proxy: Running) -> DrainCall | None:
    """A call of /drain, or nothing if the peer has another way to stop."""
    if peer.stop is None:
        return DrainCall(proxy)
    peer.stop(proxy)
    return None
