"""How does drainproxy get into a manifest, and out of it again?

For each workload: choose container and ports, plan the sidecar, the hook and the grace period as one overlay on the Pod
template, merge it into the text. Services and NetworkPolicies of the same input follow. What was there before is noted
in an annotation on the very object, so `remove` gives back the input, and a second run starts from what the input was.

After each merge the text is read again and compared with what the overlay means: an edit that would change anything
else (a shared YAML anchor, say) is refused, never written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.edit import Named, Own, Splice, Undo, applied, merge, splice, style_of
from drainproxy.tools.manifest.memory import MEMORY, memory_text, read_memory, taken_out
from drainproxy.tools.manifest.objects import (
    Path,
    Resource,
    Workload,
    label_selector_matches,
    mapping,
    mappings,
    node_at,
    resources,
    same_namespace,
    service_selects,
    workloads,
)
from drainproxy.tools.manifest.plan import Options, plan, refuse_settings
from drainproxy.tools.manifest.sidecar import NAME, PlannedRoute, find
from drainproxy.tools.manifest.source import File, Source, parse
from drainproxy.tools.manifest.wiring import is_headless, policy_overlay, service_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Outcome:
    """The files as they are to be, what was done (a line an object), and what the user should know."""

    files: tuple[File, ...]
    done: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Edit:
    """An overlay on the part of a resource at `path`; `base` is that part's resource before any inject."""

    index: int
    base: Resource
    path: Path
    overlay: dict[str, Any]


@dataclass(slots=True)
class _Wired:
    """A workload of the input and the routes planned for it."""

    workload: Workload
    routes: tuple[PlannedRoute, ...]
    native: bool


# --- the whole ------------------------------------------------------------------------------------------------------


def inject(files: Sequence[File], options: Options) -> Outcome:
    """Add drainproxy, or bring it up to date. Raises ManifestError with what to do; nothing is changed then."""
    refuse_settings(options.settings)
    now = resources([parse(each.name, each.text) for each in files])
    cleaned = remove(files).files
    base = resources([parse(each.name, each.text) for each in cleaned])
    assert len(base) == len(now), "taking drainproxy out changes no object's place"
    notes: list[str] = []
    edits: list[_Edit] = []
    wired: list[_Wired] = []
    for index, (before, current) in enumerate(zip(base, now, strict=True)):
        for workload in workloads([before]):
            if not _asked_for(workload, options.only):
                continue
            planned = plan(workload, workloads([current])[0], tuple(now), options, notes)
            if planned is not None:
                overlay, routes = planned
                edits.append(_Edit(index, before, workload.path, overlay))
                wired.append(_Wired(workload, routes, "initContainers" in overlay["spec"]))
    if not wired:
        raise ManifestError(_nothing_to_do(base, options, notes))
    left = [
        each for each in workloads(now) if find(each) is None and all(str(each) != str(done.workload) for done in wired)
    ]
    for index, before in enumerate(base):
        around = _around(before, wired, left, notes)
        if around is not None:
            edits.append(_Edit(index, before, (), around))
    _note_services(base, wired, notes)
    texts = _write(files, now, edits, wired)
    done = [str(each.base) for each in edits]
    return Outcome(tuple(texts), tuple(done), tuple(dict.fromkeys(notes)))


def remove(files: Sequence[File]) -> Outcome:
    """Take out what `inject` put in, by what it noted in the annotation."""
    texts: list[File] = []
    done: list[str] = []
    notes: list[str] = []
    for each in files:
        source = parse(each.name, each.text)
        splices: list[Splice] = []
        for resource in resources([source]):
            taken = taken_out(resource, notes)
            if taken is not None:
                splices += taken
                done.append(str(resource))
        texts.append(File(each.name, splice(each.text, splices)))
    return Outcome(tuple(texts), tuple(done), tuple(notes))


def _asked_for(workload: Workload, only: Sequence[str]) -> bool:
    return not only or any(each in (str(workload), workload.resource.name) for each in only)


def _nothing_to_do(found: Sequence[Resource], options: Options, notes: Sequence[str]) -> str:
    if notes:
        return "; ".join(notes)
    if options.only:
        there = ", ".join(str(each) for each in workloads(found)) or "none"
        return f"no workload {options.only[0]!r} in the input; there are: {there}"
    kinds = ", ".join(sorted({each.kind for each in found})) or "no Kubernetes object"
    return f"nothing to add drainproxy to: the input holds {kinds}"


# --- around it ------------------------------------------------------------------------------------------------------


def _around(
    resource: Resource, wired: Sequence[_Wired], left: Sequence[Workload], notes: list[str]
) -> dict[str, Any] | None:
    """What a Service or NetworkPolicy of the same input needs."""
    if resource.kind == "NetworkPolicy":
        return policy_overlay(resource, [(each.workload, each.routes) for each in wired])
    selecting = [each for each in wired if service_selects(resource, each.workload)]
    if not selecting:
        return None
    moved: dict[int, int] = {}
    for each in selecting:
        for route in each.routes:
            if moved.setdefault(route.upstream, route.listen) != route.listen:
                raise ManifestError(
                    f"{resource} selects several workloads whose port {route.upstream} goes to different ports of "
                    "drainproxy; give them the same ports, or inject them one by one with --only"
                )
    overlay = service_overlay(resource, moved)
    without = [each for each in left if service_selects(resource, each)]
    if overlay is not None and without:
        raise ManifestError(
            f"{resource} also selects {without[0]}, which gets no drainproxy: with the new targetPort it would be cut "
            "off. Inject both, or give the Service a named targetPort"
        )
    if is_headless(resource):
        numbers = ", ".join(
            f"{route.listen} instead of {route.upstream}" for each in selecting for route in each.routes
        )
        notes.append(f"{resource} is headless: its clients dial the Pods themselves; they must use port {numbers}")
    return overlay


