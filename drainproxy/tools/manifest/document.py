"""What does `inject` make of one object that has no text? The same planner, for documents that come from an API.

An admission webhook gets a Pod and knows the Services of its namespace; the difference between the document before and
after is its patch. Services and NetworkPolicies cannot follow there: `moved` says which port numbers numeric
`targetPort`s miss, `shut_out` which policies would keep clients away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.choice import NothingToProxy
from drainproxy.tools.manifest.edit import applied
from drainproxy.tools.manifest.objects import TEMPLATES, Workload, resource_of, service_selects
from drainproxy.tools.manifest.outcome import Row, rows_of
from drainproxy.tools.manifest.plan import plan
from drainproxy.tools.manifest.sidecar import find
from drainproxy.tools.manifest.wiring import policy_overlay, service_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drainproxy.tools.manifest.asked import Options


@dataclass(frozen=True, slots=True)
class Injected:
    """The object with drainproxy in it; `document` is a new one and shares what did not change with the old.

    `moved`: for each Service whose numeric targetPort would lead past drainproxy, the app's ports and drainproxy's.
    `shut_out`: the NetworkPolicies that let clients through to the app's port and not to drainproxy's.
    """

    document: dict[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    moved: Mapping[str, Mapping[int, int]]
    shut_out: tuple[str, ...] = ()


def inject_document(document: dict[str, Any], others: Sequence[dict[str, Any]], options: Options) -> Injected:
    """Add drainproxy to a workload or Pod.

    `others`: the Services that may lead to it, its Namespace, the ConfigMaps and NetworkPolicies there.

    Raises NothingToProxy (also where a drainproxy is there already, so that a second call changes nothing), Undecided
    where it cannot be told what is meant, and ManifestError for what is no workload.
    """
    resource = resource_of(document)
    around = [resource_of(each) for each in others]
    if resource.kind not in TEMPLATES:
        raise ManifestError(f"{resource}: not an object that makes Pods")
    workload = Workload(resource, TEMPLATES[resource.kind])
    if find(workload) is not None:
        raise NothingToProxy("has a drainproxy already")
    planned = plan(workload, workload, around, options)
    overlay: dict[str, Any] = planned.overlay
    for step in reversed(workload.path):
        overlay = {str(step): overlay}
    numbers = {route.upstream: route.listen for route in planned.routes}
    leading = [each for each in around if service_selects(each, workload)]
    moved = {each.name: numbers for each in leading if service_overlay(each, numbers) is not None}
    policies = [each for each in around if each.kind == "NetworkPolicy"]
    wired = [(workload, planned.routes)]
    shut_out = tuple(each.name for each in policies if policy_overlay(each, wired) is not None)
    rows = tuple(rows_of(resource, planned))
    return Injected(applied(document, overlay), rows, planned.notes, moved, shut_out)
