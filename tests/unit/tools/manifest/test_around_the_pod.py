"""What does inject promise beside the choice of ports? Meshes, nodes, anchors, other kinds, objects without text."""

from __future__ import annotations

import copy
import json
from itertools import count
from typing import Any

import pytest

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.asked import Options, Undecided
from drainproxy.tools.manifest.choice import NothingToProxy
from drainproxy.tools.manifest.document import inject_document
from drainproxy.tools.manifest.inject import Outcome, inject, remove
from drainproxy.tools.manifest.objects import Workload, resources, workloads
from drainproxy.tools.manifest.outcome import as_json, table
from drainproxy.tools.manifest.sidecar import Sidecar, find
from drainproxy.tools.manifest.source import File, parse
from tests.unit.tools.manifest.patterns import app, http_probe, port, proxy, service, to

TOKENS: dict[str, Any] = {"new_token": lambda: "t0ken"}
KNATIVE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "fn"}, "spec": {}}


def deployment(*containers: Any, name: str = "shop", kind: str = "Deployment", **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    template = {
        "metadata": {"labels": {"app": "shop"}, "annotations": annotations},
        "spec": {"containers": list(containers), **spec},
    }
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": {"template": template}}


def run(*documents: Any, **options: Any) -> Outcome:
    text = "\n---\n".join(each if isinstance(each, str) else json.dumps(each, indent=1) for each in documents)
    outcome = inject([File("in", text)], Options(**{**TOKENS, **options}))
    assert remove(outcome.files).files[0].text == text
    assert inject(outcome.files, Options(**{**TOKENS, **options})).files == outcome.files
    return outcome


def workload(outcome: Outcome, at: int = 0) -> Workload:
    return workloads(resources([parse("out", outcome.files[0].text)]))[at]


def sidecar(outcome: Outcome, at: int = 0) -> Sidecar:
    found = find(workload(outcome, at))
    assert found is not None
    return found


def drains(each: Workload) -> list[str]:
    return [str(one["name"]) for one in each.containers if "/drain" in json.dumps(one.get("lifecycle", {}))]


ISTIO_INIT = {"name": "istio-init", "image": "i", "args": ["-b", "80", "-x", "", "-d", "15090,15020"]}


@pytest.mark.parametrize(
    ("marks", "key"),
    [
        ({"sidecar.istio.io/inject": "true"}, "traffic.sidecar.istio.io/excludeInboundPorts"),
        ({"istio.io/rev": "canary"}, "traffic.sidecar.istio.io/excludeInboundPorts"),
        ({"linkerd.io/inject": "enabled"}, "config.linkerd.io/skip-inbound-ports"),
    ],
)
def test_the_admin_port_is_taken_out_of_a_mesh_and_what_was_listed_stays(marks: dict[str, str], key: str) -> None:
    web = app(port(80, "http"))
    assert workload(run(deployment(web, annotations=marks))).annotations[key] == "9081"
    both = run(deployment(web, annotations={**marks, key: "15020,9999"}))
    assert workload(both).annotations[key] == "15020,9999,9081"


def test_a_namespace_in_the_input_says_that_its_pods_are_in_a_mesh() -> None:
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "n", "labels": {"istio-injection": "enabled"}},
    }
    web = deployment(app(port(80, "http")))
    web["metadata"]["namespace"] = "n"
    key = "traffic.sidecar.istio.io/excludeInboundPorts"
    assert workload(run(namespace, web)).annotations[key] == "9081"
    web["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    assert key not in workload(run(namespace, web)).annotations


def test_a_mesh_that_is_there_already_gets_its_lists_of_ports_changed() -> None:
    native = {"name": "istio-proxy", "image": "i", "restartPolicy": "Always"}
    out = workload(run(deployment(app(port(80, "http")), initContainers=[ISTIO_INIT, native])))
    assert out.init_containers[0]["args"] == ["-b", "80,9080", "-x", "", "-d", "15090,15020,9081"]
    assert [each["name"] for each in out.init_containers] == ["istio-init", "istio-proxy", "drainproxy"]


def test_a_mesh_proxy_that_is_no_native_sidecar_waits_for_the_drain() -> None:
    out = workload(run(deployment(app(port(80, "http")), app(port(4143), name="linkerd-proxy"))))
    assert drains(out) == ["app", "linkerd-proxy"]


def test_linkerd_learns_that_bytes_pass_through_our_port() -> None:
    out = workload(run(deployment(app(port(3306)), annotations={"linkerd.io/inject": "enabled"})))
    assert out.annotations["config.linkerd.io/opaque-ports"] == "9080"


def test_an_app_behind_an_auth_proxy_waits_for_the_drain_too() -> None:
    out = run(deployment(app(port(8080, "http")), proxy("--upstream=http://127.0.0.1:8080/")))
    assert drains(workload(out)) == ["app", "kube-rbac-proxy"]


@pytest.mark.parametrize("words", [["--host=127.0.0.1", "--port=8081"], ["--listen", "127.0.0.1:8081"]])
def test_an_app_that_declares_no_port_is_found_behind_its_proxy_by_its_arguments(words: list[str]) -> None:
    behind = proxy("--upstream=http://127.0.0.1:8081/")
    out = run(deployment(app(args=words), app(name="other"), behind), service(to(8443, "https", "https")))
    assert drains(workload(out)) == ["app", "kube-rbac-proxy"]


def test_an_app_on_the_pods_address_is_dialled_there() -> None:
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    out = run(deployment(app(port(9100, "http"), args=["--listen", "$(IP):9100"], env=env)))
    ours = {each["name"]: each for each in sidecar(out).container["env"]}
    assert ours["POD_ADDRESS"]["valueFrom"] == env[0]["valueFrom"]
    assert ours["DRAINPROXY_UPSTREAM"]["value"] == "[$(POD_ADDRESS)]:9100"
    names = list(ours)
    assert names.index("POD_ADDRESS") < names.index("DRAINPROXY_UPSTREAM"), "Kubernetes expands what stands before"
    assert sidecar(out).upstream_ports == (9100,)


@pytest.mark.parametrize("word", ["--advertise-url=http://$(IP):9100", "--peers=$(IP):9100"])
def test_an_address_that_is_told_to_others_is_not_where_the_app_listens(word: str) -> None:
    assert sidecar(run(deployment(app(port(9100, "http"), args=[word])))).upstream_ports == (9100,)


def test_workloads_on_the_nodes_network_do_not_meet_on_a_port() -> None:
    agents = [
        deployment(app(port(number, "http")), name=f"agent-{number}", kind="DaemonSet", hostNetwork=True)
        for number in (8080, 9080, 9083)
    ]
    out = run(*agents)
    ours = [number for at in range(3) for number in (*sidecar(out, at).data_ports, sidecar(out, at).admin_port)]
    assert len({*ours, 8080, 9080, 9083}) == 9
    assert sum("hostNetwork: drainproxy's ports (traffic" in note for note in out.notes) == 3


def test_two_containers_with_a_port_of_one_name_get_two_names() -> None:
    out = run(deployment(app(port(80, "http")), app(port(81, "http"), name="b")), service(to(80), to(81)))
    names = [each["name"] for each in sidecar(out).container["ports"]]
    assert names == ["http", "http-2", "drain-admin"]


def test_each_workload_gets_a_token_of_its_own() -> None:
    numbers = count()
    text = "\n---\n".join(json.dumps(deployment(app(port(80, "http")), name=name)) for name in "ab")
    out = inject([File("in", text)], Options(new_token=lambda: f"t{next(numbers)}"))
    assert [sidecar(out, at).settings.token for at in (0, 1)] == ["t0", "t1"]


ANCHORED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: twins}
spec:
  template:
    metadata: {labels: {app: twins}}
    spec:
      containers:
      - &one
        name: one
        image: i
        ports: [{name: http, containerPort: 80}]
      - <<: *one
        name: two
        ports: []
