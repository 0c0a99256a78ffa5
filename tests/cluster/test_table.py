"""Does the page say what came? Rows in, Markdown and JSON out; needs no cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cluster.table import ACCIDENTS, BASELINES, Row, Table

if TYPE_CHECKING:
    from pathlib import Path


def row(group: str, **other: object) -> Row:
    given = {"case": "a | b", "sidecar": "native", "traffic": "HTTP/1", "requests": 90, "lost": 3} | other
    return Row(group, **given, losses={"reset": 3}, pods_s=[1.0, 7.25, 9.0], promise="0 lost")  # type: ignore[arg-type]


def test_rows_stand_in_the_order_of_the_groups_and_a_broken_one_says_so(tmp_path: Path) -> None:
    table = Table(
        {"Kubernetes": "v1"}, "c0ffee", [row(ACCIDENTS, kept=False), row(BASELINES)], [("deploy/x", "no definition")]
    )
    table.write(tmp_path / "page.md", tmp_path / "page.json")
    page = (tmp_path / "page.md").read_text()
    assert page.index(BASELINES) < page.index(ACCIDENTS)
    assert "| a \\| b | native | HTTP/1 | 90 | 3 (3 reset) | 7.2 s, 9.0 s | **broken:** 0 lost |" in page
    assert "- deploy/x: no definition" in page
    assert [each["kept"] for each in json.loads((tmp_path / "page.json").read_text())["rows"]] == [False, True]


def test_a_case_without_traffic_shows_no_requests() -> None:
    assert "| native | - | - | - |" in Table({}, "c0ffee", [row(BASELINES, traffic="")]).markdown()


def test_a_case_that_is_played_again_takes_its_old_place_and_the_others_stay(tmp_path: Path) -> None:
    first = Table({}, "old", [row(BASELINES, case="a", commit="old"), row(BASELINES, case="b", commit="old")])
    first.write(tmp_path / "page.md", tmp_path / "page.json")
    again = Table({}, "new")
    again.read(tmp_path / "page.json")
    again.take([row(BASELINES, case="a", traffic="HTTP/2", commit="new"), row(BASELINES, case="a", commit="new")])
    told = [(each.case, each.traffic, each.commit) for each in again.rows]
    assert told == [("a", "HTTP/2", "new"), ("a", "HTTP/1", "new"), ("b", "HTTP/1", "old")]
    assert "2 rows of commit new, 1 rows of commit old" in again.markdown()
