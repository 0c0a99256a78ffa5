"""Is docs/rollouts.md true? Every test that it names exists, and every fact about the kubelet is listed there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from drainproxy.tools.probe.causes import MEANING

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "rollouts.md").read_text(encoding="utf-8")


def names_of_tests(*files: Path) -> set[str]:
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                names.add(node.name)
    return names


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOC))
    there = names_of_tests(
        *(test for room in ("rollout", "tools", "unit/tools") for test in (ROOT / "tests" / room).rglob("test_*.py"))
    )
    assert len(named) >= 35
    assert named - there == set()


def test_every_kubelet_test_is_a_fact_of_the_page() -> None:
    own = {"test_a_pod_that_is_deleted_while_it_starts_goes_away", "test_deleting_twice_is_deleting_once"}
    facts = names_of_tests(Path(__file__).with_name("test_kubelet.py")) - own
    assert facts - set(re.findall(r"`(test_\w+)`", DOC)) == set()


def test_every_failure_class_is_explained_on_the_page() -> None:
    assert {name for name in MEANING if f"`{name}`" not in DOC} == {"close 1006"}  # told beside `close 1001`
