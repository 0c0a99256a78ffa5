"""What does inject promise of the manifests it writes?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from drainproxy import __version__
from drainproxy.config.options import Config
from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.inject import inject, remove
from drainproxy.tools.manifest.memory import MEMORY
from drainproxy.tools.manifest.objects import Workload, at_path, resources, workloads
from drainproxy.tools.manifest.rules import Severity, check
from drainproxy.tools.manifest.sidecar import Sidecar, find
from drainproxy.tools.manifest.source import File, data_of, parse
from tests.support import schemas

MANIFESTS = Path(__file__).parent / "manifests"
INPUTS = sorted(MANIFESTS.iterdir())
VERSIONS = ("1.29", "1.32", "1.34", "1.36")


def read(path: Path) -> str:
    return path.read_bytes().decode()


def run(text: str, **options: Any) -> str:
    return inject([File("in", text)], Options(**{"new_token": lambda: "t0ken", **options})).files[0].text


def notes(text: str, **options: Any) -> str:
    return "\n".join(inject([File("in", text)], Options(**{"new_token": lambda: "t0ken", **options})).notes)


def back(text: str) -> str:
    return remove([File("in", text)]).files[0].text


def the_workload(text: str) -> Workload:
    return workloads(resources([parse("in", text)]))[0]


def the_sidecar(text: str) -> Sidecar:
    found = find(the_workload(text))
    assert found is not None
    return found


def the(text: str, kind: str) -> dict[str, Any]:
    return next(each.data for each in resources([parse("in", text)]) if each.kind == kind)


def pod(
    ports: str = "[{name: http, containerPort: 8080}]", more: str = "", spec: str = "", kind: str = "Deployment"
) -> str:
    return f"""\
apiVersion: apps/v1
kind: {kind}
metadata: {{name: web}}
spec:
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: app
        image: app:1
        ports: {ports}
{more}{spec}"""


def service(target: str, more: str = "") -> str:
    return f"""\
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80{target}}}]
{more}"""


SLEEP = """\
        lifecycle:
          preStop:
            exec: {command: [sleep, "20"]}
"""
QUIT = """\
        lifecycle:
          preStop:
            exec: {command: [nginx, -s, quit]}
