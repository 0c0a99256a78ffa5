"""What does a measurement find set up when it runs? Upstreams, cores, a pace, and fresh proxies on demand."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.host import Cores, core_busy, free_port
from tests.bench.peers import PLAIN, Job, Peer, Running, Wiring, start
from tests.bench.upstreams import Upstreams

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how much. Seconds and counts; `SHORT` only proves that everything runs."""

    warm_s: int = 1
    run_s: int = 4
    latency_s: float = 10.0
    bulk_s: float = 2.0
    idle_connections: int = 10_000
    busy_connections: int = 1_000
    drain_connections: int = 5_000
    drain_floor_s: float = 10.0
    drain_turn_ms: int = 2_000
    connection_steps: tuple[int, ...] = (1, 10, 100, 1_000, 5_000, 10_000)
    in_flight_steps: tuple[int, ...] = (1, 10, 100, 1_000, 5_000)
    step_s: float = 2.5
    settle_s: float = 1.0
    many_requests: int = 1_000_000


FULL = Pace()
SHORT = Pace(
    warm_s=0,
    run_s=1,
    latency_s=0.5,
    bulk_s=0.2,
    idle_connections=200,
    busy_connections=50,
    drain_connections=50,
    drain_floor_s=1.5,
    drain_turn_ms=300,
    connection_steps=(10, 200),
    in_flight_steps=(10, 200),
    step_s=0.5,
    settle_s=0.3,
    many_requests=20_000,
)


def within(pace: Pace, open_files: int) -> Pace:
    """No more connections than a proxy has files for: two for each, and some to spare."""
    most = (open_files - 200) // 2
    steps = tuple(sorted({min(step, most) for step in pace.connection_steps}))
    return replace(
        pace,
        idle_connections=min(pace.idle_connections, most),
        drain_connections=min(pace.drain_connections, most),
        connection_steps=steps,
    )


@dataclass(slots=True)
class Spent:
    """What passed on the proxy's core during a measured span. Seconds; `others_s`: busy for somebody else."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    user_s: float = 0.0
    others_s: float = 0.0


class Stage:
    """One run's surroundings. `disturbed`: which share of the proxy's core others took, in each measured span."""

    def __init__(self, directory: Path, cores: Cores, pace: Pace) -> None:
        self.directory = directory
        self.cores = cores
        self.pace = pace
        self.upstreams = Upstreams(directory, cores)
        self.disturbed: list[float] = []
        self._made = 0
        self._certificate: tuple[Path, Path] | None = None

    @contextmanager
    def proxy(self, peer: Peer, upstream: str = "http1", job: Job = PLAIN) -> Iterator[Running]:
        """A fresh process of this peer in front of an upstream (see `Upstreams.port`), gone afterwards."""
        self._made += 1
        own = self.directory / f"{peer.name.replace(' ', '-')}-{self._made}"
        own.mkdir()
        port = self.upstreams.port(upstream)
        certificate, key = self.certificate() if job.mode == "tls" else (own, own)
        listen = tuple(free_port() for _ in range(job.ports))
        wiring = Wiring(job, listen, free_port(), port, own, certificate, key)
        running = start(peer, wiring, self.cores.proxy)
        try:
            yield running
            if running.process is not None and not job.stops:
                running.process.check_alive()
        finally:
            running.stop()

    @contextmanager
    def spending(self, running: Running) -> Iterator[Spent]:
        """Fills in what the proxy spent inside the block; zero for `direct`."""
        spent = Spent()
        if running.process is None:
            yield spent
            return
        core = self.cores.proxy
        busy, user, cpu, started = core_busy(core), running.process.user_s(), running.process.cpu_s(), time.monotonic()
        yield spent
        spent.wall_s = time.monotonic() - started
        spent.cpu_s = running.process.cpu_s() - cpu
        spent.user_s = min(running.process.user_s() - user, spent.cpu_s)
        spent.others_s = max(0.0, core_busy(core) - busy - spent.cpu_s)
        if spent.wall_s > 0.5 and not self.cores.shared:  # the kernel counts in steps of 10 ms
            self.disturbed.append(spent.others_s / spent.wall_s)

    def certificate(self) -> tuple[Path, Path]:
        """A self-signed P-256 certificate and its key, made once by openssl."""
        if self._certificate is None:
            certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
            make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
            argv = [*make.split(), "-keyout", str(key), "-out", str(certificate)]
            subprocess.run(argv, check=True, capture_output=True)
            self._certificate = certificate, key
        return self._certificate


@contextmanager
def set_up(cores: Cores, pace: Pace) -> Iterator[Stage]:
    """A stage whose processes and files are gone afterwards, however it ends."""
    with tempfile.TemporaryDirectory(prefix="drainproxy-bench-") as directory:
        Path(directory).chmod(0o755)
        stage = Stage(Path(directory), cores, pace)
        try:
            yield stage
        finally:
            stage.upstreams.stop()
