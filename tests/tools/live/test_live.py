"""Do `check --live` and `inject --live` read a cluster as it is? A script that knows some objects plays kubectl."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from drainproxy.drain.phase import Outcome
from drainproxy.observe.log import termination_message
from drainproxy.tools.cli import check, inject
from drainproxy.tools.live.objects import as_files
from drainproxy.tools.manifest.objects import resources
from drainproxy.tools.manifest.source import data_of, parse
from tests.unit.tools.manifest.test_rules import BARE, PROXIED, SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from drainproxy.observe.documents import Summary

KUBECTL = """\
#!{python}
import json, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(words) + "\\n")
state = json.load(open({state!r}))
if "api-resources" in words:
    print("\\n".join(state["kinds"]))
    sys.exit()
kinds = words[words.index("get") + 1].split(",")
refused = [each for each in kinds if each in state["refused"]]
items = [each for kind in kinds if kind not in refused for each in state["objects"].get(kind, [])]
if "--selector" in words:
    key, value = words[words.index("--selector") + 1].split("=")
    items = [each for each in items if each["metadata"].get("labels", {{}}).get(key) == value]
for kind in refused:
    print(f'Error from server (Forbidden): {{kind}} is forbidden', file=sys.stderr)
if items or not refused:
    print(json.dumps({{"kind": "List", "apiVersion": "v1", "items": items}}))
sys.exit(bool(refused))
"""
NOTED = {"uid": "1", "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}], "creationTimestamp": "x"}
FORCED: Summary = {
    "trigger": "http", "started_at": 0.0, "elapsed_s": 39.0, "deadline_in_s": 0.0, "floor_in_s": 0.0, "arrivals": 9,
    "late": 0, "last_arrival_s": 1.0, "completed": 7, "aborted": 2, "outcome": Outcome.FORCED.value, "why": "deadline",
    "departed": 0, "broken": 0, "lost": 0, "lost_work": [], "cut_total": 2, "cut": [], "told": None,
    "times": {}, "advice": "raise the grace period", "handed_over": 0, "released": False, "let_go_s": None,
    "successor": [],
}  # fmt: skip


def live(text: str, **more: Any) -> dict[str, Any]:
    """An object as the API server shows it."""
    data: dict[str, Any] = data_of(parse("m", text).documents[0].root)
    noted = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"}
    metadata = {"namespace": "shop", "labels": {"app": data["metadata"]["name"]}, **data["metadata"], **NOTED}
    return {**data, "metadata": {**metadata, "annotations": noted}, "status": {"observedGeneration": 1}, **more}


def owned(kind: str, name: str, owner: str, **more: Any) -> dict[str, Any]:
    maker = {"kind": owner, "name": "bare", "controller": True}
    return {"kind": kind, "apiVersion": "v1", "metadata": {"name": name, "ownerReferences": [maker], **NOTED}, **more}


DEPLOYMENT = live(BARE)
WEB = live(PROXIED)
POD = owned(
    "Pod",
    "bare-1",
    "ReplicaSet",
    spec={"containers": [{"name": "app", "image": "a", "ports": [{"containerPort": 1}]}]},
    status={"phase": "Running"},
)
WEB_POD = owned(
    "Pod",
    "web-1",
    "ReplicaSet",
    spec={"containers": [], "initContainers": [{"name": "drainproxy", "image": "drainproxy:1"}]},
    status={
        "initContainerStatuses": [
            {"name": "drainproxy", "lastState": {"terminated": {"message": termination_message(FORCED), "exitCode": 0}}}
        ]
    },
)
SLICE: dict[str, Any] = {
    "kind": "EndpointSlice",
    "metadata": {"name": "bare-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "bare"}},
    "endpoints": [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "bare-1"}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "terminating": True}},
    ],
}
EVENT = {
    "kind": "Event",
    "metadata": {"name": "bare-1.17", "namespace": "shop"},
    "reason": "FailedPreStopHook",
    "count": 3,
    "involvedObject": {"kind": "Pod", "name": "bare-1"},
}


class Cluster:
    """What the played kubectl knows."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state.json"
        self.log = directory / "log"
        self.refused: list[str] = []
        self.objects: dict[str, list[dict[str, Any]]] = {
            "deployments.apps": [DEPLOYMENT],
            "services": [live(SERVICE.removeprefix("---\n").replace("PORT", "http"))],
            "pods": [POD],
        }
        script = directory / "kubectl"
        script.write_text(KUBECTL.format(python=sys.executable, log=str(self.log), state=str(self.state)))
        script.chmod(0o755)

    def run(self, verb: Any, *words: str) -> Result:
        kinds = [*self.objects, *self.refused]
        self.state.write_text(json.dumps({"objects": self.objects, "kinds": kinds, "refused": self.refused}))
        return CliRunner().invoke(verb.command, ["--live", *words])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Cluster(tmp_path)


