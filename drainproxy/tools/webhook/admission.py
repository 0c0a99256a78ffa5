"""What does the webhook answer to one admission review? Always yes; with a patch if the Pod can be planned for.

Pure: the review, what stands around the Pod and the options go in, the answer comes out. AdmissionReview is that of
admission.k8s.io/v1 (Kubernetes, "Dynamic Admission Control").
"""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import jsonpatch

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.asked import Undecided
from drainproxy.tools.manifest.choice import NothingToProxy
from drainproxy.tools.manifest.document import Injected, inject_document
from drainproxy.tools.manifest.objects import mapping, mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.manifest.asked import Options

API_VERSION = "admission.k8s.io/v1"


class Outcome(StrEnum):
    """What became of a Pod. The values of the metric's label."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"
    """Nothing to proxy, `drainproxy.io/inject: disabled`, or drainproxy is in it already."""
    UNDECIDED = "undecided"
    """An annotation has to say what is meant."""
    SHUT_OUT = "shut-out"
    """A NetworkPolicy lets clients reach the app's port and not drainproxy's: left as it is."""
    FAILED = "failed"
    """An error of ours; the Pod is created as it was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`patch`: JSON Patch (RFC 6902). `warnings` are shown to whoever creates the Pod."""

    outcome: Outcome
    patch: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


class ReviewError(ValueError):
    """The request is no AdmissionReview."""


def read_review(body: bytes) -> dict[str, Any]:
    """The `request` of an AdmissionReview. Raises ReviewError."""
    try:
        review = mapping(json.loads(body))
    except ValueError as error:
        raise ReviewError(f"expected an AdmissionReview as JSON: {error}") from None
    request = mapping(review.get("request"))
    if review.get("apiVersion") != API_VERSION or not isinstance(request.get("uid"), str):
        raise ReviewError(f"expected an AdmissionReview of {API_VERSION} with a request.uid")
    return request


def written(uid: str, answer: Answer) -> dict[str, Any]:
    """The AdmissionReview to send back. The Pod is always allowed."""
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if answer.patch:
        patch = base64.b64encode(json.dumps(answer.patch).encode()).decode()
        response |= {"patchType": "JSONPatch", "patch": patch}
    if answer.warnings:
        response["warnings"] = [f"drainproxy: {each}" for each in answer.warnings]
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def decide(request: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Answer:
    """Plan for the Pod of a request. `around`: its Namespace, and the Services and NetworkPolicies there."""
    pod = mapping(request.get("object"))
    if pod.get("kind") != "Pod" or request.get("operation") != "CREATE":
        return Answer(Outcome.UNCHANGED)
    # A Pod in a review may say neither its namespace nor, with generateName, its name.
    metadata = {**mapping(pod.get("metadata")), "namespace": request.get("namespace")}
    try:
        injected = _inject({**pod, "metadata": metadata}, around, options)
    except NothingToProxy:
        return Answer(Outcome.UNCHANGED)
    except Undecided as error:
        decisive = (f"the annotation that decides: {error.decide}",) if error.decide else ()
        return Answer(Outcome.UNDECIDED, warnings=(f"no sidecar: {error}", *decisive))
    except ManifestError as error:
        return Answer(Outcome.FAILED, warnings=(f"no sidecar: {error}",))
    if injected.shut_out:
        policies = ", ".join(injected.shut_out)
        ports = ", ".join(sorted({str(row.proxy_port) for row in injected.rows}))
        why = f"no sidecar: NetworkPolicy {policies} would keep clients from drainproxy: allow port {ports} in it"
        return Answer(Outcome.SHUT_OUT, warnings=(why,))
    document = injected.document
    if "namespace" not in mapping(pod.get("metadata")):
        document = {**document, "metadata": {k: v for k, v in document["metadata"].items() if k != "namespace"}}
    patch = jsonpatch.make_patch(copy.deepcopy(pod), copy.deepcopy(document)).patch
    return Answer(Outcome.INJECTED, tuple(patch), tuple(_warnings(injected)))


def _inject(pod: dict[str, Any], around: Sequence[dict[str, Any]], options: Options) -> Injected:
    """As `inject` plans. A Pod of a Job is planned for as a Job: a plain container beside it would never let it end."""
    if not any(each.get("kind") == "Job" for each in mappings(pod["metadata"].get("ownerReferences"))):
        return inject_document(pod, around, options)
    template = {"metadata": pod["metadata"], "spec": pod.get("spec")}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": pod["metadata"], "spec": {"template": template}}
    injected = inject_document(job, around, options)
    inner = injected.document["spec"]["template"]
    document = {**pod, "metadata": inner["metadata"], "spec": inner["spec"]}
    return Injected(document, injected.rows, injected.notes, injected.moved, injected.shut_out)


def _warnings(injected: Injected) -> list[str]:
    """What `inject` would have said, and what a Pod alone cannot bring about."""
    guesses = [
        f"port {row.app_port}: {row.protocol}, a guess: {row.why}; drainproxy.io/protocol says it"
        for row in injected.rows
        if row.guess
    ]
    past = [
        f"Service {name} leads to port {app} by number, past drainproxy: set its targetPort to {listen} once all its "
        "Pods have the sidecar"
        for name, numbers in sorted(injected.moved.items())
        for app, listen in numbers.items()
    ]
    return [*injected.notes, *guesses, *past]
