"""How does drainproxy get into a manifest, and out of it again?

For each workload: choose container and ports, plan the sidecar, the hook and the grace period as one overlay on the Pod
template, merge it into the text. Services and NetworkPolicies of the same input follow. What was there before is noted
in an annotation on the very object, so `remove` gives back the input, and a second run starts from what the input was.

After each merge the text is read again and compared with what the overlay means: an edit that would change anything
else (a shared YAML anchor, say) is refused, never written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from drainproxy.errors import DrainproxyError, ManifestError
from drainproxy.tools.manifest.asked import Options, Undecided, refuse_settings
from drainproxy.tools.manifest.choice import NothingToProxy
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
    tcp_ports,
    why_not,
    workloads,
)
from drainproxy.tools.manifest.outcome import Left, Row, passed_over, place_of, rows_of, told
from drainproxy.tools.manifest.plan import Plan, plan
from drainproxy.tools.manifest.sidecar import NAME, PlannedRoute, find
from drainproxy.tools.manifest.source import File, Source, parse
from drainproxy.tools.manifest.wiring import is_headless, policy_overlay, service_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Outcome:
    """The files as they are to be, what was done (a line an object), and what the user should know.

    `rows`: what became of each workload. `left`: those of them that could not be decided.
    """

    files: tuple[File, ...]
    done: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    left: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class _Edit:
    """An overlay on the part of a resource at `path`; `base` is that part's resource before any inject."""

    index: int
    base: Resource
    path: Path
    overlay: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Wired:
    """A workload of the input and what is planned for it."""

    workload: Workload
    edit: _Edit
    plan: Plan

    @property
    def routes(self) -> tuple[PlannedRoute, ...]:
        return self.plan.routes


@dataclass(slots=True)
class _Work:
    """What is found out about the workloads, in the order of the text."""

    wired: list[_Wired] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def leave(self, resource: Resource, error: DrainproxyError) -> None:
        """This workload cannot be decided: it is not written, and the user hears why."""
        self.wired = [each for each in self.wired if each.workload.resource is not resource]
        self.rows = [each for each in self.rows if each.workload != str(resource) or each.place != place_of(resource)]
        left = Left(str(resource), resource.namespace, place_of(resource), str(error), getattr(error, "decide", ""))
        self.left.append(left)
        self.rows.append(left.row)


def inject(files: Sequence[File], options: Options) -> Outcome:
    """Add drainproxy, or bring it up to date. Raises ManifestError with what to do; nothing is changed then.

    Workloads that cannot be decided are told all at once; with `options.skip_undecided` the others are written.
    """
    refuse_settings(options.settings)
    now = resources([parse(each.name, each.text) for each in files])
    cleaned = remove(files).files
    base = resources([parse(each.name, each.text) for each in cleaned])
    assert len(base) == len(now), "taking drainproxy out changes no object's place"
    work = _planned(base, now, options)
    notes: list[str] = []
    edits = _edits_around(base, now, work, notes)
    if work.left and not (options.skip_undecided and work.wired):
        raise ManifestError(told(work.left, others=len(work.wired)))
    if not work.wired:
        raise ManifestError(_nothing_to_do(base, options, work.rows))
    notes[:0] = [note for each in work.wired for note in each.plan.notes]
    _note_services(base, work.wired, notes)
    edits = [*(each.edit for each in work.wired), *edits]
    texts = _write(files, now, edits, work.wired)
    done = [str(each.base) for each in edits]
    return Outcome(tuple(texts), tuple(done), tuple(dict.fromkeys(notes)), tuple(work.rows), tuple(work.left))


def _planned(base: Sequence[Resource], now: Sequence[Resource], options: Options) -> _Work:
    """A plan for each workload that is asked for."""
    work = _Work()
    on_nodes = _ports_on_nodes(base, now)
    for index, (before, current) in enumerate(zip(base, now, strict=True)):
        reason = why_not(before)
        if reason:
            work.rows.append(passed_over(before, reason))
        for workload in workloads([before]):
            if not _asked_for(workload, options.only):
                continue
            shares = bool(workload.pod.get("hostNetwork"))
            taken = {port for other, ports in on_nodes.items() if other != index for port in ports} if shares else ()
            try:
                planned = plan(workload, workloads([current])[0], base, options, taken)
                edit = _Edit(index, before, workload.path, planned.overlay)
                _refuse_shared(edit)
            except NothingToProxy as reason_why:
                work.rows.append(passed_over(before, str(reason_why)))
                continue
            except DrainproxyError as error:
                work.leave(before, error)
                continue
            work.wired.append(_Wired(workload, edit, planned))
            work.rows += rows_of(before, planned)
            if shares:
                on_nodes[index] = {*_app_ports(workload), planned.admin, *(route.listen for route in planned.routes)}
    return work


