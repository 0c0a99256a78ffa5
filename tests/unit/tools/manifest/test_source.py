"""Is a manifest read whole, at its right places, and only where somebody looks?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.objects import resources
from drainproxy.tools.manifest.rules import check
from drainproxy.tools.manifest.source import File, Node, Source, data_of, parse
from tests.unit.tools.manifest.test_anything import WHOLE
from tests.unit.tools.manifest.test_rules import BARE, PROXIED

if TYPE_CHECKING:
    from pathlib import Path

DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  names: {kind: Widget}
"""


def was_read(source: Source) -> list[bool]:
    return ["root" in vars(each) for each in source.documents]


def test_a_document_of_no_interest_is_not_parsed() -> None:
    source = parse("m", f"{DEFINITION}---\n{BARE}")
    found = resources([source])
    assert [each.kind for each in found] == ["CustomResourceDefinition", "Deployment", "PodDisruptionBudget"]
    assert was_read(source) == [False, False, False]
    assert found[1].name == "bare"
    assert was_read(source) == [False, True, False]


def test_check_looks_into_no_definition() -> None:
    report = check([File("m", f"{DEFINITION}---\n{BARE}")])
    assert was_read(report.sources[0])[0] is False
    assert report.objects == 3


@pytest.mark.parametrize(
    "text",
    [
        "kind: ConfigMap\n",
        "---\n# comment\n\nkind: ConfigMap # and why\n",
        "apiVersion: v1\r\nkind: ConfigMap\r\n",
        "apiVersion: v1\nkind : ConfigMap\ndata:\n  x: |\n    kind: Pod\n---\n",
        "data:\n- a\n- kind: Pod\nkind: ConfigMap\n",
    ],
)
def test_a_kind_at_the_margin_is_read_without_the_parser(text: str) -> None:
    source = parse("m", text)
    assert source.documents[0].kind == "ConfigMap"
    assert was_read(source)[0] is False


@pytest.mark.parametrize(
    "text",
    [
        'data: "x\nkind: ConfigMap\ny"\nkind: Pod\n',
        "data: 'x\nkind: ConfigMap\ny'\n\"kind\": Pod\n",
        'data: "x\nkind: ConfigMap\ny"\n? kind\n: Pod\n',
        'base: &b {kind: Pod}\ndata: "x\nkind: ConfigMap\ny"\n<<: *b\n',
        '{"data": "x\nkind: ConfigMap\n", "kind": "Pod"}',
        '  kind: Pod\n  data: "x\nkind: ConfigMap\ny"\n',
        'data: "x\nkind: ConfigMap\ny"\n!!str kind: Pod\n',
        "kind: &k Pod\n",
        'kind: "Pod"\n',
        "kind:\n  Pod\n",
        "kind: !!str Pod\n",
        "%YAML 1.1\n---\nkind: Pod\n",
        "--- {kind: Pod}\n",
        "base: &b {kind: Pod}\nx: {}\n<<: [*b]\n",
    ],
)
def test_where_the_lines_do_not_tell_the_parser_decides(text: str) -> None:
    assert [each.kind for each in resources([parse("m", text)])] == ["Pod"]


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("", []),
        ("# nothing\n", []),
        ("# first\n---\na: 1\n", [{"a": "1"}]),
        ("a: 1\n---\n---\n# none\n---\nb: 2\n---\n", [{"a": "1"}, None, None, {"b": "2"}, None]),
        ("--- a\n--- |\n  x\n---\t{b: 2}\n", ["a", "x\n", {"b": "2"}]),
        ("a: |\n  ---\n  x\n--- # second\nb: 2\n", [{"a": "---\nx\n"}, {"b": "2"}]),
        ("a: ----\n----: 1\n", [{"a": "----", "----": "1"}]),
        ("a: 1\n...\n---\nb: 2\n", [{"a": "1"}, {"b": "2"}]),
        ("a: 1\r---\rb: 2\r", [{"a": "1"}, {"b": "2"}]),
    ],
)
def test_a_stream_is_split_at_its_markers(text: str, roots: list[Any]) -> None:
    def plain(value: Any) -> Any:
        return {key: plain(each) for key, each in value.items()} if isinstance(value, dict) else value and str(value)

    documents = parse("m", text).documents
    found = [plain(data_of(each.root)) for each in documents]
    assert [each.index for each in documents] == list(range(len(documents)))
    assert [each for each in found if each] == [each for each in roots if each]


def dumped(node: Node | None) -> Any:
    if node is None:
        return None
    inner = [dumped(each) for each in node.items], [(dumped(key), dumped(value)) for key, value in node.pairs]
    own = (node.kind, node.start, node.end, node.value, node.style, node.column, node.flow, node.tag, node.inside)
    return own, inner, node.target is not None


def read_by_ruamel(text: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patched:
        patched.setattr(yaml, "__with_libyaml__", False)
        return [dumped(each.root) for each in parse("m", text).documents]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here")
@pytest.mark.parametrize("path", WHOLE, ids=lambda each: f"{each.parent.name}-{each.name}")
def test_both_parsers_see_the_same_places(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_bytes().decode()
    assert [dumped(each.root) for each in parse("m", text).documents] == read_by_ruamel(text, monkeypatch)


@given(st.lists(st.sampled_from([*"abc:-#\n |>'\"{}[],&*!?", "\n---\n", "  ", ": ", "- ", "kind: Pod\n"]), max_size=30))
def test_splitting_changes_no_meaning(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        whole = [each for each in yaml.parse(text, yaml.CSafeLoader) if isinstance(each, yaml.DocumentStartEvent)]
        documents = parse("m", text).documents
        roots = [each.root for each in documents]
    except (ManifestError, yaml.YAMLError):
        return
    assert len(roots) == len(whole)


def test_what_libyaml_refuses_is_read_all_the_same() -> None:
    pair = parse("m", '{"kind": "Pod", "metadata": {"name": "\\ud83d\\ude00"}}')
    assert resources([pair])[0].name == "\U0001f600"
    marked = parse("m", "\ufeffkind: Pod\nmetadata: {name: a}\n")
    assert resources([marked])[0].name == "a"


def test_an_error_names_the_line_in_the_file() -> None:
    source = parse("m.yaml", "kind: A\n---\nkind: List\nb: [\nc: }\n")
    with pytest.raises(ManifestError, match=r"m\.yaml:5: not YAML"):
        resources([source])


def test_lines_and_columns_count_from_one() -> None:
    source = parse("m", "ab\ncd\r\n\nef")
    assert [(source.line_of(at), source.column_of(at)) for at in (0, 2, 3, 7, 8, 9)] == [
        (1, 1), (1, 3), (2, 1), (3, 1), (4, 1), (4, 2),
    ]  # fmt: skip
    assert source.lines(1, 4) == ["ab", "cd", "", "ef"]
    assert source.lines(0, 2) == ["ab", "cd"]
    assert source.lines(4, 9) == ["ef"]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here")
def test_a_thousand_documents_are_checked_in_a_second_of_cpu() -> None:
    deployment, service, *_ = (PROXIED.split("---\n")[at] for at in (0, 2))
    documents = [each.replace("web", f"web{n}") for n in range(500) for each in (deployment, service)]
    before = time.process_time()
    report = check([File("m", "---\n".join(documents))])
    spent = time.process_time() - before
    assert report.objects == 1000
    assert spent < 2.5, "measured 0.9 s; quadratic would be above 4"
