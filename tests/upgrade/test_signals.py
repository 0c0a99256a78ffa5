"""What does each signal mean, and /drain, in each step of an upgrade? The table of docs/upgrade.md, row by row."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import http_server
from tests.support.generations import AS_HEIR, generations, handed_over, upgrade
from tests.support.pending import pending
from tests.support.pids import ended
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pending import Pending
    from tests.support.proxy import Proxy

NEVER_READY = AS_HEIR.format(does="time.sleep(1000)")


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


@contextmanager
def while_the_new_one_starts(app: str) -> Iterator[tuple[Proxy, int]]:
    """And the number of the new one."""
    with generations(app, program=NEVER_READY) as proxy:
        proxy.signal(signal.SIGUSR2)
        yield proxy, proxy.await_log("upgrade begins")["pid"]


@contextmanager
def while_the_old_one_drains(app: str) -> Iterator[tuple[Proxy, Pending]]:
    """And a request that it still has."""
    with generations(app) as proxy, pending(proxy) as request:
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 2, "the new generation")
        assert handed_over(proxy) == 0
        yield proxy, request


@contextmanager
def the_keeper(app: str) -> Iterator[tuple[Proxy, int]]:
    """And the number of the generation in service."""
    with generations(app) as proxy:
        upgrade(proxy, 2)
        yield proxy, int(proxy.status()["pid"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_while_the_new_one_starts_the_old_one_drains_and_both_end(app: str, number: int) -> None:
    with while_the_new_one_starts(app) as (proxy, new):
        proxy.signal(number)
        assert proxy.wait() == 0
        wait_for(lambda: ended(new), "the end of the new one")


def test_sigquit_while_the_new_one_starts_ends_both_at_once(app: str) -> None:
    with while_the_new_one_starts(app) as (proxy, new):
        proxy.signal(signal.SIGQUIT)
        assert proxy.wait(5) == 131
        wait_for(lambda: ended(new), "the end of the new one")


def test_sighup_is_read_by_all_who_serve(app: str) -> None:
    def readers() -> int:
        return sum("SIGHUP: settings read again" in line for line in proxy.text)

    with while_the_new_one_starts(app) as (proxy, _):
        proxy.signal(signal.SIGHUP)
        wait_for(lambda: readers() == 1, "the one that serves")
    with while_the_old_one_drains(app) as (proxy, request):
        proxy.signal(signal.SIGHUP)
        wait_for(lambda: readers() == 2, "both")
        assert request.answer() == 200


def test_a_drain_while_the_new_one_starts_keeps_the_old_one_in_service(app: str) -> None:
    with generations(app, program=AS_HEIR.format(does="time.sleep(3)"), propagation_delay="6s") as proxy:
        proxy.signal(signal.SIGUSR2)
        proxy.await_log("upgrade begins")
        assert proxy.ask("/drain?wait=0", "POST").status == 202
        assert "a drain has begun" in proxy.await_log("upgrade failed: this process stays in service")["reason"]
        assert proxy.status()["generation"] == 1


def test_a_second_upgrade_is_refused_until_the_first_is_over(app: str) -> None:
    with while_the_new_one_starts(app) as (proxy, _):
        answer = proxy.ask("/upgrade", "POST")
        assert (answer.status, answer.body) == (409, "a new generation is starting already\n")
    with while_the_old_one_drains(app) as (proxy, request):
        answer = proxy.ask("/upgrade", "POST")
        assert (answer.status, answer.body) == (409, "the generation before this one still drains\n")
        assert request.answer() == 200
        wait_for(lambda: handed_over(proxy) == 1, "the end of the old one")
        upgrade(proxy, 3)


def test_told_to_end_while_the_old_one_drains_both_finish_what_they_have(app: str) -> None:
    with while_the_old_one_drains(app) as (proxy, first), pending(proxy) as second:
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: sum("SIGTERM" in line for line in proxy.text) == 2, "both")
        assert first.answer() == second.answer() == 200
        assert proxy.wait() == 0


def test_a_drain_while_the_old_one_drains_ends_when_both_have(app: str) -> None:
    with while_the_old_one_drains(app) as (proxy, request):
        answers: list[Any] = []
        caller = threading.Thread(target=lambda: answers.append(proxy.ask("/drain", "POST")))
        caller.start()
        wait_for(lambda: proxy.status()["state"] == "draining", "the drain")
        assert not answers, "the old one has a request"
        assert request.answer() == 200
        caller.join()
        assert answers[0].json["outcome"] == "clean"
        assert proxy.ask("/resume", "POST").status == 200


def test_sigquit_while_the_old_one_drains_ends_both_at_once(app: str) -> None:
    with while_the_old_one_drains(app) as (proxy, _):
        new = int(proxy.status()["pid"])
        proxy.signal(signal.SIGQUIT)
        assert proxy.wait(5) == 131
        wait_for(lambda: ended(new), "the end of the new one")


def test_sigterm_to_the_new_one_alone_ends_it_when_the_old_one_has_ended(app: str) -> None:
    """As from a service manager that was told MAINPID."""
    with while_the_old_one_drains(app) as (proxy, request):
        os.kill(int(proxy.status()["pid"]), signal.SIGTERM)
        wait_for(lambda: proxy.logged("SIGTERM"), "the new one")
        assert request.answer() == 200
        assert proxy.wait() == 0


def test_the_keeper_passes_signals_on_and_ends_with_the_code_of_the_generation_in_service(app: str) -> None:
    with the_keeper(app) as (proxy, _):
        proxy.signal(signal.SIGHUP)
        proxy.await_log("SIGHUP: settings read again")
        proxy.signal(signal.SIGUSR2)
        wait_for(lambda: proxy.status()["generation"] == 3, "the third generation")
        wait_for(lambda: handed_over(proxy) == 2, "the end of the second")
        proxy.signal(signal.SIGQUIT)
        assert proxy.wait() == 131


def test_the_keeper_ends_with_a_generation_that_crashes(app: str) -> None:
    with the_keeper(app) as (proxy, in_service):
        os.kill(in_service, signal.SIGKILL)
        assert proxy.wait() == 128 + signal.SIGKILL