def _ports_on_nodes(base: Sequence[Resource], now: Sequence[Resource]) -> dict[int, set[int]]:
    """The ports that each Pod with hostNetwork has on its node: the app's, and those of a drainproxy that is there."""
    found: dict[int, set[int]] = {}
    for index, (before, current) in enumerate(zip(base, now, strict=True)):
        for workload, with_sidecar in zip(workloads([before]), workloads([current]), strict=True):
            if workload.pod.get("hostNetwork"):
                there = find(with_sidecar)
                ours = {there.admin_port, *there.data_ports} if there is not None else set()
                found[index] = _app_ports(workload) | ours
    return found


def _app_ports(workload: Workload) -> set[int]:
    return {int(port["containerPort"]) for each in workload.containers for _, port in tcp_ports(each)}


def _edits_around(base: Sequence[Resource], now: Sequence[Resource], work: _Work, notes: list[str]) -> list[_Edit]:
    """The edits of Services and policies. Workloads for whose Service there is no way are left, and it begins anew."""
    while True:
        wired = {str(each.workload) for each in work.wired}
        left = [each for each in workloads(now) if find(each) is None and str(each) not in wired]
        edits: list[_Edit] = []
        told: list[str] = []
        for index, resource in enumerate(base):
            try:
                overlay = _around(resource, work.wired, left, told)
            except Undecided as error:
                for each in [each for each in work.wired if service_selects(resource, each.workload)]:
                    work.leave(each.workload.resource, error)
                break
            if overlay is not None:
                edits.append(_Edit(index, resource, (), overlay))
        else:
            notes += told
            return edits


def _refuse_shared(edit: _Edit) -> None:
    """Raises Undecided if the edit would change something else too: what a YAML anchor shares with it."""
    source = edit.base.source
    if "&" not in edit.base.text:
        return
    splices, _ = _merged(edit.base, edit.path, _with_memory(edit.overlay, ""))
    try:
        after = resources([parse(source.name, splice(source.text, splices))])
    except ManifestError:
        after = []
    before = resources([parse(source.name, source.text)])
    same = [each for each in before if each.document == edit.base.document]
    fresh = [each for each in after if each.document == edit.base.document]
    expected = [_expected(each, edit, "") if each.node.start == edit.base.node.start else each.data for each in same]
    if [each.data for each in fresh] != expected:
        raise Undecided(
            f"{edit.base}: drainproxy cannot be added without changing something else too: an object or list is shared "
            "by a YAML anchor. Write it out, then run inject again",
            "drainproxy.io/inject: disabled",
        )


def _expected(resource: Resource, edit: _Edit, memory: str) -> Any:
    """What the object means when the edit is done."""
    overlay = _with_memory(edit.overlay, memory)
    for step in reversed(edit.path):
        overlay = {str(step): overlay}
    return applied(resource.data, overlay)


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


def _nothing_to_do(found: Sequence[Resource], options: Options, rows: Sequence[Row]) -> str:
    if rows:
        return "nothing to add drainproxy to: " + "; ".join(f"{each.workload}: {each.why}" for each in rows)
    if options.only:
        there = ", ".join(str(each) for each in workloads(found)) or "none"
        return f"no workload {options.only[0]!r} in the input; there are: {there}"
    kinds = ", ".join(sorted({each.kind for each in found})) or "no Kubernetes object"
    return f"nothing to add drainproxy to: the input has {kinds}"


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
                raise Undecided(
                    f"{resource} selects several workloads whose port {route.upstream} goes to different ports of "
                    "drainproxy; give them the same ports, or inject them one by one with --only"
                )
    overlay = service_overlay(resource, moved)
    without = [each for each in left if service_selects(resource, each)]
    if overlay is not None and without:
        raise Undecided(
            f"{resource} also selects {without[0]}, which gets no drainproxy: with the new targetPort it would be cut "
            "off. Inject both, or give the Service a named targetPort"
        )
    if is_headless(resource):
        numbers = ", ".join(
            f"{route.listen} instead of {route.upstream}" for each in selecting for route in each.routes
        )
        notes.append(f"{resource} is headless: its clients connect to the Pods directly and must use port {numbers}")
    return overlay


def _note_services(found: Sequence[Resource], wired: Sequence[_Wired], notes: list[str]) -> None:
    for each in wired:
        services = [one for one in found if service_selects(one, each.workload)]
        targets = {str(port.get("targetPort")) for one in services for port in mappings(one.spec.get("ports"))}
        names = [route.name for route in each.routes if route.name in targets]
        if each.plan.native and names:
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
            expected = _expected(old, edit, memory_text(undone[index]))
        if index >= len(after) or after[index].data != expected:
            raise ManifestError(
                f"{old}: drainproxy cannot be added without changing something else too: an object or list is shared "
                "by a YAML anchor. Write it out, then run inject again"
            )
