"""A systemd of our own, as PID 1 of namespaces made here. It knows only the units of one directory.

It gets a control group of its own, so that another systemd of this machine need not share one with it. The network is
the machine's: ports are to be free ones.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import need
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD = "/lib/systemd/systemd"
BOOT = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/{group}
echo 0 > /sys/fs/cgroup/{group}/cgroup.procs
exec unshare --cgroup sh -ec '
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH={units} \
    {systemd} --system --unit=test.target --log-target=console --show-status=0'
"""
SWEEP = """
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find /sys/fs/cgroup/{group} -depth -type d -exec rmdir {{}} ';'
"""
TARGETS = ("sysinit", "basic", "shutdown", "sockets", "multi-user", "network-online", "test")
"""What units of services refer to, or systemd itself does."""
BOOT_S = 15.0
REFUSED: list[str] = []
"""Why no systemd can run on this machine, once that is known."""


class Systemd:
    """The running one. `units`: the directory of its units."""

    def __init__(self, pid: int, units: Path) -> None:
        self._pid = pid
        self.units = units

    def ctl(self, *words: str, check: bool = True) -> str:
        """`systemctl`, for 60 seconds at most: what it has printed."""
        inside = ["nsenter", "-t", str(self._pid), "-m", "-p", "-i", "-u", "-C", "systemctl", *words]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout

    def has_started(self) -> bool:
        """It has come to its target; what else failed of this machine's does not matter."""
        return self.ctl("is-system-running", check=False).strip() in {"running", "degraded"}

    def start(self, name: str, unit: str) -> None:
        """Start the unit of this text."""
        (self.units / name).write_text(unit)
        self.ctl("daemon-reload")
        self.ctl("start", name)

    def show(self, unit: str, fact: str) -> str:
        """One property of a unit."""
        return self.ctl("show", unit, "--property", fact, "--value").strip()


@contextmanager
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """One that has started. The test is skipped, and says so, where none can."""
    if REFUSED:
        pytest.skip(REFUSED[0])
    need("nsenter", "util-linux")
    if not Path(SYSTEMD).exists():
        pytest.skip(f"{SYSTEMD} is missing: apt-get install systemd")
    if os.geteuid() != 0:
        pytest.skip("root alone may start another systemd: NOT played")
    units = tmp_path / "units"
    units.mkdir()
    for each in TARGETS:
        (units / f"{each}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    names = {"group": f"drainproxy-{os.getpid()}-{tmp_path.name}", "units": units, "systemd": SYSTEMD}
    log = tmp_path / "systemd.log"
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts", "--ipc"]
    with log.open("w") as said:
        boot = subprocess.Popen([*namespaces, "sh", "-ec", BOOT.format(**names)], stdout=said, stderr=said)
    first = Path(f"/proc/{boot.pid}/task/{boot.pid}/children")
    try:
        wait_for(lambda: boot.poll() is not None or first.read_text().split(), "the first process of the namespaces")
        if boot.poll() is None:
            there = Systemd(int(first.read_text().split()[0]), units)
            with suppress(TimeoutError):
                wait_for(lambda: boot.poll() is not None or there.has_started(), "systemd", BOOT_S)
        if boot.poll() is not None or not there.has_started():
            REFUSED.append(f"no systemd can run here: {log.read_text().strip()[-200:]}: NOT played")
            pytest.skip(REFUSED[0])
        yield there
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):
            for each in first.read_text().split():
                os.kill(int(each), signal.SIGKILL)  # and with the first process all others of its namespace
        boot.wait(20)
        sweep = ["unshare", "--mount", "sh", "-ec", SWEEP.format(**names)]
        subprocess.run(sweep, stderr=subprocess.DEVNULL, timeout=20, check=False)
