"""Do inject and check stand whatever is in a manifest? Broken, odd and reformatted ones, made from those in order."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drainproxy.errors import DrainproxyError
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.edit import Style, block_text, flow_text
from drainproxy.tools.manifest.inject import inject, remove
from drainproxy.tools.manifest.rules import check
from drainproxy.tools.manifest.source import File, data_of, parse

ROOT = Path(__file__).parents[4]
WHOLE = [
    *(ROOT / "deploy").glob("*/*.yaml"),
    *(each for each in (Path(__file__).parent / "manifests").iterdir()),
]
DULL = ("Kustomization", "Component", "ConfigMap", "Secret", "PodMonitor", "Custom")
"""Kinds that inject passes by."""
DOCUMENTS: list[dict[str, Any]] = [
    data
    for path in sorted(WHOLE)
    for document in parse(path.name, path.read_bytes().decode()).documents
    if isinstance(data := data_of(document.root), dict) and data.get("kind", "Kustomization") not in DULL
]
ODD: list[Any] = [None, "", "x", "8080", 0, -1, 1.5, True, [], {}, [None], [{}], {"a": None}, ["x"], {"name": []}]


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        found += places(value, (*path, key))
    return found


def put(data: Any, path: tuple[Any, ...], value: Any, *, drop: bool) -> None:
    for step in path[:-1]:
        data = data[step]
    if drop:
        del data[path[-1]]
    else:
        data[path[-1]] = value


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """Some documents, a few values of them gone or replaced, in YAML or JSON."""
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        data = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
        for _ in range(draw(st.integers(0, 3))):
            where = draw(st.sampled_from(places(data) or [("kind",)]))
            data.setdefault("kind", "Nothing")
            put(data, where, copy.deepcopy(draw(st.sampled_from(ODD))), drop=draw(st.booleans()))
        style = Style(
            indent=draw(st.sampled_from([2, 4])), dash=draw(st.sampled_from([0, 2])), gap=draw(st.sampled_from([2, 4]))
        )
        text = (
            block_text(data, 0, style) if draw(st.booleans()) else json.dumps(data, indent=draw(st.none() | st.just(3)))
        )
        texts.append(text)
    return "\n---\n".join(texts) + draw(st.sampled_from(["", "\n", "\n# end\n", "\n...\n"]))


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(mangled())
@example(
    "{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {containers: [{name: [], ports: [{containerPort: 80}]}]}}"
)
def test_check_judges_whatever_it_reads(text: str) -> None:
    for each in check([File("m", text)]).findings:
        assert 1 <= each.line <= text.count("\n") + 1


@pytest.mark.slow
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(mangled(), st.sampled_from(["native", "classic", None]))
def test_inject_is_undone_byte_for_byte_or_refused(text: str, kind: Any) -> None:
    try:
        once = inject([File("m", text)], Options(kind=kind, new_token=lambda: "t")).files
    except DrainproxyError:
        return
    assert remove(once).files[0].text == text
    assert inject(once, Options(new_token=lambda: "other")).files == once


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=20), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(min_size=1, max_size=20), VALUES, min_size=1, max_size=3),
    st.sampled_from([0, 2]),
    st.sampled_from([2, 4]),
)
def test_what_is_written_reads_back(value: dict[str, Any], dash: int, gap: int) -> None:
    style = Style(dash=dash, gap=gap)
    for text in (block_text(value, 0, style), flow_text(value, style), flow_text(value, Style(is_json=True))):
        assert data_of(parse("t", text).documents[0].root) == value
