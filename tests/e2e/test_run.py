"""`drainproxy run`: the app is a child, and is not told to stop before the drain is over."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import HERE, free_port
from tests.support.proxy import Proxy, run_around, start_around, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


def start(port: int, *command: str) -> Proxy:
    return start_around(list(command), port)


@pytest.fixture
def wrapped() -> Iterator[Proxy]:
    """The plain app, wrapped."""
    port = free_port()
    with run_around([sys.executable, str(HERE / "plain_app.py"), str(port)], port) as proxy:
        yield proxy.await_ready()


def test_the_app_is_stopped_only_after_the_drain(wrapped: Proxy) -> None:
    with Wire(wrapped.address) as wire:
        wire.get("/sleep/1")
        wait_for(lambda: wrapped.status()["in_flight"]["http"] == 1, "the request")
        wrapped.signal(signal.SIGTERM)
        assert wire.response()[2] == b"slept 1\n"
    assert wrapped.wait() == 0
    ended = wrapped.logged("app ended")
    assert ended is not None
    assert ended["exit_code"] == 128 + signal.SIGTERM
    messages = [line["msg"] for line in wrapped.log]
    assert messages.index("drain finished") < messages.index("app ended")


def test_an_app_that_ends_by_itself_ends_us_with_its_code() -> None:
    proxy = start(free_port(), sys.executable, "-c", "raise SystemExit(7)")
    assert proxy.wait() == 7
    assert proxy.process.stderr is not None
    proxy.process.stderr.close()


def test_an_app_that_ignores_sigterm_is_killed_after_its_time() -> None:
    port = free_port()
    deaf = "import signal, runpy, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.argv = sys.argv[1:]; "
    deaf += "runpy.run_path(sys.argv[0], run_name='__main__')"
    proxy = start(port, sys.executable, "-c", deaf, str(HERE / "plain_app.py"), str(port))
    proxy.await_ready().signal(signal.SIGTERM)
    assert proxy.wait() == 0
    ended = proxy.logged("app ended")
    assert ended is not None
    assert ended["exit_code"] == 128 + signal.SIGKILL
    assert proxy.process.stderr is not None
    proxy.process.stderr.close()


def test_a_program_that_is_not_there_is_told_in_one_line() -> None:
    proxy = start(free_port(), "/no/such/program")
    assert proxy.wait() == 127
    assert proxy.text[-1] == "drainproxy: cannot run /no/such/program: No such file or directory\n"
    assert proxy.process.stderr is not None
    proxy.process.stderr.close()


def test_the_app_serves_behind_it_and_ctrl_c_does_not_reach_it(wrapped: Proxy) -> None:
    seen = json.loads(httpx.get(f"{wrapped.url}/echo").text)
    assert seen["target"] == "/echo"
    with Wire(wrapped.address) as wire:
        wire.get("/sleep/0.5")
        wait_for(lambda: wrapped.status()["in_flight"]["http"] == 1, "the request")
        wrapped.signal(signal.SIGINT)
        assert wire.response()[0] == 200
    assert wrapped.wait() == 0
