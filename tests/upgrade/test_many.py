"""Several upgrades, and restarts, in a row under load of all protocols; `make upgrades` does twenty of each."""

from __future__ import annotations

import asyncio

import pytest

from tests.search.clients import Saw
from tests.upgrade.steady import WAYS

ROUNDS = 3
MORE_FILES = 16
"""Connections come and go in the load: so many files the last process may have more than the first."""
MORE_KIB = 4096


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nobody_is_refused_cut_or_answered_wrong_and_nothing_grows(way: str) -> None:
    report = asyncio.run(WAYS[way](ROUNDS))
    print("\n".join(report.lines()))
    assert report.rounds == ROUNDS
    assert report.failures == []
    assert report.seen[Saw.ANSWERED] > 50 * ROUNDS
    (first_kib, first_files), (last_kib, last_files) = report.held
    assert last_files <= first_files + MORE_FILES
    assert last_kib <= first_kib + MORE_KIB
