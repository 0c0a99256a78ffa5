"""What does the webhook answer to one admission review? Always yes; with a patch if the Pod can be planned for.

Pure: the review, what stands around the Pod and the options go in, the answer comes out. AdmissionReview is that of
admission.k8s.io/v1 (Kubernetes, "Dynamic Admission Control").
"""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jsonpatch

from drainproxy.tools.manifest.admitted import Outcome, admitted
from drainproxy.tools.manifest.objects import mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.manifest.asked import Options

API_VERSION = "admission.k8s.io/v1"


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
    found = admitted({**pod, "metadata": metadata}, around, options)
    document = found.document
    if document is None:
        return Answer(found.outcome, warnings=found.warnings)
    if "namespace" not in mapping(pod.get("metadata")):
        document = {**document, "metadata": {k: v for k, v in document["metadata"].items() if k != "namespace"}}
    patch = jsonpatch.make_patch(copy.deepcopy(pod), copy.deepcopy(document)).patch
    return Answer(found.outcome, tuple(patch), found.warnings)
