"""Is everything in deploy/ true? Schemas, `check --strict`, and every number that has to agree with another."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drainproxy import __version__
from drainproxy.config.loading import load
from drainproxy.config.options import Config
from drainproxy.config.values import parse_duration
from drainproxy.tools.manifest.edit import plain
from drainproxy.tools.manifest.hooks import Does, read_hook
from drainproxy.tools.manifest.objects import Resource, Workload, port_by_name, resources, service_selects, workloads
from drainproxy.tools.manifest.rules import Severity, check
from drainproxy.tools.manifest.sidecar import PlannedRoute, Sidecar, container, find
from drainproxy.tools.manifest.source import File, data_of, parse
from tests.support import schemas

DEPLOY = Path(__file__).parents[2] / "deploy"
VERSIONS = ("1.30", "1.32", "1.34", "1.36")
CUSTOM = ("Rollout", "PodMonitor", "PrometheusRule", "Kustomization", "Component")
"""Kinds without a schema in Kubernetes."""
YAML_FILES = sorted(
    each for each in DEPLOY.rglob("*.yaml") if each.relative_to(DEPLOY).parts[0] not in ("compose", "chart")
)
MANIFESTS = [each for each in YAML_FILES if each.name != "kustomization.yaml"]
BUILDS = sorted(
    each.parent
    for each in YAML_FILES
    if each.name == "kustomization.yaml" and "kind: Kustomization" in each.read_text()
)
EXAMPLES = sorted({each.parent for each in MANIFESTS})
KUBECTL = shutil.which("kubectl")


def name_of(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def files_of(directory: Path) -> list[File]:
    return [File(each.name, each.read_text()) for each in sorted(directory.glob("*.yaml"))]


def objects(directory: Path) -> list[Resource]:
    return resources([parse(each.name, each.text) for each in files_of(directory)])


def proxied(directory: Path) -> list[tuple[Workload, Sidecar]]:
    found = objects(directory)
    return [(each, sidecar) for each in workloads(found) if (sidecar := find(each, found)) is not None]


ALL = [
    pytest.param(directory, workload, sidecar, id=f"{name_of(directory)}-{workload.resource.name}")
    for directory in EXAMPLES
    for workload, sidecar in proxied(directory)
]


def validate(data: dict[str, Any], version: str) -> None:
    if data["kind"] == "Rollout":
        # Argo's own kind: its Pod template is a Deployment's.
        spec = {key: data["spec"][key] for key in ("replicas", "selector", "template", "minReadySeconds")}
        data = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": data["metadata"], "spec": spec}
    if data["kind"] not in CUSTOM:
        schemas.validate(data, version)


# --- schemas and rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_every_file_is_valid(path: Path, version: str) -> None:
    found = resources([parse(path.name, path.read_text())])
    assert found
    for resource in found:
        validate(resource.data, version)


@pytest.mark.parametrize("directory", EXAMPLES, ids=name_of)
def test_every_example_passes_check_strict(directory: Path) -> None:
    report = check(files_of(directory))
    assert [f"{each.file}:{each.line} {each.rule.id} {each.message}" for each in report.findings] == []


def test_all_of_it_together_passes_check_strict() -> None:
    files = [File(name_of(each), each.read_text()) for each in YAML_FILES]
    bad = [each for each in check(files).findings if each.rule.severity is not Severity.INFO]
    assert [f"{each.file}:{each.line} {each.rule.id} {each.message}" for each in bad] == []


def test_each_promised_pattern_is_there() -> None:
    promised = {"rolling-update", "native", "classic", "grpc", "statefulset", "job", "blue-green", "canary"}
    promised |= {"argo-rollouts", "monitoring", "component", "component-classic", "compose", "systemd", "chart"}
    there = {each.name for each in DEPLOY.iterdir() if each.is_dir()}
    assert promised <= there
    readme = (DEPLOY / "README.md").read_text()
    assert [each for each in there if f"({each}/" not in readme] == []


def test_the_standard_pattern_is_whole() -> None:
    kinds = {each.kind for each in objects(DEPLOY / "rolling-update")}
    assert {"Deployment", "Service", "ConfigMap", "Secret", "PodDisruptionBudget", "NetworkPolicy"} <= kinds
    workload = workloads(objects(DEPLOY / "rolling-update"))[0]
    for each in [*workload.containers, *workload.init_containers]:
        assert {"startupProbe", "readinessProbe", "livenessProbe", "resources", "securityContext"} <= set(each)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("directory", "workload", "sidecar"), ALL)
def test_the_budget_adds_up_and_both_sides_know_it(directory: Path, workload: Workload, sidecar: Sidecar) -> None:
    assert sidecar.settings.error == ""
    assert sidecar.settings.unknown == frozenset()
    config = sidecar.settings.config
    assert workload.grace_s == config.grace_period_s
    assert config.budget_s >= config.propagation_delay_s + config.quiet_period_s
    assert config.budget_s > config.propagation_delay_s + config.quiet_limit_s, "requests need room beyond the quiet"


@pytest.mark.parametrize(("directory", "workload", "sidecar"), ALL)
def test_every_port_is_the_one_that_is_meant(directory: Path, workload: Workload, sidecar: Sidecar) -> None:
    admin = sidecar.admin_port
    declared = {port["name"]: port["containerPort"] for port in sidecar.container["ports"]}
    assert declared["drain-admin"] == admin
    assert {*sidecar.data_ports, admin} == set(declared.values())
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in sidecar.container:
            assert sidecar.container[probe]["httpGet"]["port"] == admin
    app = next(each for each in workload.containers if each is not sidecar.container)
    hook = read_hook(app)
    assert hook.does is Does.DRAIN
    assert hook.http is not None
    assert hook.http["port"] == admin
    assert {port["containerPort"] for port in app["ports"]} == set(sidecar.upstream_ports)
    if "prometheus.io/port" in workload.annotations:
        assert workload.annotations["prometheus.io/port"] == str(admin)


@pytest.mark.parametrize(("directory", "workload", "sidecar"), ALL)
def test_the_tokens_agree(directory: Path, workload: Workload, sidecar: Sidecar) -> None:
    app = next(each for each in workload.containers if each is not sidecar.container)
    expected = sidecar.settings.token
    if expected is None:
        assert sidecar.settings.token_secret is not None
        name, key = sidecar.settings.token_secret
        secret = next(each for each in objects(directory) if each.kind == "Secret" and each.name == name)
        expected = secret.data["stringData"][key]
    assert read_hook(app).token == expected


@pytest.mark.parametrize(("directory", "workload", "sidecar"), ALL)
def test_every_service_leads_to_the_proxy(directory: Path, workload: Workload, sidecar: Sidecar) -> None:
    for service in objects(directory):
        if not service_selects(service, workload):
            continue
        for port in service.spec["ports"]:
            target = port["port"] if service.spec.get("clusterIP") == "None" else port["targetPort"]
            number = port_by_name(workload, target) if isinstance(target, str) else target
            assert number in sidecar.data_ports


@pytest.mark.parametrize(("directory", "workload", "sidecar"), ALL)
def test_the_sidecar_is_the_one_inject_writes(directory: Path, workload: Workload, sidecar: Sidecar) -> None:
    """One brain: examples do not drift away from the command."""
    names = {port["containerPort"]: port["name"] for port in sidecar.container["ports"]}
    routes = tuple(
        PlannedRoute(names[each.listen.port], each.listen.port, each.upstream.port, each.protocol)
        for each in sidecar.settings.config.routes
    )
    written = plain(
        container(
            image=f"drainproxy:{__version__}",
            native=sidecar.native,
            routes=routes,
            admin=sidecar.admin_port,
            env=sidecar.container["env"],
            pod_runs_as_root=False,
        )
    )
    assert sidecar.container == written


def test_jobs_are_native() -> None:
    for workload, sidecar in proxied(DEPLOY / "job"):
        assert workload.runs_to_completion
        assert sidecar.native


def test_blue_and_green_differ_by_colour_and_image_only() -> None:
    blue, green = ((DEPLOY / "blue-green" / f"{colour}.yaml").read_text() for colour in ("blue", "green"))
    different = [pair for pair in zip(blue.splitlines(), green.splitlines(), strict=True) if pair[0] != pair[1]]
    assert all("blue" in one or "image:" in one for one, _ in different)
    service = next(each for each in objects(DEPLOY / "blue-green") if each.kind == "Service")
    chosen = [each for each in workloads(objects(DEPLOY / "blue-green")) if service_selects(service, each)]
    assert len(chosen) == 1


def test_one_service_covers_both_tracks_of_the_canary() -> None:
    found = objects(DEPLOY / "canary")
    service = next(each for each in found if each.kind == "Service")
    assert len([each for each in workloads(found) if service_selects(service, each)]) == 2


def test_the_rollouts_services_are_there() -> None:
    found = objects(DEPLOY / "argo-rollouts")
    canary = next(each for each in found if each.kind == "Rollout").spec["strategy"]["canary"]
    services = {each.name for each in found if each.kind == "Service"}
    assert {canary["canaryService"], canary["stableService"]} == services


def test_the_pod_monitor_scrapes_the_admin_port_by_its_name() -> None:
    monitor = next(each for each in objects(DEPLOY / "monitoring") if each.kind == "PodMonitor")
    names = {port["name"] for _, sidecar in proxied(DEPLOY / "native") for port in sidecar.container["ports"]}
    assert monitor.spec["podMetricsEndpoints"][0]["port"] in names
    assert monitor.spec["podMetricsEndpoints"][0]["path"] == "/metrics"


# --- kustomize --------------------------------------------------------------------------------------------------------


@pytest.mark.debian
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: kustomize builds are NOT tested")
@pytest.mark.parametrize("directory", BUILDS, ids=name_of)
def test_kustomize_builds_it_and_the_result_is_in_order(directory: Path) -> None:
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(directory)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    report = check([File("built", built.stdout)])
    assert [f"{each.rule.id} {each.object} {each.message}" for each in report.findings] == []
    for resource in resources([parse("built", built.stdout)]):
        validate(resource.data, VERSIONS[-1])


@pytest.mark.debian
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: the components are NOT tested")
@pytest.mark.parametrize("kind", ["native", "classic"])
def test_the_component_adds_what_inject_would_add(kind: str) -> None:
    directory = DEPLOY / ("with-component" if kind == "native" else "with-component-classic")
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(directory)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found = resources([parse("built", built)])
    workload = workloads(found)[0]
    sidecar = find(workload, found)
    assert sidecar is not None
    assert sidecar.native is (kind == "native")
    env = sidecar.container["env"]
    route = PlannedRoute("http", Config().listen.port, sidecar.upstream_ports[0], "auto")
    expected = plain(
        container(
            image=f"drainproxy:{__version__}",
            native=sidecar.native,
            routes=(route,),
            admin=sidecar.admin_port,
            env=env,
            pod_runs_as_root=False,
        )
    )
    assert sidecar.container == expected
    app = next(each for each in workload.containers if each is not sidecar.container)
    assert read_hook(app).token == sidecar.settings.token
    assert workload.grace_s == sidecar.settings.config.grace_period_s


# --- beyond Kubernetes ------------------------------------------------------------------------------------------------


def test_compose_gives_the_proxy_the_time_it_counts_on() -> None:
    services = data_of(parse("compose", (DEPLOY / "compose" / "compose.yaml").read_text()).documents[0].root)[
        "services"
    ]
    proxy = services["drainproxy"]
    config = load({}, {key: str(value) for key, value in proxy["environment"].items()}, {})
    assert parse_duration(proxy["stop_grace_period"]) == config.grace_period_s
    assert proxy["depends_on"] == ["app"], "the other order stops the app first"
    assert proxy["image"] == f"drainproxy:{__version__}"
    assert str(config.upstream) == "app:8080"
    assert {each.rsplit(":", 1)[1] for each in proxy["ports"]} == {str(config.listen.port), str(config.admin.port)}


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys are case-sensitive
    parser.read_string((DEPLOY / "systemd" / "drainproxy.service").read_text())
    return parser


def test_systemd_opens_the_ports_that_the_service_names() -> None:
    lines = (DEPLOY / "systemd" / "drainproxy.socket").read_text().splitlines()
    opened = {line.partition("=")[2] for line in lines if line.startswith("ListenStream=")}
    named = dict(
        line.split("=", 2)[1:]
        for line in (DEPLOY / "systemd" / "drainproxy.service").read_text().splitlines()
        if line.startswith("Environment=")
    )
    assert opened == {named["DRAINPROXY_LISTEN"].removeprefix(":"), named["DRAINPROXY_ADMIN"]}


def test_systemd_gives_the_proxy_the_time_it_counts_on() -> None:
    text = (DEPLOY / "systemd" / "drainproxy.service").read_text()
    environment = dict(
        line.removeprefix("Environment=").split("=", 1) for line in text.splitlines() if line.startswith("Environment=")
    )
    config = load({}, environment, {})
    assert parse_duration(unit()["Service"]["TimeoutStopSec"]) == config.grace_period_s
    assert "app.service" in unit()["Unit"]["After"]
    assert "app.service" in unit()["Unit"]["Requires"]
    assert config.admin.host == "127.0.0.1"


@pytest.mark.debian
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "drainproxy.service").read_text()
    (tmp_path / "drainproxy.service").write_text(text.replace("/usr/local/bin/drainproxy", "/bin/true"))
    (tmp_path / "app.service").write_text("[Service]\nExecStart=/bin/true\n")
    shutil.copy(DEPLOY / "systemd" / "drainproxy.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("drainproxy.service", "drainproxy.socket", "app.service")]
    command = ["systemd-analyze", "verify", *units]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (verified.returncode, verified.stderr) == (0, "")
