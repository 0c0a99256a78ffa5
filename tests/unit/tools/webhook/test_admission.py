"""What does the webhook answer? Every Pod may be created; with what inject writes where that can be planned."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import jsonpatch
import pytest

from drainproxy.tools.manifest.admitted import Outcome
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.document import inject_document
from drainproxy.tools.manifest.objects import Workload, resource_of
from drainproxy.tools.manifest.sidecar import find
from drainproxy.tools.webhook.admission import Answer, ReviewError, decide, read_review, written
from tests.unit.tools.manifest.patterns import LABELS, app, port, service, to

OPTIONS = Options(image="registry.example/drainproxy:1", new_token=lambda: "t0ken")
WEB = app(port(8080, "http"))


def pod(*containers: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "shop-", "labels": dict(LABELS), **metadata},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 30},
    }


def request(document: dict[str, Any], operation: str = "CREATE") -> dict[str, Any]:
    return {"uid": "u", "operation": operation, "namespace": "n", "object": document}


def in_n(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "namespace": "n"}}


def policy(number: int) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": LABELS}, "ingress": [{"ports": [{"port": number}]}]}
    return in_n(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec}
    )


def patched(document: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The document as the API server has it, by way of the bytes that are sent."""
    response = json.loads(json.dumps(written("u", answer)))["response"]
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    result: dict[str, Any] = jsonpatch.apply_patch(document, json.loads(base64.b64decode(response["patch"])))
    return result


def sidecar_of(document: dict[str, Any]) -> Any:
    return find(Workload(resource_of(document), ()))


def test_the_patch_makes_what_inject_makes() -> None:
    document, around = pod(WEB), [in_n(service(to(80, target="http")))]
    before = copy.deepcopy(document)
    answer = decide(request(document), around, OPTIONS)
    expected = inject_document(in_n(document), around, OPTIONS).document
    del expected["metadata"]["namespace"]
    assert answer.outcome is Outcome.INJECTED
    assert patched(document, answer) == expected
    assert answer.warnings == ()
    assert document == before, "the review is not written to"
    assert sidecar_of(expected).data_ports == (9080,)


def test_asked_again_it_changes_nothing() -> None:
    around = [in_n(service(to(80, target="http")))]
    once = patched(pod(WEB), decide(request(pod(WEB)), around, OPTIONS))
    assert decide(request(once), around, OPTIONS) == Answer(Outcome.UNCHANGED)


def test_what_another_injector_adds_between_two_calls_is_kept() -> None:
    around = [in_n(service(to(80, target="http")))]
    once = patched(pod(WEB), decide(request(pod(WEB)), around, OPTIONS))
    once["spec"]["containers"].append({"name": "other", "image": "other"})
    assert decide(request(once), around, OPTIONS).patch == ()


@pytest.mark.parametrize("other", ["istio-proxy", "linkerd-proxy"])
def test_in_a_pod_that_a_mesh_was_faster_in_the_admin_port_is_kept_out_of_it(other: str) -> None:
    document = pod(WEB, {"name": other, "image": "mesh"})
    made = patched(document, decide(request(document), [in_n(service(to(80, target="http")))], OPTIONS))
    assert "9081" in json.dumps(made["metadata"]["annotations"])


def test_a_service_that_leads_past_is_told_and_the_pod_is_injected() -> None:
    answer = decide(request(pod(WEB)), [in_n(service(to(80, target=8080)))], OPTIONS)
    assert answer.outcome is Outcome.INJECTED
    (told,) = [each for each in answer.warnings if "Service shop" in each]
    assert "8080 by number" in told
    assert "targetPort to 9080" in told


def test_a_guess_is_told_with_the_annotation_that_decides() -> None:
    odd = app(port(7777))
    answer = decide(request(pod(odd)), [in_n(service(to(7777)))], OPTIONS)
    assert any("a guess" in each and "drainproxy.io/protocol" in each for each in answer.warnings)


def test_a_pod_whose_policy_knows_only_the_apps_port_is_left_as_it_is() -> None:
    services = [in_n(service(to(80, target="http")))]
    shut = decide(request(pod(WEB)), [*services, policy(8080)], OPTIONS)
    assert (shut.outcome, shut.patch) == (Outcome.SHUT_OUT, ())
    assert "NetworkPolicy p" in shut.warnings[0]
    assert "9080" in shut.warnings[0]
    elsewhere = {**policy(8080), "metadata": {"name": "p", "namespace": "other"}}
    for fine in (policy(9080), elsewhere):
        assert decide(request(pod(WEB)), [*services, fine], OPTIONS).outcome is Outcome.INJECTED


def test_what_cannot_be_decided_is_created_as_it_is_with_a_warning() -> None:
    unclear = pod(app(port(7001)), app(port(7002), name="two"))
    answer = decide(request(unclear), [], OPTIONS)
    assert (answer.outcome, answer.patch) == (Outcome.UNDECIDED, ())
    assert "drainproxy.io/ports" in " ".join(answer.warnings)
    response = written("u", answer)["response"]
    assert response["allowed"] is True
    assert "patch" not in response


@pytest.mark.parametrize(
    "asked",
    [
        request(pod(app())),
        request(pod(WEB, annotations={"drainproxy.io/inject": "disabled"})),
        request(pod(WEB), operation="UPDATE"),
        request(service(to(80))),
        {"uid": "u"},
    ],
)
def test_nothing_to_do_is_said_without_a_word(asked: dict[str, Any]) -> None:
    assert decide(asked, [], OPTIONS) == Answer(Outcome.UNCHANGED)


def test_a_namespace_that_the_pod_does_not_name_finds_its_services_and_is_not_written() -> None:
    past = service(to(80, target=8080))
    elsewhere = {**past, "metadata": {"name": "shop", "namespace": "other"}}
    assert decide(request(pod(WEB)), [elsewhere], OPTIONS).warnings == ()
    here = decide(request(pod(WEB)), [in_n(past)], OPTIONS)
    assert here.warnings
    assert not any(each["path"] == "/metadata/namespace" for each in here.patch)


def test_beside_a_jobs_pod_a_plain_container_never_keeps_it_from_ending() -> None:
    owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "x", "controller": True}]
    document = pod(WEB, ownerReferences=owner)
    classic = Options(kind="classic", new_token=lambda: "t0ken")
    answer = decide(request(document), [], classic)
    assert answer.outcome is not Outcome.FAILED
    if answer.patch:
        assert sidecar_of(patched(document, answer)).native


def test_drainproxys_container_fits_the_restricted_standard() -> None:
    document = pod(WEB)
    made = patched(document, decide(request(document), [], OPTIONS))
    context = sidecar_of(made).container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}', b"\xff"]
)
def test_what_is_no_review_is_refused(body: bytes) -> None:
    with pytest.raises(ReviewError, match="AdmissionReview"):
        read_review(body)