def _note_services(found: Sequence[Resource], wired: Sequence[_Wired], notes: list[str]) -> None:
    for each in wired:
        services = [one for one in found if service_selects(one, each.workload)]
        targets = {str(port.get("targetPort")) for one in services for port in mappings(one.spec.get("ports"))}
        names = [route.name for route in each.routes if route.name in targets]
        if each.native and names:
            notes.append(
                f"{each.workload}: port name {', '.join(names)} is now the sidecar's. Services find names in native "
                "sidecars since Kubernetes 1.32; on older clusters use --sidecar classic or a numeric targetPort"
            )
        if services or each.workload.runs_to_completion:
            continue
        ports = ", ".join(f"{route.upstream} to {route.listen}" for route in each.routes)
        notes.append(
            f"{each.workload}: no Service in the input selects it. A named targetPort follows the name to the sidecar "
            f"(in a native one since Kubernetes 1.32); in one with a number, change {ports}"
        )


# --- writing --------------------------------------------------------------------------------------------------------


def _write(
    files: Sequence[File], now: Sequence[Resource], edits: Sequence[_Edit], wired: Sequence[_Wired]
) -> list[File]:
    """The texts with every edit merged in. Objects whose earlier inject left other traces are taken back first."""
    wanted: dict[int, _Edit] = {}
    undone: dict[int, Undo] = {}
    for edit in edits:
        undo = _dry(edit)
        wanted[edit.index], undone[edit.index] = edit, undo
    stale = {index for index, each in enumerate(now) if _is_stale(each, wanted.get(index), undone.get(index), wired)}
    start = _reverted(files, now, stale)
    sources = [parse(each.name, each.text) for each in start]
    current = resources(sources)
    splices: dict[int, list[Splice]] = {id(source): [] for source in sources}
    for index, edit in wanted.items():
        overlay = _with_memory(edit.overlay, memory_text(undone[index]))
        resource = current[index]
        splices[id(resource.source)] += _merged(resource, edit.path, overlay)[0]
    result = [File(source.name, splice(source.text, splices[id(source)])) for source in sources]
    _verify(current, result, wanted, undone)
    return result


def _keys(undo: Undo) -> tuple[set[str], set[str]]:
    return set(undo.added), set(undo.replaced)


def _is_stale(resource: Resource, edit: _Edit | None, undo: Undo | None, wired: Sequence[_Wired]) -> bool:
    """Whether an earlier inject left what this one would not: then its traces go first, all of them."""
    old = read_memory(resource)
    if old is None:
        return False
    if edit is None or undo is None:
        return any(_concerns(resource, each.workload) for each in wired)
    rewired = any(isinstance(each, Own) for each in _sidecar_item(edit.overlay).values())
    return rewired or _keys(old) != _keys(undo)


def _concerns(resource: Resource, workload: Workload) -> bool:
    """A Service or policy of this workload; it was looked at again and needs no edit now."""
    if resource.kind == "NetworkPolicy":
        selector = resource.spec.get("podSelector")
        return same_namespace(resource, workload.resource) and label_selector_matches(selector, workload.labels)
    return service_selects(resource, workload)


def _sidecar_item(overlay: dict[str, Any]) -> dict[str, Any]:
    for where in ("initContainers", "containers"):
        named = mapping(overlay.get("spec")).get(where)
        for item in named.items if isinstance(named, Named) else ():
            if item.get("name") == NAME:
                return item
    return {}


def _dry(edit: _Edit) -> Undo:
    """What the edit does to the object as it was before any inject."""
    return _merged(edit.base, edit.path, _with_memory(edit.overlay, ""))[1]


def _with_memory(overlay: dict[str, Any], text: str) -> dict[str, Any]:
    metadata = mapping(overlay.get("metadata"))
    annotations = {**mapping(metadata.get("annotations")), MEMORY: text}
    return {**overlay, "metadata": {**metadata, "annotations": annotations}}


def _merged(resource: Resource, path: Path, overlay: dict[str, Any]) -> tuple[list[Splice], Undo]:
    text = resource.source.text
    document = resource.source.documents[resource.document].root
    assert document is not None, "a resource stands in a document"
    return merge(text, node_at(resource.node, path).resolved, overlay, style_of(document, text))


def _reverted(files: Sequence[File], now: Sequence[Resource], stale: set[int]) -> list[File]:
    texts = {each.name: each.text for each in files}
    splices: dict[str, list[Splice]] = {name: [] for name in texts}
    for index in stale:
        splices[now[index].source.name] += taken_out(now[index], []) or []
    return [replace(each, text=splice(each.text, splices[each.name])) for each in files]


def _verify(
    before: Sequence[Resource], files: Sequence[File], wanted: Mapping[int, _Edit], undone: Mapping[int, Undo]
) -> None:
    """Read the result: it must mean what the overlays say and nothing else."""
    sources: list[Source] = [parse(each.name, each.text) for each in files]
    after = resources(sources)
    for index, old in enumerate(before):
        if index not in wanted and index < len(after) and after[index].text == old.text:
            continue
        expected: Any = old.data
        if index in wanted:
            edit = wanted[index]
            overlay = _with_memory(edit.overlay, memory_text(undone[index]))
            for step in reversed(edit.path):
                overlay = {str(step): overlay}
            expected = applied(old.data, overlay)
        if index >= len(after) or after[index].data != expected:
            raise ManifestError(
                f"{old}: drainproxy cannot be added without changing something else too: an object or list is shared "
                "by a YAML anchor. Write it out, then run inject again"
            )
