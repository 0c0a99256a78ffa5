"""Whatever goes wrong in an upgrade: clients see what docs/upgrade.md says, and so does who serves then."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import http_server
from tests.support.generations import AS_HEIR, generations, handed_over, load, upgrade
from tests.support.pending import pending
from tests.support.pids import ended
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDS = {
    "exits at once": "os._exit(3)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "says ready and dies": """os.write(channel, b'{"ready": true}\\n'); os.read(channel, 100); os._exit(0)""",
    "speaks another language": """os.write(channel, b'hello\\n'); time.sleep(1000)""",
}
HANGS = {
    "is never ready": "time.sleep(1000)",
    "is stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "says ready and is stopped": """os.write(channel, b'{"ready": true}\\n'); os.kill(os.getpid(), signal.SIGSTOP)""",
}
KILLS = {
    "before the new one is ready": "may_serve",
    "when the new one may serve": "serves",
}
FAILED = "upgrade failed: this process stays in service"


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


def fails(proxy: Proxy) -> str:
    """An upgrade under load that must not be noticed; why it failed."""
    with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
        proxy.signal(signal.SIGUSR2)
        reason = str(proxy.await_log(FAILED)["reason"])
        assert httpx.get(proxy.url).status_code == 200
    assert set(fresh) == set(kept) == {"200"}
    status = proxy.status()
    assert (status["generation"], status["state"], status["pid"]) == (1, "ready", proxy.process.pid)
    assert proxy.ask("/readyz").status == 200
    return reason


@pytest.mark.parametrize("does", ENDS.values(), ids=ENDS)
def test_a_new_one_that_ends_before_it_serves_changes_nothing(app: str, does: str) -> None:
    with generations(app, program=AS_HEIR.format(does=does)) as proxy:
        assert "its log says why" in fails(proxy)


@pytest.mark.parametrize("does", HANGS.values(), ids=HANGS)
def test_a_new_one_that_hangs_is_killed_and_nothing_has_changed(app: str, does: str) -> None:
    with generations(app, program=AS_HEIR.format(does=does), upgrade_timeout="1500ms") as proxy:
        assert "not ready within 1.5s" in fails(proxy)
        new = proxy.await_log("upgrade begins")["pid"]
        wait_for(lambda: ended(new), "the end of the new one")


@pytest.mark.parametrize("fault", ["bad option", "unreadable certificate", "port in use"])
def test_a_new_one_with_settings_that_cannot_be_used_changes_nothing_and_the_next_one_takes_over(
    app: str, fault: str, tmp_path: Path
) -> None:
    config, taken = tmp_path / "drainproxy.toml", socket.create_server(("127.0.0.1", 0))
    route, nowhere = f"127.0.0.1:0={app}", tmp_path / "nowhere.pem"
    right = f'route = ["{route}"]\n'
    wrong = {
        "bad option": right + 'log-level = "loud"\n',
        "unreadable certificate": right + f'tls-cert = "{nowhere}"\ntls-key = "{nowhere}"\n',
        "port in use": f'route = ["{route}", "127.0.0.1:{taken.getsockname()[1]}={app}"]\n',
    }
    says = {"bad option": "log-level", "unreadable certificate": "tls-cert", "port in use": "cannot listen on"}
    config.write_text(right)
    with taken, generations(app, config=str(config)) as proxy:
        config.write_text(wrong[fault])
        assert "its log says why" in fails(proxy)
        assert any(says[fault] in line for line in proxy.text)
        config.write_text(right)
        upgrade(proxy, 2)


def test_a_full_disk_under_the_log_stops_no_upgrade(app: str) -> None:
    full = "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"
    with generations(app, program=AS_HEIR.format(does=full)) as proxy:
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            proxy.signal(signal.SIGUSR2)
            wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        assert set(fresh) == set(kept) == {"200"}


def test_with_every_core_busy_nobody_is_lost(app: str) -> None:
    with generations(app) as proxy, ExitStack() as stop:
        for _ in range(2 * (os.cpu_count() or 1)):
            busy = stop.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stop.callback(busy.kill)
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            upgrade(proxy, 2)
        assert set(fresh) == set(kept) == {"200"}


def test_a_new_one_that_dies_while_the_old_one_drains_is_replaced_by_it(app: str) -> None:
    with generations(app) as proxy, pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        os.kill(proxy.status()["pid"], signal.SIGKILL)
        proxy.await_log("the new generation has ended: this process serves again")
        wait_for(lambda: proxy.status()["state"] == "ready", "readiness")
        assert proxy.status()["generation"] == 1
        assert httpx.get(proxy.url).status_code == 200
        assert request.answer() == 200
        upgrade(proxy, 2)


@contextmanager
def orphaned(app: str, program: str = "") -> Iterator[Proxy]:
    """A proxy whose first generation will be killed; the second one is killed in the end."""
    with serve(app, program=program) as proxy:
        proxy.await_ready()
        try:
            yield proxy
        finally:
            os.kill(int(proxy.status()["pid"]), signal.SIGKILL)


@pytest.mark.parametrize("method", KILLS.values(), ids=KILLS)
def test_an_old_one_that_is_killed_in_the_handover_leaves_its_port_to_the_new_one(app: str, method: str) -> None:
    does = f"""
    from drainproxy.upgrade import Generations
    does = Generations.{method}
    async def killing(self, *anything):
        os.kill(os.getppid(), signal.SIGKILL)
        return await does(self, *anything)
    Generations.{method} = killing
    """.strip()
    with orphaned(app, AS_HEIR.format(does=does)) as proxy:
        url = proxy.url
        proxy.signal(signal.SIGUSR2)
        proxy.wait()
        with load(url, keep_alive=False) as fresh:
            wait_for(lambda: proxy.logged("the generation before is gone"), "the end of the old one")
            assert httpx.get(url, timeout=20).status_code == 200
        assert set(fresh) == {"200"}
        assert (proxy.status()["generation"], proxy.status()["state"]) == (2, "ready")


def test_an_old_one_that_is_killed_while_it_drains_breaks_its_own_connections_only(app: str) -> None:
    with orphaned(app) as proxy, pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        assert handed_over(proxy) == 0
        with load(proxy.url, keep_alive=True) as kept:
            proxy.signal(signal.SIGKILL)
            wait_for(lambda: proxy.logged("the generation before is gone"), "the end of the old one")
            assert request.wire.closed()
        assert set(kept) == {"200"}