def findings(result: Result) -> dict[str, list[str]]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found: dict[str, list[str]] = {}
    for each in json.loads(result.stdout)["findings"]:
        found.setdefault(each["rule"], []).append(f"{each['severity']} {each['file']} {each['message']}")
    return found


def test_a_cluster_is_checked_as_files_are(cluster: Cluster) -> None:
    result = cluster.run(check, "-n", "shop", "-o", "json")
    assert findings(result)["DP506"] == ["warning shop/Deployment/bare 2 replicas may be evicted together"]
    assert "get deployments.apps --namespace shop --output=json" in cluster.log.read_text()
    assert "secret" not in cluster.log.read_text()


def test_what_a_controller_made_is_no_workload(cluster: Cluster) -> None:
    objects = {each.split()[1] for found in findings(cluster.run(check, "-o", "json")).values() for each in found}
    assert objects == {"shop/Deployment/bare"}


def test_what_the_cluster_notes_is_left_out() -> None:
    applied = as_files([WEB], to_apply=True)[0]
    assert applied.name == "shop/Deployment/web"
    for noise in ("managedFields", "resourceVersion", "creationTimestamp", "uid", "last-applied", "status"):
        assert noise not in applied.text
    assert "kept: " in applied.text
    assert "uid" in as_files([WEB])[0].text
    assert "phase: Running" in as_files([POD])[0].text


def test_numbers_that_an_autoscaler_set_are_no_fault(cluster: Cluster) -> None:
    target = {"kind": "Deployment", "name": "bare"}
    scaler = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "b"}, "spec": {"scaleTargetRef": target}}
    cluster.objects["horizontalpodautoscalers.autoscaling"] = [scaler]
    assert "DP509" not in findings(cluster.run(check, "-o", "json"))


def test_endpoints_forced_drains_and_failed_hooks_are_seen(cluster: Cluster) -> None:
    cluster.objects |= {"endpointslices.discovery.k8s.io": [SLICE], "events": [EVENT]}
    cluster.objects["pods"].append(WEB_POD)
    found = findings(cluster.run(check, "-o", "json"))
    assert found["DP901"] == ["warning shop/Service/bare 1 of 2 not ready: bare-1"]
    (told,) = found["DP902"]
    assert told.startswith("warning Pod/web-1 drain forced at the deadline after 39.0s")
    assert told.endswith("; advice: raise the grace period")
    assert found["DP903"] == ["warning shop/Event/bare-1.17 Pod/bare-1: 3 times, see its events"]


