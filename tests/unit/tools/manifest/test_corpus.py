"""What does inject make of manifests nobody here wrote? Every known pattern, in every kind of workload and style."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.edit import Style, block_text
from drainproxy.tools.manifest.inject import Outcome, inject, remove
from drainproxy.tools.manifest.objects import TEMPLATES
from drainproxy.tools.manifest.source import File
from tests.unit.tools.manifest.patterns import LABELS, PATTERNS, Object, Pattern

PAGE = Path(__file__).parents[4] / "docs" / "inject.md"
KINDS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Pod": "v1",
    "ReplicationController": "v1",
    "Rollout": "argoproj.io/v1alpha1",
    "CloneSet": "apps.kruise.io/v1alpha1",
    "DeploymentConfig": "apps.openshift.io/v1",
}
STYLES = [Style(), Style(indent=2, dash=2), Style(indent=4, dash=2, gap=4), Style(newline="\r\n"), None]
"""None: JSON."""


def workload(pattern: Pattern, kind: str) -> Object:
    metadata: Object = {"labels": dict(LABELS)}
    if pattern.annotations:
        metadata["annotations"] = pattern.annotations
    template = {"metadata": metadata, "spec": {"containers": list(pattern.containers), **pattern.pod}}
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": kind, **template, "metadata": {"name": "shop", **metadata}}
    return {"apiVersion": KINDS[kind], "kind": kind, "metadata": {"name": "shop"}, "spec": {"template": template}}


def text_of(pattern: Pattern, kind: str, style: Style | None) -> str:
    documents = copy.deepcopy([*pattern.around, workload(pattern, kind)])
    if style is None:
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2)
    newline = style.newline
    return f"{newline}---{newline}".join(block_text(each, 0, style) for each in documents) + newline


def run(pattern: Pattern, text: str, **more: Any) -> Outcome:
    return inject([File("in", text)], Options(new_token=lambda: "t0ken", **{**pattern.options, **more}))


CASES = [
    pytest.param(pattern, kind, STYLES[(number + at) % len(STYLES)], id=f"{number}-{kind}")
    for number, pattern in enumerate(PATTERNS)
    for at, kind in enumerate(KINDS)
]


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 300
    assert set(KINDS) <= set(TEMPLATES)


@pytest.mark.parametrize(("pattern", "kind", "style"), CASES)
def test_every_pattern_is_treated_as_the_table_says(pattern: Pattern, kind: str, style: Style | None) -> None:
    text = text_of(pattern, kind, style)
    if pattern.left or pattern.passed:
        with pytest.raises(ManifestError, match=pattern.left or pattern.passed):
            run(pattern, text)
        return
    outcome = run(pattern, text)
    chosen = [(row.container, row.app_port, row.protocol + "?" * row.guess) for row in outcome.rows]
    assert chosen == pattern.routes
    assert all(row.why for row in outcome.rows)
    assert remove(outcome.files).files[0].text == text
    assert run(pattern, outcome.files[0].text).files == outcome.files


@pytest.mark.parametrize("pattern", [each for each in PATTERNS if each.left], ids=lambda each: each.found)
def test_what_is_undecided_is_left_out_and_the_others_are_written(pattern: Pattern) -> None:
    other = 'apiVersion: v1\nkind: Pod\nmetadata: {name: other, annotations: {drainproxy.io/ports: "1234"}}\n'
    other += "spec: {containers: [{name: only, image: i, ports: [{containerPort: 1234}]}]}\n"
    text = text_of(pattern, "Deployment", Style())
    with pytest.raises(ManifestError, match="--skip-ambiguous writes the other 1"):
        run(pattern, f"{text}---\n{other}")
    outcome = run(pattern, f"{text}---\n{other}", skip_undecided=True)
    assert outcome.files[0].text.startswith(text)
    assert "name: drainproxy" in outcome.files[0].text.removeprefix(text)
    assert [each.workload for each in outcome.left] == ["Deployment/shop"]
    assert re.search(pattern.left, outcome.left[0].why)


def test_the_page_has_the_same_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [f"| {each.found} | {each.done} |" for each in PATTERNS]
    found = [line for line in page.splitlines() if line in rows]
    assert found == rows
