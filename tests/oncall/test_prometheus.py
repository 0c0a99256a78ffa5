"""Do alerts fire when they should, and do panels show something, in a real Prometheus? The short version of
`make oncall`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from drainproxy.cli import cli
from tests.oncall.panels import QUERIES, Query
from tests.oncall.stories import SHORT, expected, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.oncall.prometheus import Prometheus

pytestmark = pytest.mark.debian


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen all of it."""
    with told(tmp_path_factory.mktemp("prometheus"), SHORT) as running:
        yield running


def test_alerts_fire_for_what_happened_and_for_nothing_else(watch: Prometheus) -> None:
    assert watch.fired() == expected(SHORT)


def test_advise_reads_the_drains_from_it_and_says_what_to_change(watch: Prometheus) -> None:
    done = CliRunner().invoke(cli, ["advise", "--prometheus", watch.url, "--since", "10m", "-o", "json"])
    assert done.exit_code == 0, done.output
    found = {each["workload"]: each for each in json.loads(done.stdout)["workloads"]}
    assert {name: sum(each["outcomes"].values()) for name, each in found.items()} == {"calm": 2, "forced": 1, "late": 1}
    grace = next(each for each in found["forced"]["settings"] if each["setting"] == "grace-period")
    floor = next(each for each in found["late"]["settings"] if each["setting"] == "propagation-delay")
    assert grace["because"] == "lost"
    assert floor["because"] == "tight"
    assert floor["set_s"] > floor["now_s"] == 0.3


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_query_of_a_board_returns_data(watch: Prometheus, query: Query) -> None:
    assert query.rows(watch), query.text
