"""Which cluster is played on, and what is left behind? Namespaces that are made here and removed here, nothing else.

DRAINPROXY_CLUSTER=1 (`make cluster` sets it) turns these tests on: a kubeconfig that lies about must not be enough.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import drainproxy
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.pods import Pods
from tests.cluster.stage import Stage
from tests.cluster.table import Table
from tests.cluster.traffic import ROOT, Here, InPod, Place
from tests.cluster.webhook import RESTRICTED, Webhook, installed
from tests.cluster.workloads import LABELLED, WIRINGS, Bare, Images, Wiring, wiring_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEST_TIMEOUT_S = 900
HERE = Path(__file__).parent
OUT = ROOT / "build" / "cluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


def why_not() -> str:
    """Why there is no cluster to play on; empty if there is one."""
    if not os.environ.get("DRAINPROXY_CLUSTER"):
        return "no cluster was asked for: `make cluster` plays this on the one of your kubeconfig"
    if shutil.which("kubectl") is None:
        return "kubectl is not here"
    argv = ["kubectl", "get", "--raw=/readyz", "--request-timeout=10s"]
    asked = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if asked.returncode == 0 else f"no cluster answers: {asked.stderr.strip()}"


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the current context alone: what the user selects meanwhile changes nothing."""
    if why := why_not():
        pytest.skip(why)
    view = ["kubectl", "config", "view", "--minify", "--flatten", "--raw"]
    copy = tmp_path_factory.mktemp("kube") / "config"
    copy.touch(mode=0o600)
    copy.write_text(subprocess.run(view, capture_output=True, text=True, check=True).stdout)
    return copy


class Namespaces:
    """Makes them, and removes them all."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._prefix = f"drainproxy-test-{secrets.token_hex(3)}"
        self._made: list[Kubectl] = []

    def make(self, labels: dict[str, str]) -> Kubectl:
        kubectl = Kubectl(self._kubeconfig, f"{self._prefix}-{len(self._made)}")
        metadata = {"name": kubectl.namespace, "labels": {"drainproxy.io/cluster-tests": self._prefix, **labels}}
        kubectl.now(
            "create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        )
        kubectl.now("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        self._made.append(kubectl)
        return kubectl

    def remove(self, kubectl: Kubectl, *, wait: bool = False) -> None:
        kubectl.now("delete", "namespace", kubectl.namespace, "--ignore-not-found", f"--wait={str(wait).lower()}")

    def remove_all(self) -> None:
        for each in self._made:
            with suppress(KubectlError):
                self.remove(each)
        for each in self._made:
            self.remove(each, wait=True)


@pytest.fixture(scope="session")
def namespaces(kubeconfig: Path) -> Iterator[Namespaces]:
    made = Namespaces(kubeconfig)
    yield made
    made.remove_all()


@pytest.fixture(scope="session")
def images() -> Images:
    tag = drainproxy.__version__
    return Images(
        os.environ.get("DRAINPROXY_IMAGE", f"drainproxy:{tag}"),
        os.environ.get("DRAINPROXY_PEERS_IMAGE", f"drainproxy-peers:{tag}"),
    )


@pytest.fixture(scope="session")
def place(namespaces: Namespaces, images: Images) -> Place:
    """DRAINPROXY_CLUSTER_CLIENT: a command prefix, behind which Service addresses are reachable. Without: a Pod."""
    prefix = os.environ.get("DRAINPROXY_CLUSTER_CLIENT")
    if prefix:
        return Here(prefix)
    kubectl = namespaces.make({})
    container = {
        "name": "client",
        "image": images.peers,
        "imagePullPolicy": "IfNotPresent",
        # It sleeps until it is killed; a process 1 without handlers ignores SIGTERM.
        "command": [
            "python3",
            "-c",
            "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler); signal.pause()",
        ],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": {"containers": [container]}}
    kubectl.now("create", "--filename=-", stdin=json.dumps(pod))
    kubectl.now("wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
    return InPod(kubectl, "client")


@pytest.fixture(scope="session")
def table(kubeconfig: Path, place: Place) -> Iterator[Table]:
    """Written when all have ended, if anything was played."""
    product = ["git", "log", "-1", "--format=%h", "--", "drainproxy", "image", "Dockerfile"]
    commit = subprocess.run(product, capture_output=True, text=True, check=False, cwd=ROOT)
    made = Table(_facts(Kubectl(kubeconfig, "default"), place), commit.stdout.strip() or "unknown")
    made.read(OUT / "cluster.json")
    yield made
    if made.rows:
        OUT.mkdir(parents=True, exist_ok=True)
        made.write(OUT / "cluster.md", OUT / "cluster.json")


def _facts(kubectl: Kubectl, place: Place) -> dict[str, str]:
    nodes = json.loads(kubectl.now("get", "nodes", "--output=json"))["items"]
    info = nodes[0]["status"]["nodeInfo"]
    server = json.loads(kubectl.now("version", "--output=json"))["serverVersion"]["gitVersion"]
    return {
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "drainproxy": drainproxy.__version__,
        "Kubernetes": server,
        "nodes": f"{len(nodes)}, kubelet {info['kubeletVersion']}, {info['containerRuntimeVersion']}",
        "node": f"{nodes[0]['status']['capacity']['cpu']} CPUs, kernel {info['kernelVersion']}, {info['osImage']}",
        "clients": place.name,
        "Python of the clients": platform.python_version() if isinstance(place, Here) else "the peers image's",
    }


@pytest.fixture(scope="session")
def shared_webhook(namespaces: Namespaces, images: Images) -> Iterator[Webhook]:
    """For all cases that are wired by it: two replicas, that a case may kill but has to bring back."""
    with installed(namespaces.make(RESTRICTED), images.drainproxy, LABELLED.by) as webhook:
        yield webhook


@pytest.fixture(params=WIRINGS, ids=wiring_id)
def wiring(request: pytest.FixtureRequest) -> Wiring:
    """A case that takes this is played with each."""
    found: Wiring = request.param
    if found == LABELLED:
        request.getfixturevalue("shared_webhook")
    return found


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, namespaces: Namespaces, images: Images, place: Place, table: Table
) -> AsyncIterator[Stage]:
    """A namespace of its own for the case: markers say what it is called and how it is wired if not by the fixture."""
    marker = request.node.get_closest_marker("case")
    assert marker is not None, "every case has @pytest.mark.case(GROUP, NAME)"
    wired = (
        request.getfixturevalue("wiring") if "wiring" in request.fixturenames else marker.kwargs.get("wiring", Bare())
    )
    kubectl = namespaces.make(wired.namespace_labels)
    try:
        async with Pods(kubectl) as pods:
            made = Stage(kubectl, pods, place, images, wired, table, *marker.args)
            yield made
            if request.node.stash.get(_FAILED, False):
                if not made.rows:
                    made.row("to be played to its end")
                made.rows = [replace(row, kept=False) for row in made.rows]
            table.take([replace(row, commit=table.commit) for row in made.rows])
    finally:
        namespaces.remove(kubectl)


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_FAILED] = True
    return report
