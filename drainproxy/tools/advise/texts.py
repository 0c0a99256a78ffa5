"""Which drains does a text tell of? Log lines of drainproxy, or Pods as `kubectl get pods -o json` gives them. Pure."""

from __future__ import annotations

import json
import re
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

from drainproxy.errors import DrainproxyError
from drainproxy.tools.advise.observed import Observed, Workload, read_summary, workload_of_pod

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = re.compile(r"\s*")
_KUBECTL_PREFIX = re.compile(r"\[pod/([^/\]]+)/[^\]]*\]")
_ENDED = "drain finished"


class TextError(DrainproxyError):
    """A text that is neither a log of drainproxy nor a list of Pods."""

    exit_code = 2


def read_text(text: str, name: str) -> Iterator[Observed]:
    """Every drain in `text`; `name` stands for the workload of a log whose lines name no Pod. Raises TextError."""
    documents = list(_documents(text))
    if documents and "kind" in documents[0]:
        for document in documents:
            yield from read_pods(document)
        return
    lines = text.splitlines()
    if lines and not any("{" in line for line in lines):
        raise TextError(f"{name}: neither JSON log lines of drainproxy nor the output of kubectl get pods -o json")
    for line in lines:
        yield from _read_line(line, name)


def read_pods(document: dict[str, Any]) -> Iterator[Observed]:
    """A Pod, or a list of Pods: the drains that their termination messages tell of."""
    for pod in document.get("items", [document]):
        if pod.get("kind", "Pod") == "Pod" and "metadata" in pod:
            yield from _read_pod(pod)


def workload_of(pod: dict[str, Any]) -> Workload:
    """Its controller; the Deployment, if that is a ReplicaSet named with the hash of the template."""
    meta = pod["metadata"]
    namespace = meta.get("namespace", "")
    owner = next((each for each in meta.get("ownerReferences", ()) if each.get("controller")), None)
    if owner is None:
        return Workload(namespace, meta["name"], "Pod")
    kind, name = owner["kind"], owner["name"]
    template = meta.get("labels", {}).get("pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return Workload(namespace, name.removesuffix(f"-{template}"), "Deployment")
    return Workload(namespace, name, kind)


def _read_pod(pod: dict[str, Any]) -> Iterator[Observed]:
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        for state in (container.get("lastState", {}), container.get("state", {})):
            facts = _facts(state.get("terminated", {}).get("message") or "")
            observed = read_summary(workload_of(pod), facts) if facts else None
            if observed is not None:
                yield observed


def _facts(message: str) -> dict[str, Any] | None:
    """The summary in a termination message: its last line."""
    last = message.strip().rpartition("\n")[2]
    try:
        facts = json.loads(last)
    except JSONDecodeError:
        return None
    return facts if isinstance(facts, dict) and "trigger" in facts else None


def _read_line(line: str, name: str) -> Iterator[Observed]:
    before, brace, rest = line.partition("{")
    if not brace or _ENDED not in rest:
        return
    try:
        fields = json.loads(brace + rest)
    except JSONDecodeError:
        return
    if fields.get("msg") != _ENDED:
        return
    prefix = _KUBECTL_PREFIX.search(before)
    pod = prefix[1] if prefix else before.strip().partition(" ")[0]
    observed = read_summary(Workload("", workload_of_pod(pod) if pod else name), fields)
    if observed is not None:
        yield observed


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON documents one behind the other (`kubectl get --watch -o json`); none if it begins with something else."""
    decoder, at = JSONDecoder(), _BLANK.match(text).end()  # type: ignore[union-attr]  # it matches the empty text, too
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except JSONDecodeError:
            return
        if not isinstance(document, dict):
            return
        yield document
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # as above