"""


def test_of_two_workloads_only_the_one_with_a_shared_anchor_is_left() -> None:
    with pytest.raises(
        ManifestError, match=r"in:1: Deployment/twins.*YAML anchor(.|\n)*drainproxy.io/inject: disabled"
    ):
        run(ANCHORED)
    out = run(ANCHORED, deployment(app(port(80, "http"))), skip_undecided=True)
    assert out.files[0].text.startswith(ANCHORED)
    assert [each.workload for each in out.left] == ["Deployment/twins"]


def test_anchors_that_share_nothing_of_ours_are_no_hindrance() -> None:
    text = ANCHORED.replace("&one", "").replace("      - <<: *one\n        name: two\n        ports: []\n", "")
    text = text.replace("labels: {app: twins}", "labels: &l {app: twins}").replace(
        "image: i", "image: i\n        x: *l"
    )
    assert sidecar(run(text)).upstream_ports == (80,)


def test_a_probe_that_two_probes_share_follows_the_port_in_both() -> None:
    text = ANCHORED.replace("&one", "").replace("      - <<: *one\n        name: two\n        ports: []\n", "")
    probes = "        livenessProbe: &p {httpGet: {path: /, port: http}}\n        readinessProbe: *p\n"
    one = workload(run(text + probes)).containers[0]
    assert one["livenessProbe"] == one["readinessProbe"] == {"httpGet": {"path": "/", "port": 80}}


def test_what_cannot_have_a_sidecar_is_explained() -> None:
    rollout = deployment(name="r", kind="Rollout")
    rollout["spec"] = {"workloadRef": {"kind": "Deployment", "name": "shop"}}
    out = run(KNATIVE, rollout, deployment(app(port(80, "http"))))
    assert [row.protocol for row in out.rows] == ["-", "-", "auto"]
    assert "queue-proxy" in out.rows[0].why
    assert "Deployment/shop" in out.rows[1].why


def test_the_table_says_what_was_done_and_why() -> None:
    out = run(deployment(app(port(7777))), service(to(80, "", 7777)), KNATIVE)
    lines = table(out.rows).splitlines()
    assert lines[0].split() == ["WORKLOAD", "CONTAINER", "SERVICE", "PORT", "PROXY", "APP", "PROTOCOL", "WHY"]
    assert lines[1].split()[:6] == ["Deployment/shop", "app", "shop:80", "9080", "7777", "any?"]
    assert "a guess" in lines[1]
    assert lines[2].split()[:6] == ["Service/fn", "-", "-", "-", "-", "-"]
    document = as_json(out.rows, out.left, out.notes)
    assert document["ports"][0]["service_ports"] == ("shop:80",)
    assert document["ports"][0]["guess"] is True
    assert document["skipped"][0]["workload"] == "Service/fn"


def test_everything_that_is_not_clear_is_told_at_once_with_the_line_that_decides() -> None:
    unclear = [deployment(app(port(7001), port(7002)), name=name) for name in "ab"]
    unclear[0]["metadata"]["namespace"] = "shop"
    with pytest.raises(ManifestError) as told:
        run(*unclear, deployment(app(port(80, "http"))))
    text = str(told.value)
    assert "2 workloads are not clear; --skip-ambiguous writes the other 1" in text
    assert "in:1: Deployment/a" in text
    assert text.count('drainproxy.io/ports: "7001"') == 2


def test_a_service_that_selects_an_unclear_workload_too_leaves_both() -> None:
    unclear = deployment(app(port(7001), port(80), lifecycle={"preStop": {"exec": {"command": ["x"]}}}), name="canary")
    other = deployment(app(port(9000, "http")), name="other")
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    text = (deployment(app(port(80, "http"))), unclear, service(to(80)), other)
    out = run(*text, skip_undecided=True)
    assert [each.workload for each in out.left] == ["Deployment/canary", "Deployment/shop"]
    assert [row.workload for row in out.rows if row.app_port] == ["Deployment/other"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("inject", "maybe", "enabled or disabled"),
        ("protocol", "smtp", "expected"),
        ("grace-period", "long", "duration"),
        ("hook", "bash", "http or curl or wget"),
        ("upstream", "x:1", "itself"),
        ("container", "nobody", "no container named"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_told(name: str, value: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        run(deployment(app(port(80, "http")), annotations={f"drainproxy.io/{name}": value}))


def test_annotations_say_for_one_workload_what_flags_say_for_all() -> None:
    notes = {
        "drainproxy.io/grace-period": "90s",
        "drainproxy.io/propagation-delay": "20s",
        "drainproxy.io/sidecar": "classic",
    }
    out = run(deployment(app(port(80, "http")), annotations=notes), deployment(app(port(80, "http")), name="b"))
    assert [workload(out, at).grace_s for at in (0, 1)] == [90, 30]
    assert [sidecar(out, at).in_init for at in (0, 1)] == [False, True]
    assert sidecar(out).settings.config.propagation_delay_s == 20


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "shop-",
        "labels": {"app": "shop"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "shop-1", "controller": True}],
    },
    "spec": {"containers": [app(port(8080, "http"), **http_probe("http"))]},
}


def test_an_object_without_text_is_planned_in_the_same_way() -> None:
    before = copy.deepcopy(POD)
    done = inject_document(POD, [service(to(80, "http", 8080))], Options(new_token=lambda: "t"))
    assert before == POD, "the document that came is left as it was"
    text = inject(
        [File("in", json.dumps({**POD, "metadata": {"name": "x", "labels": {"app": "shop"}}}))], Options(**TOKENS)
    )
    same = workload(text).pod
    assert [each["name"] for each in done.document["spec"]["initContainers"]] == ["drainproxy"]
    assert done.document["spec"]["containers"][0]["ports"] == same["containers"][0]["ports"]
    assert done.rows[0].why == "Service port name http"
    assert done.moved == {"shop": {8080: 9080}}
    with pytest.raises(NothingToProxy, match="already"):
        inject_document(done.document, [], Options())


def test_a_service_that_follows_the_name_is_not_missed() -> None:
    done = inject_document(POD, [service(to(80, "http", "http"))], Options())
    assert done.moved == {}


def test_an_object_without_text_that_is_not_clear_is_refused() -> None:
    unclear = {**POD, "spec": {"containers": [app(port(7001), port(7002))]}}
    with pytest.raises(Undecided) as told:
        inject_document(unclear, [], Options())
    assert told.value.decide == 'drainproxy.io/ports: "7001"'
    with pytest.raises(ManifestError, match="not an object that makes Pods"):
        inject_document({"kind": "ConfigMap"}, [], Options())


def test_a_workload_that_is_left_is_named_with_its_namespace() -> None:
    unclear = deployment(app(port(80, "http")), app(port(81, "http"), name="two"))
    unclear["metadata"]["namespace"] = "far"
    out = run(unclear, deployment(app(port(80, "http")), name="clear"), skip_undecided=True)
    assert table(out.rows).splitlines()[1].startswith("far/Deployment/shop ")
    assert out.left[0].decide == "drainproxy.io/container: app, two"