"""


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param(path, kind, id=f"{path.name}-{kind}")
        for path in INPUTS
        for kind in ("native", "classic")
        if (path.name, kind) != ("jobs.yaml", "classic")  # refused: a Job has no classic sidecar
    ],
)
def test_remove_gives_back_the_input_byte_for_byte(path: Path, kind: str) -> None:
    text = read(path)
    injected = run(text, kind=kind)
    assert "drain-admin" in injected
    assert back(injected) == text


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_a_second_run_changes_nothing_even_with_another_token_at_hand(path: Path) -> None:
    once = run(read(path))
    assert run(once, new_token=lambda: "another") == once


@pytest.mark.parametrize("path", [path for path in INPUTS if path.name != "compact.json"], ids=lambda path: path.name)
def test_only_lines_of_the_changed_values_change(path: Path) -> None:
    """Whatever line of the input is gone from the output holds a value that had to change."""
    before, after = read(path).splitlines(), set(run(read(path)).splitlines())
    gone = [line for line in before if line.rstrip(",") not in {each.rstrip(",") for each in after}]
    allowed = re.compile(
        r"name|port|Port|http|metadata|spec|annotations|sleep|seconds|exec|command|# for|12|Grace|^\s*[\]}]"
    )
    assert [line for line in gone if not allowed.search(line)] == []


def test_documents_that_are_no_workload_pass_byte_for_byte() -> None:
    odd = "# head\n%x: [1,   2]\n...\n---\n\n---\n? a\n: |+\n  b\n\n\n--- {x: 1}\n"
    odd = odd.replace("%x", "x")
    text = odd + "---\n" + pod() + "---\n" + odd
    after = run(text)
    assert after.startswith(odd)
    assert after.endswith(odd)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_output_is_valid_in_every_kubernetes_version(path: Path, version: str) -> None:
    for resource in resources([parse("out", run(read(path)))]):
        if resource.kind == "Custom":
            continue
        data = json.loads(json.dumps(resource.data))
        if data["kind"] in ("DaemonSet", "StatefulSet", "Deployment", "ReplicaSet"):
            # Written by hand for the text's sake; the sidecar is what is tested.
            data["spec"].setdefault("selector", {"matchLabels": {}})
        schemas.validate(data, version)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_check_finds_no_error_in_what_inject_wrote(path: Path) -> None:
    findings = check([File("out", run(read(path)))]).findings
    assert [f"{each.rule.id} {each.message}" for each in findings if each.rule.severity is Severity.ERROR] == []


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_other_readers_of_yaml_see_what_we_see(path: Path) -> None:
    injected = run(read(path))
    other = YAML(typ="safe", pure=True)
    other.version = (1, 1)
    ours = [data_of(each.root) for each in parse("out", injected).documents]
    assert list(other.load_all(injected)) == ours


def test_json_stays_json() -> None:
    for name in ("pretty.json", "compact.json", "tabs.json"):
        json.loads(run(read(MANIFESTS / name)))


def test_remove_works_on_what_went_through_json() -> None:
    """kubectl and kustomize rewrite the text: the annotation still says what to take out."""
    text = read(MANIFESTS / "deployment.yaml")
    deployment = the(run(text), "Deployment")
    after = json.loads(back(json.dumps(deployment)))
    assert after == the(text, "Deployment")


def test_remove_leaves_what_somebody_changed_since_and_says_so() -> None:
    text = pod("[{name: http, containerPort: 8080}]", spec="      terminationGracePeriodSeconds: 5\n")
    changed = run(text).replace("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 77")
    outcome = remove([File("in", changed)])
    assert "terminationGracePeriodSeconds: 77" in outcome.files[0].text
    assert "it is not changed" in outcome.notes[0]


def test_remove_keeps_what_somebody_put_beside_ours() -> None:
    added = "          postStart:\n            httpGet: {path: /warm, port: 8080}\n"
    changed = run(pod()).replace("        lifecycle:\n", "        lifecycle:\n" + added)
    left = the_workload(back(changed)).containers[0]
    assert left["lifecycle"] == {"postStart": {"httpGet": {"path": "/warm", "port": 8080}}}


def test_a_shared_anchor_is_refused_not_written_through() -> None:
    text = pod(more="        env: &env []\n").replace("      - name: app", "      - &app\n        name: app")
    text += "      - <<: *app\n        name: twin\n        ports: []\n"
    with pytest.raises(ManifestError, match="anchor"):
        run(text, containers=("app",))


def test_an_alias_that_has_to_change_is_written_out_and_comes_back() -> None:
    text = pod("&p [{name: http, containerPort: 8080}]") + "      - name: other\n        image: o\n        ports: *p\n"
    with pytest.raises(ManifestError, match="anchor"):
        run(text, containers=("app",))
    injected = run(text, containers=("other",))
    assert the_workload(injected).containers[1]["ports"][0]["name"] == "app-http"
    assert the_workload(injected).containers[0]["ports"][0]["name"] == "http"
    assert back(injected) == text


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_the_port_named_http_is_taken() -> None:
    text = run(pod("[{name: metrics, containerPort: 9090}, {name: http, containerPort: 8080}]"))
    assert the_sidecar(text).upstream_ports == (8080,)


def test_an_only_port_is_taken_whatever_its_name() -> None:
    assert the_sidecar(run(pod("[{containerPort: 3000}]"))).upstream_ports == (3000,)


def test_several_web_ports_become_several_routes() -> None:
    text = run(pod("[{name: http, containerPort: 8080}, {name: grpc, containerPort: 9000}]"))
    routes = the_sidecar(text).settings.config.routes
    assert [str(route) for route in routes] == [
        ":9080=127.0.0.1:8080,protocol=auto",
        ":9082=127.0.0.1:9000,protocol=http2",
    ]


def test_an_unclear_port_lists_the_choices() -> None:
    with pytest.raises(ManifestError, match=r"--port.*app 1000.*app 2000 \(x\)"):
        run(pod("[{containerPort: 1000}, {name: x, containerPort: 2000}]"))


def test_port_and_container_decide() -> None:
    text = pod("[{containerPort: 1000}, {name: x, containerPort: 2000}]")
    assert the_sidecar(run(text, ports=("x",))).upstream_ports == (2000,)
    assert the_sidecar(run(text, ports=("1000,protocol=tcp",))).settings.config.routes[0].protocol == "tcp"
    with pytest.raises(ManifestError, match="no container named 'y'; there are: app"):
        run(text, containers=("y",))
    with pytest.raises(ManifestError, match="no port 'z'"):
        run(text, ports=("z",))


@pytest.mark.parametrize("named", [{"only": ("Deployment/web",)}, {"containers": ("app",)}])
def test_an_undeclared_port_is_taken_if_workload_or_container_is_named(named: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=r"--port 5000.*--only Deployment/web.*--container app"):
        run(pod("[]"), ports=("5000",))
    assert the_sidecar(run(pod("[]"), ports=("5000",), **named)).upstream_ports == (5000,)


def test_an_undeclared_port_stays_beside_a_container_that_is_held() -> None:
    text = pod("[]") + "      - name: cache\n        image: c\n"
    once = run(text, ports=("5000",), containers=("app",), hold=("cache",))
    assert run(once) == once


def test_a_port_known_not_to_be_http_is_relayed_as_bytes() -> None:
    assert the_sidecar(run(pod("[{name: postgres, containerPort: 5432}]"))).settings.config.routes[0].protocol == "tcp"


def test_ports_that_the_app_uses_itself_are_stepped_over() -> None:
    sidecar = the_sidecar(run(pod("[{name: http, containerPort: 9080}, {name: x, containerPort: 9081}]")))
    ours = {*sidecar.data_ports, sidecar.admin_port}
    assert not ours & {9080, 9081}
    assert len(ours) == 2


def test_a_workload_without_ports_is_left_and_told() -> None:
    text = pod() + "---\n" + pod("[]").replace("name: web", "name: worker")
    row = inject([File("in", text)], Options()).rows[1]
    assert (row.workload, row.protocol, row.why.split(" (")[0]) == (
        "Deployment/worker",
        "-",
        "no container declares a TCP port",
    )
    assert run(text).endswith(pod("[]").replace("name: web", "name: worker"))


def test_nothing_to_do_is_an_error() -> None:
    with pytest.raises(ManifestError, match="nothing to add"):
        run("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n")


def test_only_names_the_workload() -> None:
    two = pod() + "---\n" + pod().replace("name: web", "name: api")
    after = run(two, only=("Deployment/api",))
    assert after.startswith(pod())
    with pytest.raises(ManifestError, match="there are: Deployment/web, Deployment/api"):
        run(two, only=("nobody",))


# --- the Pod ----------------------------------------------------------------------------------------------------------


def test_the_hook_is_on_the_app_with_a_number_and_the_token() -> None:
    app = the_workload(run(pod())).containers[0]
    assert app["lifecycle"]["preStop"]["httpGet"] == {
        "path": "/drain?event=1",
        "port": Config().admin.port,
        "httpHeaders": [{"name": "X-Drain-Token", "value": "t0ken"}],
    }


def test_every_container_with_traffic_gets_the_hook() -> None:
    text = pod() + "      - name: api\n        image: a\n        ports: [{name: grpc, containerPort: 9000}]\n"
    after = the_workload(run(text, containers=("app", "api")))
    assert all("preStop" in each["lifecycle"] for each in after.containers)


def test_grace_period_and_proxy_agree() -> None:
    for written in ("", "      terminationGracePeriodSeconds: 5\n", "      terminationGracePeriodSeconds: 90\n"):
        text = run(pod(spec=written))
        workload, sidecar = the_workload(text), the_sidecar(text)
        assert sidecar.settings.config.grace_period_s == workload.grace_s
        assert not sidecar.settings.error


def test_a_grace_period_that_fits_is_kept_and_one_that_does_not_is_raised_and_told() -> None:
    assert the_workload(run(pod(spec="      terminationGracePeriodSeconds: 90\n"))).grace_s == 90
    short = pod(spec="      terminationGracePeriodSeconds: 5\n")
    assert the_workload(run(short)).grace_s == 30
    assert "raised from 5 to 30" in notes(short)


def test_settings_that_do_not_fit_raise_the_grace_period() -> None:
    text = run(pod(), settings={"propagation-delay": "60s"})
    assert (the_workload(text).grace_s or 0) > 60
    assert not the_sidecar(text).settings.error
    assert the_sidecar(text).settings.config.propagation_delay_s == 60


def test_an_impossible_grace_period_is_refused() -> None:
    with pytest.raises(Exception, match="grace-period"):
        run(pod(), grace_period_s=3.0)


def test_probes_that_named_the_moved_port_get_its_number() -> None:
    probe = "        {}: {{httpGet: {{path: /, port: http}}}}\n"
    more = "".join(probe.format(each) for each in ("livenessProbe", "readinessProbe", "startupProbe"))
    app = the_workload(run(pod(more=more))).containers[0]
    for each in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert app[each]["httpGet"]["port"] == 8080


def test_the_moved_name_is_on_the_sidecar_only() -> None:
    workload = the_workload(run(pod()))
    assert [port["name"] for port in workload.containers[0]["ports"]] == ["app-http"]
    assert {"name": "http", "containerPort": 9080} in workload.init_containers[0]["ports"]


def test_a_native_sidecar_starts_without_waiting_for_the_app() -> None:
    sidecar = the_sidecar(run(pod()))
    assert sidecar.native
    assert sidecar.container["startupProbe"]["httpGet"]["path"] == "/livez"


def test_a_classic_sidecar_stands_beside_the_app() -> None:
    sidecar = the_sidecar(run(pod(), kind="classic"))
    assert not sidecar.in_init
    assert "restartPolicy" not in sidecar.container


def test_a_classic_sidecar_in_a_job_is_refused() -> None:
    with pytest.raises(ManifestError, match="never completes"):
        run(pod(kind="Job"), kind="classic")


def test_the_sidecar_is_locked_down() -> None:
    security = the_sidecar(run(pod())).container["securityContext"]
    assert security == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_in_a_pod_that_runs_as_root_the_sidecar_does_not() -> None:
    text = run(pod(spec="      securityContext: {runAsUser: 0}\n"))
    assert the_sidecar(text).container["securityContext"]["runAsUser"] > 0


def test_scrape_annotations_are_written_and_the_apps_own_are_kept() -> None:
    assert the_workload(run(pod())).annotations["prometheus.io/port"] == "9081"
    own = pod().replace("labels: {app: web}}", "labels: {app: web}, annotations: {prometheus.io/port: '8080'}}")
    assert the_workload(run(own)).annotations["prometheus.io/port"] == "8080"
    assert "PodMonitor" in notes(own)
    assert "prometheus.io/port" not in the_workload(run(pod(), scrape=False)).annotations


def test_a_container_that_the_app_needs_waits_for_the_drain_too() -> None:
    text = pod() + "      - name: cache\n        image: c\n"
    assert "cache gets SIGTERM at once" in notes(text)
    held = run(text, hold=("cache",))
    first, second = the_workload(held).containers
    assert first["lifecycle"] == second["lifecycle"]
    assert run(held) == held
    assert back(held) == text
    with pytest.raises(ManifestError, match="no container named 'x' to hold"):
        run(text, hold=("x",))


def test_no_scrape_annotations_stay_away_at_the_next_run() -> None:
    without = run(pod(), scrape=False)
    assert run(without) == without


# --- existing hooks ---------------------------------------------------------------------------------------------------


def test_a_sleep_becomes_the_floor_and_is_told_and_comes_back() -> None:
    text = pod(more=SLEEP)
    injected = run(text)
    assert the_sidecar(injected).settings.config.propagation_delay_s == 20
    assert "slept 20s" in notes(text)
    assert back(injected) == text


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_a_command_is_run_after_the_drain_if_the_image_can(client: str) -> None:
    text = pod(more=QUIT)
    command = the_workload(run(text, hook=client)).containers[0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["/bin/sh", "-c"]
    assert client in command[2]
    assert "127.0.0.1:9081/drain" in command[2]
    assert command[-3:] == ["nginx", "-s", "quit"]
    assert run(run(text, hook=client)) == run(text, hook=client)


def test_a_command_that_cannot_be_kept_is_refused_with_the_ways_out() -> None:
    with pytest.raises(ManifestError, match=r"nginx -s quit.*--hook curl.*--replace-hook"):
        run(pod(more=QUIT))


def test_replace_hook_puts_ours_there_and_remove_brings_it_back() -> None:
    injected = run(pod(more=QUIT), replace_hook=True)
    assert "/drain replaces a preStop hook that runs a command" in notes(pod(more=QUIT), replace_hook=True)
    assert "httpGet" in the_workload(injected).containers[0]["lifecycle"]["preStop"]
    assert run(injected) == injected, "it was decided at the first run"
    assert back(injected) == pod(more=QUIT)


# --- token ------------------------------------------------------------------------------------------------------------


def test_token_of_hook_and_sidecar_agree() -> None:
    for token in ("mine", None):
        text = run(pod(), token=token)
        assert the_sidecar(text).settings.token == (token or "t0ken")
        assert (token or "t0ken") in json.dumps(the_workload(text).containers[0]["lifecycle"])


def test_no_token_when_none_is_wanted() -> None:
    text = run(pod(), token="")
    assert the_sidecar(text).settings.config.access == "any"
    assert "httpHeaders" not in text


def test_a_token_in_a_secret_alone_is_refused_since_the_hook_cannot_read_it() -> None:
    with pytest.raises(ManifestError, match=r"cannot read Secret web.*--hook curl.*--drain-token"):
        run(pod(), token_secret=("web", "token"))


def test_a_token_in_a_secret_works_over_loopback_or_with_its_value() -> None:
    over_loopback = run(pod(), token_secret=("web", "token"), hook="curl")
    assert the_sidecar(over_loopback).settings.token_secret == ("web", "token")
    assert "X-Drain-Token" not in over_loopback
    assert run(over_loopback) == over_loopback
    with_value = run(pod(), token_secret=("web", "token"), token="v")
    assert "value: v" in with_value
    assert run(with_value) == with_value
    assert back(with_value) == pod()


# --- upgrades ---------------------------------------------------------------------------------------------------------


def test_an_upgrade_changes_what_is_ours_and_keeps_what_was_tuned() -> None:
    old = (
        run(pod())
        .replace(f"drainproxy:{__version__}", "registry.example/drainproxy:0.0.9")
        .replace(__version__, "0.0.9")
    )
    old = old.replace("memory: 256Mi", "memory: 999Mi").replace("periodSeconds: 10", "periodSeconds: 7")
    old = old.replace(
        "        - name: DRAINPROXY_GRACE_PERIOD",
        "        - name: MINE  # hi\n          value: x\n        - name: DRAINPROXY_GRACE_PERIOD",
    )
    sidecar = the_sidecar(run(old))
    assert sidecar.container["image"] == f"registry.example/drainproxy:{__version__}"
    assert sidecar.container["resources"]["limits"]["memory"] == "999Mi"
    assert sidecar.container["livenessProbe"]["periodSeconds"] == 7
    assert "name: MINE  # hi" in run(old)
    assert back(run(old)) == pod()


def test_a_grace_period_somebody_raised_is_followed() -> None:
    raised = run(pod()).replace("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 120")
    assert the_sidecar(run(raised)).settings.config.grace_period_s == 120


def test_rewiring_takes_out_the_old_wiring_and_keeps_the_rest() -> None:
    both = pod("[{name: http, containerPort: 8080}, {name: grpc, containerPort: 9000}]")
    text = run(both, settings={"readiness-on-drain": "hold"})
    one = run(text, ports=("http",))
    assert the_sidecar(one).data_ports == (9080,)
    assert the_sidecar(one).settings.config.readiness_on_drain_s == float("inf")
    assert the_workload(one).containers[0]["ports"][1]["name"] == "grpc"
    classic = run(text, kind="classic")
    assert "initContainers" not in classic
    assert back(classic) == back(one) == both


def test_a_sidecar_written_by_hand_is_left_alone() -> None:
    by_hand = pod() + "      - name: drainproxy\n        image: drainproxy:1\n"
    other = pod().replace("name: web", "name: api")
    outcome = inject([File("in", by_hand + "---\n" + other)], Options(new_token=lambda: "t"))
    assert outcome.files[0].text.startswith(by_hand)
    assert "that inject did not write" in outcome.rows[0].why


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ManifestError, match="not an option"):
        run(pod(), settings={"nope": "1"})
    with pytest.raises(ManifestError, match="itself"):
        run(pod(), settings={"upstream": "1"})


def test_a_damaged_memory_is_told() -> None:
    with pytest.raises(ManifestError, match="damaged"):
        back(re.sub(MEMORY + ": '.*'", MEMORY + ": x", run(pod())))


def test_a_run_for_another_workload_leaves_this_ones_service_wired() -> None:
    text = pod() + service(", targetPort: 8080")
    both = run(text) + "---\n" + pod().replace("name: web", "name: api").replace("app: web", "app: api")
    assert run(both, only=("api",)).startswith(run(text))


# --- around -----------------------------------------------------------------------------------------------------------


def test_a_numeric_target_port_follows_and_comes_back() -> None:
    text = pod() + service(", targetPort: 8080")
    after = run(text)
    assert the(after, "Service")["spec"]["ports"][0]["targetPort"] == 9080
    assert back(after) == text


def test_a_target_port_left_out_is_written() -> None:
    text = pod().replace("8080", "80") + service("")
    after = run(text)
    assert the(after, "Service")["spec"]["ports"][0]["targetPort"] == 9080
    assert back(after) == text


def test_a_named_target_port_needs_no_edit() -> None:
    text = pod() + service(", targetPort: http")
    assert run(text).endswith(service(", targetPort: http"))


def test_a_service_in_another_file_follows_too() -> None:
    files = [File("a", pod()), File("b", service(", targetPort: 8080"))]
    outcome = inject(files, Options(new_token=lambda: "t"))
    assert "targetPort: 9080" in outcome.files[1].text
    assert [each.text for each in remove(outcome.files).files] == [each.text for each in files]


def test_a_service_that_is_not_in_the_input_is_told() -> None:
    assert "8080 to 9080" in notes(pod())


def test_a_headless_service_is_told() -> None:
    text = pod() + service(", targetPort: 8080", "  clusterIP: None\n")
    assert "headless" in notes(text)
    assert "targetPort: 8080" in run(text)


def test_a_service_shared_with_a_workload_left_out_is_refused() -> None:
    text = pod() + "---\n" + pod().replace("{name: web}", "{name: web-canary}") + service(", targetPort: 8080")
    with pytest.raises(ManifestError, match="also selects Deployment/web-canary"):
        run(text, only=("Deployment/web",))
    assert run(text).count("targetPort: 9080") == 1


def test_an_ingress_goes_on_as_it_is() -> None:
    ingress = """\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  defaultBackend: {service: {name: web, port: {number: 80}}}