def labelled(name: str, image: str | None) -> dict[str, Any]:
    """A Pod in the namespace that asks for the sidecar."""
    sidecar = [] if image is None else [{"name": "drainproxy", "image": image, "restartPolicy": "Always"}]
    maker = {"kind": "ReplicaSet", "name": "bare", "uid": "r", "controller": True}
    app = {"name": "app", "image": "a", "ports": [{"name": "http", "containerPort": 8080}]}
    metadata = {"name": name, "namespace": "shop", "uid": name, "ownerReferences": [maker]}
    spec = {"initContainers": sidecar, "containers": [app]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


SHOP = {"kind": "Namespace", "metadata": {"name": "shop", "uid": "n", "labels": {"drainproxy.io/inject": "enabled"}}}


def test_pods_that_lack_the_sidecar_are_told_once_for_their_maker(cluster: Cluster) -> None:
    cluster.objects["pods"] = [
        labelled("bare-1", None),
        labelled("bare-2", None),
        labelled("bare-3", "r/drainproxy:0.0.1"),
    ]
    assert "DP904" not in findings(cluster.run(check, "-o", "json")), "nobody asked for it"
    cluster.objects["namespaces"] = [SHOP]
    missing, outdated = findings(cluster.run(check, "-o", "json"))["DP904"]
    assert missing.startswith("error shop/Pod/bare-1 missing: ")
    assert missing.endswith("; the same for 1 more of ReplicaSet/bare")
    assert outdated.startswith(
        "warning shop/Pod/bare-3 outdated: its drainproxy is r/drainproxy:0.0.1, not r/drainproxy:"
    )


def test_the_version_that_the_webhook_writes_is_the_right_one(cluster: Cluster) -> None:
    webhook = live(BARE)
    variable = {"name": "DRAINPROXY_WEBHOOK_IMAGE", "value": "r/drainproxy:0.0.1"}
    webhook["spec"]["template"]["spec"]["containers"][0]["env"] = [variable]
    cluster.objects |= {"namespaces": [SHOP], "deployments.apps": [webhook]}
    cluster.objects["pods"] = [labelled("bare-1", "r/drainproxy:0.0.1"), labelled("bare-2", "r/drainproxy:0.0.2")]
    (told,) = findings(cluster.run(check, "-o", "json"))["DP904"]
    assert told.startswith("warning shop/Pod/bare-2 outdated")


def test_a_service_without_any_ready_endpoint_is_an_error(cluster: Cluster) -> None:
    cluster.objects["endpointslices.discovery.k8s.io"] = [{**SLICE, "endpoints": SLICE["endpoints"][1:]}]
    assert findings(cluster.run(check, "-o", "json"))["DP901"][0].startswith("error")


def test_a_clean_drain_is_no_finding(cluster: Cluster) -> None:
    clean = termination_message({**FORCED, "aborted": 0, "cut_total": 0, "outcome": Outcome.CLEAN.value})
    text = json.dumps(WEB_POD).replace(json.dumps(termination_message(FORCED)), json.dumps(clean))
    assert text != json.dumps(WEB_POD)
    cluster.objects["pods"] = [json.loads(text)]
    assert "DP902" not in findings(cluster.run(check, "-o", "json"))


def test_a_selector_takes_what_belongs_to_the_workload(cluster: Cluster) -> None:
    cluster.objects["deployments.apps"].append(WEB)
    other = SERVICE.removeprefix("---\n").replace("bare", "other").replace("PORT", "http")
    cluster.objects["services"].append(live(other))
    result = cluster.run(check, "-l", "app=bare", "-o", "json")
    assert json.loads(result.stdout)["objects"] == 2
    assert "--selector app=bare" in cluster.log.read_text()


def test_what_may_not_be_read_is_said(cluster: Cluster) -> None:
    cluster.refused = ["poddisruptionbudgets.policy"]
    result = cluster.run(check)
    assert "poddisruptionbudgets.policy is forbidden" in result.stderr
    assert "Deployment/bare" in result.stdout


def test_no_kubectl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(check.command, ["--live"])
    assert "kubectl is not on the PATH" in str(result.exception)


def test_kubectl_that_fails_is_quoted(cluster: Cluster) -> None:
    cluster.refused = list(cluster.objects)
    cluster.objects = {}
    assert "is forbidden" in str(cluster.run(check).exception)


@pytest.mark.parametrize(
    "words", [["-n", "shop"], ["-A"], ["-l", "a=b"], ["--live", "m.yaml"], ["--live", "-A", "-n", "shop"]]
)
def test_options_that_do_not_go_together_are_refused(words: list[str]) -> None:
    assert CliRunner().invoke(check.command, words).exit_code == 2


def test_inject_writes_what_kubectl_applies(cluster: Cluster) -> None:
    app = BARE.replace("        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}\n", "")
    cluster.objects["deployments.apps"] = [live(app)]
    untouched = live(SERVICE.removeprefix("---\n").replace("bare", "other").replace("PORT", "http"))
    cluster.objects["services"].append(untouched)
    result = cluster.run(inject, "-n", "shop")
    assert result.exit_code == 0, result.output
    written = resources([parse("out", result.stdout)])
    assert [str(each) for each in written] == ["Deployment/bare"]
    assert written[0].spec["template"]["spec"]["initContainers"][0]["name"] == "drainproxy"
    assert "status" not in written[0].data
    assert "uid" not in written[0].data["metadata"]


def test_a_second_inject_changes_nothing(cluster: Cluster) -> None:
    app = BARE.replace("        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}\n", "")
    cluster.objects["deployments.apps"] = [live(app)]
    first = cluster.run(inject).stdout
    injected = live(first)
    app_container = injected["spec"]["template"]["spec"]["containers"][0]
    app_container["lifecycle"]["preStop"]["httpGet"]["scheme"] = "HTTP"
    cluster.objects["deployments.apps"] = [injected]
    assert cluster.run(inject).stdout == ""


def test_inject_leaves_what_a_controller_would_change_back(cluster: Cluster) -> None:
    maker = {"kind": "Prometheus", "name": "k8s", "controller": True}
    made = live(BARE.replace("{name: bare}", "{name: made}", 1))
    made["metadata"]["ownerReferences"] = [maker]
    app = BARE.replace("        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}\n", "")
    cluster.objects["deployments.apps"] = [live(app), made]
    result = cluster.run(inject)
    assert "Deployment/made: made by Prometheus/k8s; change that" in result.stderr
    assert [str(each) for each in resources([parse("out", result.stdout)])] == ["Deployment/bare"]
    assert CliRunner().invoke(inject.command, ["--live", "-i"]).exit_code == 2
