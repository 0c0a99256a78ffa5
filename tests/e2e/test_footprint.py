"""What a sidecar costs before it does anything: memory, start, what it loads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from drainproxy import compiled

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

HEAVY = ("rich", "ruamel", "drainproxy.tools", "aiohttp.test_utils", "pygments", "httptools")


def test_idle_memory_is_at_most_46_mb_and_two_of_machine_code(proxy: Proxy) -> None:
    assert proxy.ask("/metrics").status == 200
    assert proxy.resident_kib() <= (46 + 2 * compiled()) * 1024


def test_the_serve_path_loads_nothing_that_only_laptops_need() -> None:
    script = "import drainproxy.app, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_the_hook_command_loads_next_to_nothing() -> None:
    script = "import drainproxy.cli.drain, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [
        name for name in loaded if name.startswith((*HEAVY, "asyncio", "aiohttp", "uvloop", "prometheus_client"))
    ] == []


def test_the_hook_loads_nothing_heavy() -> None:
    code = (
        "import sys; from drainproxy.cli import cli; import drainproxy.cli.drain, drainproxy.observe.documents; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"asyncio", "aiohttp", "uvloop", "prometheus_client", "rich", "ruamel", "http", "email", "ssl", "logging"}
    assert not heavy & set(loaded)
