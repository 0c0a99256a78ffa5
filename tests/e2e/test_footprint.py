"""What a sidecar costs before it does anything: memory, start, what it loads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from drainproxy import compiled

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

HEAVY = ("rich", "ruamel", "drainproxy.tools", "aiohttp.test_utils", "pygments", "httptools")
UNUSED = ("aiohttp.client_reqrep", "aiohttp.connector", "aiohttp.web_app", "aiohttp.web_runner", "argparse", "pickle")
"""What comes with aiohttp's client and its framework."""


def test_idle_memory_is_at_most_40_mb_and_two_of_machine_code(proxy: Proxy) -> None:
    assert proxy.ask("/metrics").status == 200
    assert proxy.resident_kib() <= (40 + 2 * compiled()) * 1024


def test_the_serve_path_loads_nothing_that_only_laptops_need() -> None:
    script = "import drainproxy.app, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith((*HEAVY, *UNUSED))] == []


def test_who_asks_for_the_rest_of_aiohttp_gets_all_of_it() -> None:
    script = """
import drainproxy.admin.aiohttp_web as ours
from aiohttp import web, ClientSession
import aiohttp
assert (web.Server, web.Response) == (ours.Server, ours.Response)
assert all(hasattr(aiohttp, name) for name in aiohttp.__all__) and len(aiohttp.__all__) > 100
assert aiohttp.__version__[0].isdigit()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("call", "loads"), [("PUT http://127.0.0.1/", True), ("aws elbv2", False)])
def test_an_http_client_is_loaded_at_start_and_only_for_hooks_over_http(call: str, loads: bool) -> None:
    script = f"""
import sys
from drainproxy.announce.announcer import Announcer
from drainproxy.config.options import Config
from drainproxy.config.values import parse_hook
import drainproxy.app
Announcer(Config(on_drain=parse_hook({call!r})), tasks=None, children=None)
print("aiohttp.connector" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == f"{loads}\n"


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
