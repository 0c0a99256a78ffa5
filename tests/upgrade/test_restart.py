"""`drainproxy restart`: a new process of the app takes over, and no client notices; if it fails, the old one serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.apps import HERE, free_port
from tests.support.generations import handed_over, load, upgrade
from tests.support.pids import ended
from tests.support.proxy import run_around, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import Answer, Proxy

PLAIN = str(HERE / "plain_app.py")
BY_ENVIRONMENT = "import os, runpy, sys; sys.argv = [sys.argv[1], os.environ['PORT']]; "
BY_ENVIRONMENT += "runpy.run_path(sys.argv[0], run_name='__main__')"
SECOND = "import os, runpy, sys, time; path = sys.argv[1]; first = not os.path.exists(path); open(path, 'a').close(); "
"""Only the first process is the plain app; the text that follows is what the second one does before."""
SECOND_END = "; sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"


@contextmanager
def overlapping(*words: str, **options: str) -> Iterator[Proxy]:
    """An app that is told its port, with a short trial."""
    port = free_port()
    command = list(words) or [sys.executable, PLAIN, "{port}"]
    with run_around(command, port, **{"restart_trial": "300ms"} | options) as proxy:
        yield proxy.await_ready()


@contextmanager
def holding(**options: str) -> Iterator[Proxy]:
    """An app that knows one port."""
    port = free_port()
    with run_around([sys.executable, PLAIN, str(port)], port, **options) as proxy:
        yield proxy.await_ready()


def second_does(folder: Path, what: str) -> list[str]:
    return [sys.executable, "-c", SECOND + what + SECOND_END, str(folder / "was here"), PLAIN, "{port}"]


def app_of(proxy: Proxy) -> int:
    """The process that serves."""
    serving = [child for child in proxy.status()["children"] if child["state"] == "serving"]
    assert len(serving) == 1
    return int(serving[0]["pid"])


def restart(proxy: Proxy) -> Answer:
    return proxy.ask("/restart", "POST")


def alone(proxy: Proxy) -> bool:
    """The restart is over: the old process has ended."""
    return len(proxy.status()["children"]) == 1


@pytest.mark.parametrize("way", ["argument", "environment", "socket"])
def test_three_restarts_side_by_side_lose_nobody(way: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        if way == "argument":
            proxy = stack.enter_context(overlapping())
        elif way == "environment":
            proxy = stack.enter_context(overlapping(sys.executable, "-c", BY_ENVIRONMENT, PLAIN, port_env="PORT"))
        else:
            app = [sys.executable, "-m", "gunicorn", "-b", "unix:{socket}", "--chdir", str(HERE), "wsgi_app:app"]
            options = {"upstream": f"unix:{tmp_path}/app.sock", "restart_trial": "300ms"}
            proxy = stack.enter_context(run_around(app, 0, **options)).await_ready()
        apps = [app_of(proxy)]
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            for number in (2, 3, 4):
                answer = restart(proxy)
                assert answer.status == 200, answer.body
                assert answer.json == {"pid": app_of(proxy), "number": number}
                apps.append(app_of(proxy))
                wait_for(lambda: alone(proxy), "the end of the old process")
        assert set(fresh) == set(kept) == {"200"}
        assert len(set(apps)) == 4
        assert all(ended(pid) for pid in apps[:-1])
        assert proxy.metric("drainproxy_restarts_total", outcome="done") == 3
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert ended(apps[-1])


def test_what_the_old_process_has_is_finished_before_it_is_stopped() -> None:
    with overlapping() as proxy, Wire(proxy.address) as wire:
        old = app_of(proxy)
        wire.get("/sleep/3")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
        assert restart(proxy).status == 200
        assert {child["state"] for child in proxy.status()["children"]} == {"serving", "leaving"}
        assert httpx.get(proxy.url).status_code == 200
        assert wire.response()[0] == 200
        wait_for(lambda: ended(old), "the end of the old process")
        wire.get()
        assert wire.response()[0] == 200, "the client's connection goes on, with the new process"


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("first or sys.exit(7)", "ended with exit code 7 before it was healthy; the old process serves"),
        ("first or time.sleep(1000)", "not healthy within 1.5s; the old process serves"),
        ("first or os.kill(os.getpid(), 19)", "not healthy within 1.5s; the old process serves"),
    ],
)
def test_a_new_process_that_does_not_become_healthy_changes_nothing(tmp_path: Path, does: str, says: str) -> None:
    with overlapping(*second_does(tmp_path, does), restart_timeout="1500ms") as proxy:
        old = app_of(proxy)
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            answer = restart(proxy)
        assert (answer.status, says in answer.body) == (500, True), answer.body
        assert set(fresh) == set(kept) == {"200"}
        assert app_of(proxy) == old
        wait_for(lambda: alone(proxy), "the end of the new process")
        assert proxy.ask("/readyz").status == 200
        assert proxy.metric("drainproxy_restarts_total", outcome="failed") == 1


def test_a_new_process_that_ends_in_its_trial_gives_way_to_the_old_one(tmp_path: Path) -> None:
    dies = "first or __import__('threading').Timer(2, os._exit, [9]).start()"
    with overlapping(*second_does(tmp_path, dies), restart_trial="15s") as proxy:
        old = app_of(proxy)
        answer = restart(proxy)
        assert (answer.status, "ended with exit code 9 after the switch; the old one serves" in answer.body) == (
            500,
            True,
        )
        assert app_of(proxy) == old
        assert httpx.get(proxy.url).status_code == 200
        assert restart(proxy).status == 500, "the third is as bad"


def test_an_app_that_ends_by_itself_after_a_restart_ends_us_with_its_code() -> None:
    with overlapping() as proxy:
        assert restart(proxy).status == 200
        wait_for(lambda: alone(proxy), "the end of the old process")
        os.kill(app_of(proxy), signal.SIGKILL)
        assert proxy.wait() == 128 + signal.SIGKILL


def test_where_it_cannot_be_told_its_port_requests_wait_and_none_is_lost() -> None:
    with holding() as proxy, Wire(proxy.address) as wire:
        old = app_of(proxy)
        wire.get("/sleep/2")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            answer = restart(proxy)
            assert answer.status == 200, answer.body
            assert app_of(proxy) != old
        assert wire.response()[0] == 200
        assert set(fresh) == set(kept) == {"200"}
        assert proxy.logged("requests go on")
        assert ended(old)


def test_a_held_request_waits_for_the_hold_limit_at_most(tmp_path: Path) -> None:
    port = free_port()
    command = [*second_does(tmp_path, "first or time.sleep(4)")[:-1], str(port)]
    with run_around(command, port, hold_limit="1s") as proxy:
        proxy.await_ready()
        answers: list[Any] = []
        caller = threading.Thread(target=lambda: answers.append(restart(proxy)))
        caller.start()
        proxy.await_log("restart begins: requests wait")
        late = httpx.get(proxy.url, timeout=20)
        assert (late.status_code, "retry-after" in late.headers) == (503, True)
        caller.join()
        assert answers[0].status == 200
        assert httpx.get(proxy.url, timeout=20).status_code == 200


def test_an_app_that_ends_before_the_switch_ends_us_with_its_code(tmp_path: Path) -> None:
    with overlapping(*second_does(tmp_path, "first or time.sleep(1000)")) as proxy:
        old = app_of(proxy)
        caller = threading.Thread(target=lambda: suppressed(proxy))
        caller.start()
        proxy.await_log("restart begins")
        new = next(int(child["pid"]) for child in proxy.status()["children"] if child["state"] == "starting")
        os.kill(old, signal.SIGKILL)
        assert proxy.wait() == 128 + signal.SIGKILL
        caller.join()
        assert ended(new)


def test_where_requests_wait_a_new_process_that_ends_early_ends_us_with_its_code(tmp_path: Path) -> None:
    port = free_port()
    command = [*second_does(tmp_path, "first or sys.exit(7)")[:-1], str(port)]
    with run_around(command, port) as proxy:
        proxy.await_ready()
        suppressed(proxy)
        assert proxy.wait() == 7


def test_where_requests_wait_a_new_process_that_is_late_serves_when_it_can(tmp_path: Path) -> None:
    port = free_port()
    command = [*second_does(tmp_path, "first or time.sleep(4)")[:-1], str(port)]
    with run_around(command, port, restart_timeout="1s", connect_wait="30s") as proxy:
        proxy.await_ready()
        answer = restart(proxy)
        assert (answer.status, "not healthy within 1s; there is no other" in answer.body) == (500, True), answer.body
        assert httpx.get(proxy.url, timeout=30).status_code == 200
        assert [child["state"] for child in proxy.status()["children"]] == ["serving"]
        assert proxy.metric("drainproxy_restarts_total", outcome="failed") == 1


def test_sighup_restarts_where_that_is_wished_and_the_verb_does() -> None:
    port = free_port()
    flags = ("--restart-on-hup",)
    with run_around([sys.executable, PLAIN, "{port}"], port, *flags, restart_trial="100ms") as proxy:
        old = app_of(proxy.await_ready())
        proxy.signal(signal.SIGHUP)
        proxy.await_log("restarted")
        wait_for(lambda: alone(proxy), "the end of the old process")
        assert app_of(proxy) != old
        command = [sys.executable, "-m", "drainproxy", "restart", "--admin", proxy.admin.removeprefix("http://")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == f"restarted: process 3 of the app serves, pid {app_of(proxy)}\n", done.stderr


def test_a_restart_is_refused_during_a_drain_another_restart_or_an_upgrade(tmp_path: Path) -> None:
    with overlapping(*second_does(tmp_path, "first or time.sleep(3)"), propagation_delay="5s") as proxy:
        caller = threading.Thread(target=restart, args=[proxy])
        caller.start()
        proxy.await_log("restart begins")
        assert "a restart of the app runs" in restart(proxy).body
        assert "a restart of the app runs" in proxy.ask("/upgrade", "POST").body
        assert "a restart of the app runs" in proxy.ask("/hold", "POST").body
        caller.join()
        wait_for(lambda: alone(proxy), "the end of the old process")
        proxy.ask("/hold", "POST")
        for path in ("/restart", "/upgrade"):
            assert proxy.ask(path, "POST").body == "requests are held: release them first\n"
        proxy.ask("/release", "POST")
        proxy.ask("/drain?wait=0", "POST")
        answer = restart(proxy)
        assert (answer.status, answer.body) == (409, "a drain runs\n")


@pytest.mark.parametrize("step", ["the new process starts", "the trial", "requests wait"])
def test_sigterm_during_a_restart_ends_all_processes(tmp_path: Path, step: str) -> None:
    port, slow = free_port(), "first or time.sleep(2)" if step == "the new process starts" else "first"
    command = second_does(tmp_path, slow)
    if step == "requests wait":
        command[-1] = str(port)
    with run_around(command, port, restart_trial="30s") as proxy, ExitStack() as stack:
        old = app_of(proxy.await_ready())
        if step == "requests wait":
            wire = stack.enter_context(Wire(proxy.address))
            wire.get("/sleep/2")
            wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
        caller = threading.Thread(target=lambda: suppressed(proxy))
        caller.start()
        if step == "the trial":
            wait_for(lambda: app_of(proxy) != old, "the switch")
        else:
            wait_for(lambda: any("restart begins" in line for line in proxy.text), "the restart")
        processes = [old, *(int(child["pid"]) for child in proxy.status()["children"])]
        proxy.signal(signal.SIGTERM)
        if step == "requests wait":
            assert wire.response()[0] == 200
        assert proxy.wait() == 0
        caller.join()
        assert all(ended(pid) for pid in processes)
        assert not any("Traceback" in line or "cannot be followed" in line for line in proxy.text)


def suppressed(proxy: Proxy) -> None:
    """A restart that gets no answer any more."""
    with suppress(OSError, HTTPException):
        restart(proxy)


def test_restarts_and_upgrades_take_turns() -> None:
    with overlapping() as proxy:
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            assert restart(proxy).status == 200
            wait_for(lambda: alone(proxy), "the end of the old process")
            app = app_of(proxy)
            upgrade(proxy, 2)
            assert app_of(proxy) == app, "the app goes on, where it listens now"
            assert restart(proxy).status == 200
            wait_for(lambda: alone(proxy), "the end of the old process")
            assert ended(app)
            upgrade(proxy, 3)
        assert set(fresh) == set(kept) == {"200"}
        assert handed_over(proxy) == 2
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0


def test_requests_that_are_held_by_hand_go_on_when_they_are_released() -> None:
    with holding() as proxy:
        assert proxy.ask("/hold?for=60s", "POST").json["waiting"] == 0
        answers: list[int] = []
        callers = [threading.Thread(target=lambda: answers.append(httpx.get(proxy.url).status_code)) for _ in range(5)]
        for caller in callers:
            caller.start()
        wait_for(lambda: proxy.status()["hold"]["waiting"] == 5, "all that wait")
        assert not answers
        assert proxy.ask("/release", "POST").body == "requests go on\n"
        for caller in callers:
            caller.join()
        assert answers == [200] * 5
        assert "hold" not in proxy.status()
        assert proxy.ask("/hold?for=soon", "POST").status == 400


def test_a_hold_ends_by_itself_and_by_a_drain() -> None:
    with holding(hold_limit="20s") as proxy:
        proxy.ask("/hold?for=1s", "POST")
        assert httpx.get(proxy.url, timeout=20).status_code == 200
        assert proxy.logged("the time to hold requests is over")
        proxy.ask("/hold?for=60s", "POST")
        with Wire(proxy.address) as wire:
            wire.get()
            wait_for(lambda: proxy.status()["hold"]["waiting"] == 1, "the request")
            assert proxy.ask("/drain", "POST").json["outcome"] == "clean"
            assert wire.response()[0] == 200