"""
    text = pod() + service(", targetPort: 8080") + ingress
    after = run(text)
    assert after.endswith(ingress)
    assert the(after, "Service")["spec"]["ports"][0]["port"] == 80


@pytest.mark.parametrize("port", ["8080", "http", "8000, endPort: 8999"])
def test_a_network_policy_lets_in_the_new_port_too(port: str) -> None:
    policy = f"""\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress:
  - from: []
  - ports:
    - port: 53
  - ports:
    - {{port: {port}}}
  egress:
  - to:
    - podSelector: {{matchLabels: {{app: web}}}}
    ports:
    - port: 8080
"""
    text = pod() + policy
    after = run(text)
    spec = the(after, "NetworkPolicy")["spec"]
    assert {"port": 9080, "protocol": "TCP"} in spec["ingress"][2]["ports"]
    assert len(spec["ingress"][2]["ports"]) == 2
    assert spec["ingress"][1] == {"ports": [{"port": 53}]}
    assert {"port": 9080, "protocol": "TCP"} in spec["egress"][0]["ports"]
    assert back(after) == text


def test_what_is_not_yaml_is_told_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"in:3: not YAML.*template"):
        run("a: b\nc:\n  - {{ .Values.x }}: y: z\n")


def test_the_memory_holds_no_token() -> None:
    text = run(pod(more=SLEEP), token="s3cret")
    memory = at_path(the_workload(text).annotations, (MEMORY,))
    assert "s3cret" not in memory
