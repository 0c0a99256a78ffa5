"""Which Pods are found, and whom is it told to?"""

from __future__ import annotations

from typing import Any

import pytest

from drainproxy.tools.manifest.admitted import is_wanted
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.webhook.admission import decide
from drainproxy.tools.webhook.audit import Finding, judge
from tests.unit.tools.manifest.patterns import app, port
from tests.unit.tools.webhook.test_admission import OPTIONS, WEB, in_n, patched, pod, policy, request

LABEL = {"metadata": {"labels": {"drainproxy.io/inject": "enabled"}}}
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "uid": "r1", "controller": True}


def live(document: dict[str, Any], phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    document = in_n(document)
    return {
        **document,
        "metadata": {**document["metadata"], "name": "shop-1-x", **metadata},
        "status": {"phase": phase},
    }


def look(document: dict[str, Any], around: list[dict[str, Any]], options: Options) -> Finding | None:
    """In a namespace with the label."""
    return judge(document, [{"kind": "Namespace", **LABEL}, *around], options)


def injected(options: Options = OPTIONS) -> dict[str, Any]:
    return patched(pod(WEB), decide(request(pod(WEB)), [], options))


def test_a_bare_pod_is_told_to_its_owner() -> None:
    found = look(live(pod(WEB), ownerReferences=[OWNER]), [], OPTIONS)
    assert found is not None
    assert (found.namespace, found.pod, found.reason) == ("n", "shop-1-x", "missing")
    assert found.owner == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "shop-1",
        "uid": "r1",
        "namespace": "n",
    }


def test_a_pod_without_an_owner_is_told_itself() -> None:
    found = look(live(pod(WEB), uid="p1"), [], OPTIONS)
    assert found is not None
    assert (found.owner["kind"], found.owner["uid"]) == ("Pod", "p1")


def test_a_pod_with_this_version_is_fine_and_one_with_another_is_outdated() -> None:
    assert look(live(injected()), [], OPTIONS) is None
    older = look(live(injected()), [], Options(image="registry.example/drainproxy:2"))
    assert older is not None
    assert older.reason == "outdated"


def test_an_image_by_annotation_and_one_of_another_repository_are_nobodys_fault() -> None:
    own = injected(Options(image="mine", new_token=str))
    own["metadata"]["annotations"]["drainproxy.io/image"] = "mine"
    assert look(live(own), [], OPTIONS) is None
    by_hand = pod(WEB, {"name": "drainproxy", "image": "elsewhere:5000/drainproxy:0"})
    assert look(live(by_hand), [], OPTIONS) is None


def test_what_nobody_asked_for_and_a_system_namespace_lack_nothing() -> None:
    assert judge(live(pod(WEB)), [], OPTIONS) is None
    assert look(live(pod(WEB), namespace="kube-system"), [], OPTIONS) is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_passed_over(phase: str) -> None:
    assert look(live(pod(WEB), phase), [], OPTIONS) is None


def test_a_pod_that_is_ending_is_passed_over() -> None:
    assert look(live(pod(WEB), deletionTimestamp="2026-01-01T00:00:00Z"), [], OPTIONS) is None


def test_what_admission_would_not_inject_is_told_with_its_reason() -> None:
    assert look(live(pod(app())), [], OPTIONS) is None
    unclear = look(live(pod(app(port(7001)), app(port(7002), name="two"))), [], OPTIONS)
    shut = look(live(pod(WEB)), [policy(8080)], OPTIONS)
    assert unclear is not None
    assert shut is not None
    assert (unclear.reason, shut.reason) == ("undecided", "shut-out")


@pytest.mark.parametrize(
    ("namespace", "annotation", "wanted"),
    [
        (LABEL, None, True),
        (LABEL, "disabled", False),
        ({}, None, False),
        ({}, "enabled", True),
        ({"metadata": {"labels": {"drainproxy.io/inject": "disabled"}}}, None, False),
    ],
)
def test_the_annotation_outranks_the_label(namespace: dict[str, Any], annotation: str | None, wanted: bool) -> None:
    marks = {} if annotation is None else {"annotations": {"drainproxy.io/inject": annotation}}
    assert is_wanted(namespace, pod(WEB, **marks)) is wanted
