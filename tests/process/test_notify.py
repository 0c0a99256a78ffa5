"""What does the service manager hear? Read from a real socket."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from drainproxy.process.notify import Report, ServiceManager, without_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify") if request.param == "path" else f"\0drainproxy-test-{os.getpid()}")
        sock.settimeout(5)
        yield sock


def manager(heard: socket.socket, **environ: str) -> ServiceManager:
    name = heard.getsockname()
    path = name if isinstance(name, str) else "@" + name[1:].decode()
    return ServiceManager.of({"NOTIFY_SOCKET": path, **environ}, os.getpid())


def next_message(heard: socket.socket) -> list[str]:
    return heard.recv(4096).decode().split("\n")


def test_reloading_carries_the_time_that_orders_it(heard: socket.socket) -> None:
    told = manager(heard)
    told.reloading()
    told.ready()
    first, second = next_message(heard)
    assert first == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=[1-9]\d+", second)
    assert next_message(heard) == ["READY=1"]


def test_a_status_is_told_when_it_changes_on_one_line(heard: socket.socket) -> None:
    told = manager(heard)
    told.report(Report("ready", None))
    told.report(Report("ready", None))
    told.report(Report("unready: no\nanswer", None))
    assert next_message(heard) == ["STATUS=ready"]
    assert next_message(heard) == ["STATUS=unready: no answer"]


def test_stopping_is_said_once_and_more_time_is_asked_for_each_time(heard: socket.socket) -> None:
    told = manager(heard)
    for left_s in (20.0, 19.0):
        told.report(Report("finishing", left_s))
    assert next_message(heard) == ["STOPPING=1"]
    assert next_message(heard) == ["STATUS=finishing", "EXTEND_TIMEOUT_USEC=22000000"]
    assert next_message(heard) == ["EXTEND_TIMEOUT_USEC=21000000"]


async def test_the_watchdog_gets_its_sign_at_twice_the_pace_it_asks_for(heard: socket.socket) -> None:
    told = manager(heard, WATCHDOG_USEC="40000", WATCHDOG_PID=str(os.getpid()))
    task = asyncio.create_task(told.keep_told(lambda: Report("ready", None)))
    assert await asyncio.to_thread(next_message, heard) == ["WATCHDOG=1", "STATUS=ready"]
    assert await asyncio.to_thread(next_message, heard) == ["WATCHDOG=1"]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_a_watchdog_of_another_process_is_not_ours(heard: socket.socket) -> None:
    told = manager(heard, WATCHDOG_USEC="40000", WATCHDOG_PID=str(os.getpid() + 1))
    told.report(Report("ready", None))
    assert next_message(heard) == ["STATUS=ready"]


def test_a_manager_that_is_gone_or_full_harms_nobody(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody"), None, follows=True).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        told = ServiceManager(str(tmp_path / "deaf"), None, follows=True)
        for _ in range(10_000):
            told.ready()


async def test_without_a_manager_nothing_is_looked_at() -> None:
    def look() -> Report:
        raise AssertionError("nobody wants to know")

    await ServiceManager.of({}, os.getpid()).keep_told(look)


def test_the_app_does_not_speak_for_us() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    assert without_manager(environ) == {"PATH": "/bin"}
