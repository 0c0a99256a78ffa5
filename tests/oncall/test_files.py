"""Is what is in deploy/monitoring made from the code, and read by the programs it is for?"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from drainproxy.observe.metrics import METRICS
from drainproxy.tools.monitoring.boards import BOARDS, Board, document
from drainproxy.tools.monitoring.files import texts
from drainproxy.tools.monitoring.queries import series
from drainproxy.tools.monitoring.rules import ALERTS, RECORDINGS
from tests.support.apps import need

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
SCRAPED = frozenset({"namespace", "workload", "revision", "pod"})
"""Labels that the scrape configurations set."""

QUERIES = [
    *(pytest.param(each.expr, id=each.name) for each in RECORDINGS),
    *(pytest.param(each.expr, id=each.name) for each in ALERTS),
    *(
        pytest.param(query, id=f"{board.uid}-{panel.title}-{number}")
        for board in BOARDS
        for _, panels in board.rows
        for panel in panels
        for number, (query, _) in enumerate(panel.queries)
    ),
]


@pytest.mark.parametrize("name", texts())
def test_the_file_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == texts()[name], "run `make docs`"


def test_a_metric_that_does_not_exist_cannot_be_named() -> None:
    with pytest.raises(KeyError):
        series("drains")
    with pytest.raises(KeyError):
        series("in_flight_bucket")


def labels_of(metric: str) -> dict[str, set[str]]:
    """Every label that the metric has, with its values as far as they are listed."""
    found = next((each for each in METRICS if each.name == metric.removesuffix("_bucket")), None)
    declared = {} if found is None else {name: set(values.split(", ")) for name, values in found.labels.items()}
    if metric.endswith("_bucket"):
        declared["le"] = set()
    return declared


@pytest.mark.parametrize("query", QUERIES)
def test_every_label_and_value_that_a_query_names_exists(query: str) -> None:
    recorded = {each.name: each.expr for each in RECORDINGS}
    metrics = set(re.findall(r"(?<![:\w])(?:drainproxy|process)_\w+", query))
    known = {label for metric in metrics for label in labels_of(metric)}
    for name, expr in recorded.items():
        if name in query:
            known |= set(re.findall(r"\w+", expr.partition("(")[2].partition(")")[0]))
    assert metrics or any(name in query for name in recorded)
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        assert {each.strip() for each in group.split(",")} <= known | SCRAPED, group
    for metric, chosen in re.findall(r"((?:drainproxy|process)_[\w:]+)\{([^}]*)\}", query):
        for label, values in re.findall(r'(\w+)!?=~?"([^"]*)"', chosen):
            assert label in known | SCRAPED, label
            closed = labels_of(metric).get(label)
            assert closed is None or set(values.split("|")) <= closed, values


# Grafana.


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_board_fits_grafanas_schema(board: Board) -> None:
    """Read into Grafana's types and written again it is the same: no field that Grafana does not know."""
    register_default_plugins()
    written = document(board)
    read = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(written))), cls=JSONEncoder))
    assert read == written


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_have_a_place_of_their_own_and_say_what_they_show(board: Board) -> None:
    panels = document(board)["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for each in panels:
        at = each["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, each["title"]
        taken |= cells
        assert each["type"] == "row" or (each["description"] and each["targets"])


def test_every_metric_is_on_a_board_or_in_a_rule() -> None:
    asked = " ".join(str(param.values[0]) for param in QUERIES)
    assert [metric.name for metric in METRICS if metric.name not in asked] == []


# Prometheus.


@pytest.mark.debian
def test_promtool_reads_the_rules_and_each_alert_fires_where_it_should_and_only_there() -> None:
    promtool = need("promtool", "prometheus")
    for arguments in (("check", "rules", "--lint=all", "--lint-fatal", "rules.yml"), ("test", "rules", "tests.yml")):
        done = subprocess.run(
            [promtool, *arguments], cwd=FOLDER / "prometheus", capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire() -> None:
    tests = YAML(typ="safe").load((FOLDER / "prometheus" / "tests.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test.get("alert_rule_test", ()) if each.get("exp_alerts")}
    assert fired == {each.name for each in ALERTS}


@pytest.mark.debian
def test_prometheus_reads_the_scrape_configuration(tmp_path: Path) -> None:
    """Debian's Prometheus is built without the discovery of Kubernetes: another one stands in its place."""
    config = YAML(typ="safe").load(texts()["prometheus/scrape.yml"])
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["static_configs"] = [{"targets": ["192.0.2.1:9081"]}]
    (tmp_path / "scrape.yml").write_text(json.dumps(config))
    command = [need("promtool", "prometheus"), "check", "config", "--syntax-only", str(tmp_path / "scrape.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def relabeled(found: dict[str, str], configs: list[dict[str, Any]]) -> dict[str, str]:
    """What Prometheus makes of a discovered target's labels (action replace, its default)."""
    labels = dict(found)
    for each in configs:
        joined = ";".join(labels.get(name, "") for name in each["source_labels"])
        match = re.fullmatch(each["regex"], joined)
        if match and "target_label" in each:
            labels[each["target_label"]] = match[1]
    return {name: value for name, value in labels.items() if not name.startswith("__")}


@pytest.mark.parametrize(
    ("kind", "owner", "pod", "hashes", "workload", "revision"),
    [
        ("ReplicaSet", "web-shop-5d9f7c8b6", "web-shop-5d9f7c8b6-x2k4q", ("5d9f7c8b6", ""), "web-shop", "5d9f7c8b6"),
        ("StatefulSet", "store", "store-0", ("", "store-77f"), "store", "store-77f"),
        ("DaemonSet", "agent", "agent-x2k4q", ("", "agent-66d"), "agent", "agent-66d"),
        ("", "", "alone", ("", ""), "alone", None),
    ],
)
def test_workload_and_revision_are_told_from_what_kubernetes_knows(
    kind: str, owner: str, pod: str, hashes: tuple[str, str], workload: str, revision: str | None
) -> None:
    configs = YAML(typ="safe").load(texts()["prometheus/scrape.yml"])["scrape_configs"][0]["relabel_configs"]
    found = {
        "__meta_kubernetes_namespace": "shop",
        "__meta_kubernetes_pod_name": pod,
        "__meta_kubernetes_pod_controller_kind": kind,
        "__meta_kubernetes_pod_controller_name": owner,
        "__meta_kubernetes_pod_label_pod_template_hash": hashes[0],
        "__meta_kubernetes_pod_label_controller_revision_hash": hashes[1],
    }
    expected = {"namespace": "shop", "pod": pod, "workload": workload, "revision": revision}
    assert relabeled(found, configs) == {name: value for name, value in expected.items() if value}
