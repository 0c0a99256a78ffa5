"""Does the Helm chart install what deploy/webhook installs? Rendered by helm itself; no cluster is asked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from drainproxy import __version__
from drainproxy.tools.manifest.admitted import SPARED
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.rules import check
from drainproxy.tools.manifest.source import File
from drainproxy.tools.webhook.certificates import current
from drainproxy.tools.webhook.metrics import Metrics
from drainproxy.tools.webhook.server import Admissions
from drainproxy.tools.webhook.trust import Trust
from tests.deploy.test_deploy import DEPLOY, KUBECTL, VERSIONS, validate

CHART = DEPLOY / "chart"
HELM = shutil.which("helm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
NEEDS_HELM = pytest.mark.skipif(HELM is None, reason="helm is not installed: the chart is NOT tested (make setup)")
NAMESPACE = "drainproxy"
CERT_MANAGER = {"certManager": {"enabled": True, "issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}}
MANY: dict[str, Any] = {
    "image": {"repository": "r.example/w", "tag": "7", "pullPolicy": "Always", "pullSecrets": ["puller"]},
    "sidecar": {"image": {"repository": "r.example/s", "tag": "8"}},
    "replicas": 3,
    "failurePolicy": "Fail",
    "namespaceSelector": {
        "exclude": ["kube-system", "123"],
        "matchExpressions": [{"key": "environment", "operator": "In", "values": ["production"]}],
    },
    "resources": {"requests": {"cpu": 1}},
    "priorityClassName": "",
    "extraArgs": ["--audit-every=1m", "--set=propagation-delay=15s"],
}
"""Each value but cert-manager's, and none as it is by default."""
Key = tuple[str, str]


def helm(*words: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    command = [HELM, *words, "--values=-"]
    said = json.dumps(values or {})
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=60)


def rendered(values: dict[str, Any] | None = None, namespace: str = NAMESPACE) -> str:
    """All but the chart's own test."""
    done = helm("template", "any-name", str(CHART), f"--namespace={namespace}", "--skip-tests", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_key(text: str) -> dict[Key, dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def container(found: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    only: dict[str, Any] = found["Deployment", "drainproxy-webhook"]["spec"]["template"]["spec"]["containers"][0]
    return only


def test_the_charts_version_is_drainproxys() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


@NEEDS_HELM
@pytest.mark.debian
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: the chart is NOT compared with kustomize")
def test_by_default_it_is_what_kustomize_builds_but_for_the_namespace() -> None:
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(DEPLOY / "webhook")]
    built = by_key(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    del built["Namespace", NAMESPACE]  # `helm install --create-namespace` makes it
    assert by_key(rendered()) == built


@NEEDS_HELM
@pytest.mark.parametrize("values", [{}, CERT_MANAGER, MANY], ids=["default", "cert-manager", "many"])
def test_the_cluster_knows_every_field_and_check_finds_nothing(values: dict[str, Any]) -> None:
    text = rendered(values)
    for each in by_key(text).values():
        if each["kind"] != "Certificate":
            for version in (VERSIONS[0], VERSIONS[-1]):
                validate(each, version)
    report = check([File("rendered", text)])
    assert [f"{each.rule.id} {each.object} {each.message}" for each in report.findings] == []


@NEEDS_HELM
def test_lint_is_content() -> None:
    done = helm("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout


@NEEDS_HELM
def test_each_value_arrives() -> None:
    found = by_key(rendered(MANY))
    spec = found["Deployment", "drainproxy-webhook"]["spec"]
    pod, only = spec["template"]["spec"], container(found)
    assert spec["replicas"] == 3
    assert "priorityClassName" not in pod
    assert pod["imagePullSecrets"] == [{"name": "puller"}]
    assert (only["image"], only["imagePullPolicy"]) == ("r.example/w:7", "Always")
    assert {each["name"]: each.get("value") for each in only["env"]}["DRAINPROXY_WEBHOOK_IMAGE"] == "r.example/s:8"
    assert only["args"] == ["webhook", *MANY["extraArgs"]]
    assert only["resources"]["requests"]["cpu"] == 1
    for each in found["MutatingWebhookConfiguration", "drainproxy"]["webhooks"]:
        assert each["failurePolicy"] == "Fail"
        _, *others = each["namespaceSelector"]["matchExpressions"]
        names = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE, "kube-system", "123"]}
        assert others == [names, *MANY["namespaceSelector"]["matchExpressions"]]


@NEEDS_HELM
def test_what_is_excluded_by_default_is_what_the_audit_spares() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values["namespaceSelector"]["exclude"]) == set(SPARED)


@NEEDS_HELM
def test_with_cert_manager_the_webhook_may_write_no_secret_and_no_configuration() -> None:
    found = by_key(rendered(CERT_MANAGER))
    assert {kind for kind, _ in by_key(rendered())} - {kind for kind, _ in found} == {"Secret", "Role", "RoleBinding"}
    rules = found["ClusterRole", "drainproxy-webhook"]["rules"]
    assert [each for each in rules if set(each["verbs"]) - {"list", "watch", "create"}] == []
    certificate = found["Certificate", "drainproxy-webhook"]
    assert certificate["spec"]["issuerRef"] == CERT_MANAGER["certManager"]["issuerRef"]
    hook = found["MutatingWebhookConfiguration", "drainproxy"]
    service = hook["webhooks"][0]["clientConfig"]["service"]
    assert certificate["spec"]["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]
    wanted = f"{NAMESPACE}/{certificate['metadata']['name']}"
    assert hook["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": wanted}
    only = container(found)
    directory = only["args"][1].removeprefix("--tls-dir=")
    [name] = [each["name"] for each in only["volumeMounts"] if each["mountPath"] == directory]
    volumes = found["Deployment", "drainproxy-webhook"]["spec"]["template"]["spec"]["volumes"]
    [secret] = [each["secret"]["secretName"] for each in volumes if each["name"] == name]
    assert secret == certificate["spec"]["secretName"]


@NEEDS_HELM
@pytest.mark.parametrize("values", [{}, CERT_MANAGER], ids=["default", "cert-manager"])
def test_everything_follows_the_namespace(values: dict[str, Any]) -> None:
    """A name of digits stays text."""
    here, there = (list(by_key(rendered(values, namespace)).values()) for namespace in ("one-place", "123"))
    assert json.loads(json.dumps(here).replace("one-place", "123")) == there
    assert {each["metadata"].get("namespace", "one-place") for each in here} == {"one-place"}
    assert there[0]["metadata"]["namespace"] == "123"


@NEEDS_HELM
@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 0},
        {"replicas": "two"},
        {"failurePolicy": "ignore"},
        {"replica": 2},
        {"image": {"repository": ""}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"sidecar": {"image": {"name": "x"}}},
        {"namespaceSelector": {"exclude": ["kube-public"]}},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]}},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
        {"certManager": {"enabled": True}},
        {"certManager": {"enabled": "yes"}},
        {"resources": {"limit": {}}},
        {"extraArgs": "--audit-every=1m"},
        {"extraArgs": ["--tls-dir=/x"]},
        {"extraArgs": ["--namespace", "x"]},
    ],
    ids=json.dumps,
)
def test_a_bad_value_is_refused_and_named(values: dict[str, Any]) -> None:
    done = helm("template", "any-name", str(CHART), values=values)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert next(iter(values)) in done.stderr


