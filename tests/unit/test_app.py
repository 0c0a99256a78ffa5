"""What does the process do with what the system gives it?"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any, cast

from drainproxy import app
from drainproxy.config.options import Config

if TYPE_CHECKING:
    import pytest


class Log:
    """The part of a log that is asked for here."""

    def __init__(self) -> None:
        self.warned: list[dict[str, Any]] = []

    def warning(self, _message: str, **fields: Any) -> None:
        self.warned.append(fields)


def connections_with(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, *, refuses: bool = False, asked: int = 10_000
) -> tuple[int, Log]:
    """How many connections a route may have at these limits of open files, of 10 000 that it should."""

    def raise_limit(_what: int, limits: tuple[int, int]) -> None:
        if refuses:
            raise ValueError("current limit exceeds maximum limit")
        assert limits == (hard, hard)

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", raise_limit)
    log = Log()
    return app._files_for_connections(Config(max_connections=asked), cast("Any", log)), log


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, log = connections_with(monkeypatch, 1024, 1 << 20)
    assert connections == 10_000
    assert not log.warned


def test_where_the_system_refuses_to_raise_it_what_is_in_force_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, log = connections_with(monkeypatch, 1024, 1 << 20, refuses=True)
    assert 2 * connections < 1024
    assert log.warned == [{"max_connections": connections, "open_files": 1024}]


def test_no_limit_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, log = connections_with(monkeypatch, 1024, resource.RLIM_INFINITY)
    assert connections == 10_000
    assert not log.warned


def test_with_hardly_any_files_there_is_still_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, log = connections_with(monkeypatch, 64, 64)
    assert connections == 1
    assert log.warned[0]["max_connections"] == 1


def test_fewer_connections_than_the_default_are_told_of_if_they_are_few_or_more_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections, log = connections_with(monkeypatch, 4096, 4096)
    assert 1000 < connections < 10_000
    assert not log.warned
    _, log = connections_with(monkeypatch, 4096, 4096, asked=9_999)
    assert log.warned == [{"max_connections": connections, "open_files": 4096}]
    few, log = connections_with(monkeypatch, 2048, 2048)
    assert log.warned == [{"max_connections": few, "open_files": 2048}]
