"""What did `inject` do to an object? Noted in an annotation on the very object, so that it can be undone anywhere."""

from __future__ import annotations

import json
from typing import Any

from drainproxy import __version__
from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.edit import Splice, Undo, revert, style_of
from drainproxy.tools.manifest.objects import Path, Resource, at_path, mapping, node_at, workloads

MEMORY = "drainproxy.io/injected"
"""The annotation: version, what was added, what was replaced. On workloads it is on the Pod template."""


def memory_path(resource: Resource) -> Path:
    for workload in workloads([resource]):
        return workload.path
    return ()


def read_memory(resource: Resource) -> Undo | None:
    """What `inject` noted on this object, or None."""
    if MEMORY.partition("/")[0] not in resource.text:
        return None  # without reading the document; JSON may escape the slash
    metadata = mapping(mapping(at_path(resource.data, memory_path(resource))).get("metadata"))
    text = mapping(metadata.get("annotations")).get(MEMORY)
    if text is None:
        return None
    try:
        noted = json.loads(str(text))
        replaced = {str(key): (str(was), wrote) for key, (was, wrote) in noted.get("replaced", {}).items()}
        return Undo([str(pointer) for pointer in noted.get("added", [])], replaced)
    except (ValueError, TypeError, AttributeError):
        raise ManifestError(
            f"{resource}: the annotation {MEMORY} is damaged; remove drainproxy and the annotation by hand"
        ) from None


def noted_version(resource: Resource) -> str:
    metadata = mapping(mapping(at_path(resource.data, memory_path(resource))).get("metadata"))
    try:
        return str(json.loads(str(mapping(metadata.get("annotations")).get(MEMORY))).get("version", ""))
    except (ValueError, AttributeError):
        return ""


def memory_text(undo: Undo) -> str:
    noted: dict[str, Any] = {"version": __version__}
    if undo.added:
        noted["added"] = undo.added
    if undo.replaced:
        noted["replaced"] = undo.replaced
    return json.dumps(noted, separators=(",", ":"))


def taken_out(resource: Resource, notes: list[str]) -> list[Splice] | None:
    undo = read_memory(resource)
    if undo is None:
        return None
    root = node_at(resource.node, memory_path(resource)).resolved
    text = resource.source.text
    document = resource.source.documents[resource.document].root
    assert document is not None, "a resource stands in a document"
    splices, changed = revert(text, root, undo, style_of(document, text))
    notes += [f"{resource}: {pointer} was changed after inject wrote it; it is not changed back" for pointer in changed]
    return splices
