"""Which machine is this, and how does a process run on it so that its cost can be read? Cores, limits, /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
CPU_CLOCK = 2
"""With a process's id: the clock that clock_getcpuclockid(3) gives for it."""
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """A measurement cannot be taken; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy has one core for itself; load and upstream share the other. On one core there is no such thing."""

    proxy: int
    load: int

    @property
    def shared(self) -> bool:
        return self.proxy == self.load


def pick_cores() -> Cores:
    """The last core we may use for the proxy, the first for the rest: interrupts tend to land on the first."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[-1], load=allowed[0])


def raise_file_limit() -> int:
    """As many open files as we may have, for us and our children. Returns the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root with CAP_SYS_RESOURCE may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, max(hard, 65536)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A TCP port nobody listens on now, below the range that outgoing connections take their ports from."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(200):
        port = low // 2 + int.from_bytes(os.urandom(2)) % (low // 2)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
    raise BenchError("no free TCP port found")


def core_busy(core: int) -> float:
    """Seconds since boot that a core was busy or taken by the hypervisor."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    raise BenchError(f"/proc/stat has no line for core {core}")


def wait_until(happened: Callable[[], bool], what: str, timeout_s: float = 15.0, every_s: float = 0.005) -> None:
    """Ask until it is so. Raises BenchError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


def die_with_parent() -> None:
    """Called in a child: the kernel kills it when the run's process is gone, even by SIGKILL."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child on one core that dies with us. Its output goes to a file whose end is shown when it fails."""

    def __init__(
        self, name: str, argv: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log

        def on_core() -> None:
            os.sched_setaffinity(0, {core})
            die_with_parent()

        with log.open("wb") as output:
            self.child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=on_core,  # noqa: PLW1509 - no threads here, and start-up time must not count a wrapper's
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def cpu_s(self) -> float:
        """User and system seconds so far, all threads, ended ones too, in nanosecond steps."""
        return time.clock_gettime((~self.pid << 3) | CPU_CLOCK)

    def user_s(self) -> float:
        """The part spent outside the kernel, in steps of 10 ms."""
        return int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11]) / TICKS_PER_S

    def memory(self) -> dict[str, float]:
        """Bytes: `VmRSS` now, `VmHWM` the most so far, `RssAnon` what is the process's own."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        wanted = ("VmRSS", "VmHWM", "RssAnon")
        return {line.split(":")[0]: int(line.split()[1]) * 1024.0 for line in lines if line.startswith(wanted)}

    def check_alive(self) -> None:
        if self.child.poll() is not None:
            said = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise BenchError(f"{self.name} ended with {self.child.returncode}: {' / '.join(said) or 'it said nothing'}")

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def stop(self) -> None:
        """Kill its whole session: a measured proxy is asked for nothing any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()


def describe() -> dict[str, str]:
    """What a reader needs to know of the machine to judge the figures."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores to use, {platform.machine()}",
        "memory": f"{memory_kib / 1024**2:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "TCP": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    }