@NEEDS_HELM
@pytest.mark.parametrize(("policy", "said"), [("Ignore", "WITHOUT the sidecar"), ("Fail", "NOT created")])
def test_the_notes_say_what_the_failure_policy_means(policy: str, said: str, tmp_path: Path) -> None:
    """`helm template` shows no notes: rendered as the text of a ConfigMap instead."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    notes = chart / "templates/NOTES.txt"
    (chart / "templates/_notes.tpl").write_text(f'{{{{ define "notes" }}}}{notes.read_text()}{{{{ end }}}}')
    shown = chart / "templates/shown.yaml"
    shown.write_text('kind: ConfigMap\ndata: {notes: {{ include "notes" . | toJson }}}\n')
    words = ("template", "any-name", str(chart), f"--namespace={NAMESPACE}", "--show-only=templates/shown.yaml")
    done = helm(*words, values={"failurePolicy": policy})
    assert done.returncode == 0, done.stderr
    text = yaml.safe_load(done.stdout)["data"]["notes"]
    assert said in text
    assert f"helm test any-name --namespace {NAMESPACE}" in text
    assert "cert-manager" not in text


def asked() -> dict[str, Any]:
    """The Pod of `helm test`."""
    only = "templates/tests/answers.yaml"
    done = helm("template", "any-name", str(CHART), f"--namespace={NAMESPACE}", f"--show-only={only}")
    assert done.returncode == 0, done.stderr
    pod: dict[str, Any] = yaml.safe_load(done.stdout)
    return pod


@NEEDS_HELM
def test_the_charts_test_asks_where_the_api_server_asks() -> None:
    pod = asked()
    for version in (VERSIONS[0], VERSIONS[-1]):
        validate(pod, version)
    service = by_key(rendered())["MutatingWebhookConfiguration", "drainproxy"]["webhooks"][0]["clientConfig"]["service"]
    _, _, script, namespace = pod["spec"]["containers"][0]["command"]
    assert (namespace, pod["metadata"]["namespace"]) == (NAMESPACE, service["namespace"])
    assert f"{service['name'].upper().replace('-', '_')}_SERVICE_" in script  # the variables that Kubernetes sets
    assert f'{service["path"]}"' in script


async def run_asked(app: web.Application) -> tuple[int, str]:
    """Exit code and output of the chart's test, against a webhook that is `app`."""
    material = current(None, ["drainproxy-webhook.drainproxy.svc"], datetime.now(UTC))
    trust = Trust()
    trust.serve(material.certificate, material.key)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust.context).start()
        where = {"HOST": "127.0.0.1", "PORT": str(runner.addresses[0][1])}
        environment = {f"DRAINPROXY_WEBHOOK_SERVICE_{key}": value for key, value in where.items()}
        _, *script = (await asyncio.to_thread(asked))["spec"]["containers"][0]["command"]
        pipe, together = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        process = await asyncio.create_subprocess_exec(
            sys.executable, *script, stdout=pipe, stderr=together, env={**os.environ, **environment}
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()
    finally:
        await runner.cleanup()


@NEEDS_HELM
async def test_the_charts_test_passes_where_the_webhook_adds_the_sidecar() -> None:
    options = Options(image="drainproxy:1", new_token=lambda: "t")
    admissions = Admissions(options, lambda _namespace: [], Metrics((), Trust(), dict))
    assert await run_asked(admissions.app) == (0, "the webhook answers and adds the sidecar\n")


@NEEDS_HELM
async def test_the_charts_test_fails_where_it_adds_none() -> None:
    async def bare(_request: web.Request) -> web.Response:
        return web.json_response({"response": {"uid": "helm-test", "allowed": True}})

    app = web.Application()
    app.router.add_post("/mutate", bare)
    code, said = await run_asked(app)
    assert code == 1
    assert said.startswith("the webhook answers, but adds no sidecar")
