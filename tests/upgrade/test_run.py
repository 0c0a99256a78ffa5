"""Under `run`, an upgrade hands the app over as well: it goes on, and notices nothing."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import HERE, free_port
from tests.support.generations import handed_over, load, upgrade
from tests.support.pending import pending
from tests.support.pids import ended
from tests.support.proxy import run_around, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import Proxy

PLAIN = [sys.executable, str(HERE / "plain_app.py")]
NOTING = """
import os, runpy, signal, sys, threading
log = open(sys.argv[1], "a", buffering=1)
print("started", os.getpid(), file=log)
def note(number, frame):
    print("signal", signal.Signals(number).name, file=log)
    if number == signal.SIGTERM:
        os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, note)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The plain app; it notes when it starts, and each signal that it gets."""


@contextmanager
def running(tmp_path: Path) -> Iterator[tuple[Proxy, Path]]:
    """And where the app notes what happens to it."""
    port, notes = free_port(), tmp_path / "notes"
    command = [sys.executable, "-c", NOTING, str(notes), str(HERE / "plain_app.py"), str(port)]
    with run_around(command, port) as proxy:
        yield proxy.await_ready(), notes


def app_of(notes: Path) -> int:
    return int(notes.read_text().split()[1])


def test_the_app_notices_nothing_of_three_upgrades_and_is_stopped_by_the_last_generation(tmp_path: Path) -> None:
    with running(tmp_path) as (proxy, notes):
        app = app_of(notes)
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            for generation in (2, 3, 4):
                upgrade(proxy, generation)
        assert set(fresh) == set(kept) == {"200"}
        assert notes.read_text() == f"started {app}\n"
        with Wire(proxy.address) as wire:
            wire.get("/sleep/1")
            wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
            proxy.signal(signal.SIGTERM)
            assert wire.response()[0] == 200
        assert proxy.wait() == 0
        assert notes.read_text() == f"started {app}\nsignal SIGTERM\n"
        assert ended(app)


def test_the_app_is_not_stopped_before_both_generations_have_drained(tmp_path: Path) -> None:
    with running(tmp_path) as (proxy, notes), pending(proxy) as old:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        with pending(proxy) as new:
            proxy.signal(signal.SIGTERM)
            assert new.answer() == 200
        assert old.answer() == 200
        assert proxy.wait() == 0
        assert notes.read_text().count("SIGTERM") == 1


@pytest.mark.parametrize("when", ["while the old one drains", "with the keeper"])
def test_an_app_that_ends_by_itself_ends_all_with_its_code(tmp_path: Path, when: str) -> None:
    with running(tmp_path) as (proxy, notes), pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        new = int(proxy.status()["pid"])
        if when == "with the keeper":
            assert request.answer() == 200
            wait_for(lambda: handed_over(proxy) == 1, "the end of the old one")
        os.kill(app_of(notes), signal.SIGKILL)
        assert proxy.wait() == 128 + signal.SIGKILL
        wait_for(lambda: ended(new), "the end of the new one")


def test_a_signal_for_the_app_reaches_it_through_keeper_and_generation(tmp_path: Path) -> None:
    with running(tmp_path) as (proxy, notes):
        upgrade(proxy, 2)
        proxy.signal(signal.SIGUSR1)
        wait_for(lambda: "signal SIGUSR1" in notes.read_text(), "the signal")


def test_a_generation_that_dies_leaves_the_app_to_the_old_one(tmp_path: Path) -> None:
    with running(tmp_path) as (proxy, notes), pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        os.kill(int(proxy.status()["pid"]), signal.SIGKILL)
        proxy.await_log("the new generation has ended: this process serves again")
        wait_for(lambda: proxy.status()["state"] == "ready", "readiness")
        assert httpx.get(proxy.url).status_code == request.answer() == 200
        app = app_of(notes)
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert ended(app)


def test_what_the_app_leaves_behind_ends_with_the_keeper(tmp_path: Path) -> None:
    port, orphan = free_port(), tmp_path / "orphan"
    leaving = f"import os, subprocess, sys; open({str(orphan)!r}, 'w').write(str(subprocess.Popen(['sleep', '1000'], "
    leaving += "start_new_session=True).pid)); os.execv(sys.argv[1], sys.argv[1:])"
    with run_around([sys.executable, "-c", leaving, *PLAIN, str(port)], port) as proxy:
        proxy.await_ready()
        upgrade(proxy, 2)
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        wait_for(lambda: ended(int(orphan.read_text())), "the end of what was left behind")
