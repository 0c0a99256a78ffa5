"""SIGUSR2: a new drainproxy takes over, and no client notices; if it cannot, nothing has happened."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from drainproxy.errors import HandoverError
from drainproxy.process.handover import inherit
from tests.support.apps import accepts, free_port, http_server
from tests.support.generations import generations, handed_over, load, upgrade
from tests.support.pending import pending
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


@pytest.mark.parametrize("stock_loop", [False, True])
def test_three_upgrades_in_a_row_lose_nobody_and_counters_go_on(app: str, stock_loop: bool) -> None:
    with generations(app, stock_loop=stock_loop) as proxy:
        first = proxy.status()
        assert (first["generation"], first["pid"], first["upgraded_at"]) == (1, proxy.process.pid, None)
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            for generation in (2, 3, 4):
                upgrade(proxy, generation)
        assert set(fresh) == set(kept) == {"200"}
        last = proxy.status()
        assert last["pid"] != first["pid"]
        assert last["upgraded_at"] is not None
        counted = proxy.metric("drainproxy_requests_total", method="GET", code="200")
        assert counted == fresh["200"] + kept["200"]


def test_a_long_request_ends_in_the_generation_that_took_it(app: str) -> None:
    with generations(app) as proxy, pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        assert handed_over(proxy) == 0
        assert httpx.get(proxy.url).status_code == 200
        assert request.answer() == 200
        wait_for(lambda: handed_over(proxy) == 1, "the end of the old one")


def test_the_gate_is_honoured_before_the_new_one_takes_over(app: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with generations(app, ready_gate=str(gate), ready_interval="60s") as proxy:
        gate.write_text("no")
        proxy.signal(signal.SIGUSR2)
        new = proxy.await_log("upgrade begins")["pid"]
        wait_for(lambda: any("starting" in str(line) and line.get("msg") == "state" for line in proxy.log), "its state")
        assert proxy.status()["generation"] == 1
        os.kill(new, signal.SIGKILL)
        proxy.await_log("upgrade failed: this process stays in service")
        assert httpx.get(proxy.url).status_code == 200


def test_a_route_that_is_gone_is_drained_and_closed_and_a_new_one_is_open_before_the_old_one_steps_back(
    app: str, tmp_path: Path
) -> None:
    config, (kept, gone, new) = tmp_path / "drainproxy.toml", (free_port() for _ in range(3))

    def routes(*ports: int) -> None:
        config.write_text("route = [" + ", ".join(f'"127.0.0.1:{port}={app}"' for port in ports) + "]\n")

    routes(kept, gone)
    with generations(app, config=str(config)) as proxy, pending(proxy, ("127.0.0.1", gone)) as request:
        routes(kept, new)
        with load(f"http://127.0.0.1:{kept}", keep_alive=False) as seen:
            proxy.signal(signal.SIGUSR2)
            wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
            assert httpx.get(f"http://127.0.0.1:{new}").status_code == 200
            assert httpx.get(f"http://127.0.0.1:{gone}").status_code == 200, "it still drains"
            assert request.answer() == 200
            wait_for(lambda: handed_over(proxy) == 1, "the end of the old one")
        assert set(seen) == {"200"}
        wait_for(lambda: not accepts(gone), "the end of the route that is gone")


def test_another_version_of_the_handover_is_refused_before_anything_has_happened() -> None:
    environ = {"DRAINPROXY_HANDOVER": "2:9:7"}
    with pytest.raises(HandoverError, match="hands over in version 2, this one knows 1: stop the old one and start"):
        inherit(environ, os.getpid())
