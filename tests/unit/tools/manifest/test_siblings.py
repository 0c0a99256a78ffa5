"""Where does inject set a successor, and to what?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.errors import ConfigError
from drainproxy.tools.manifest import siblings
from drainproxy.tools.manifest.asked import Options, Undecided
from drainproxy.tools.manifest.document import inject_document
from drainproxy.tools.manifest.objects import TEMPLATES, Workload, resource_of
from drainproxy.tools.manifest.sidecar import find
from tests.unit.tools.manifest.patterns import LABELS, app, port, service, to

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.tools.manifest.document import Injected

OPTIONS = Options(image="drainproxy:1", new_token=lambda: "t")
WEB = app(port(8080, "http"))
SHOP = service(to(80, "http", 8080))


def deployment(*containers: Any, kind: str = "Deployment", replicas: int | None = 3, **more: Any) -> dict[str, Any]:
    """`more`: of the PodSpec; `annotations`: of the Pod template."""
    metadata = {"labels": LABELS, "annotations": more.pop("annotations", {})}
    spec = {"template": {"metadata": metadata, "spec": {"containers": list(containers or [WEB]), **more}}}
    counted = {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop"}, "spec": {**counted, **spec}}


def inject(document: dict[str, Any], *around: dict[str, Any], options: Options = OPTIONS) -> Injected:
    return inject_document(document, list(around), options)


def successors(document: dict[str, Any], *around: dict[str, Any], options: Options = OPTIONS) -> list[str]:
    """Of each route, as the sidecar reads them; empty where it has none."""
    made = resource_of(inject(document, *around, options=options).document)
    sidecar = find(Workload(made, TEMPLATES[made.kind]))
    assert sidecar is not None
    assert not sidecar.settings.error
    return [str(each.successor or "") for each in sidecar.settings.config.routes]


def test_the_only_service_of_replicas_that_are_alike_is_their_successor_and_that_is_told() -> None:
    injected = inject(deployment(), SHOP)
    assert successors(deployment(), SHOP) == ["env:SHOP"]
    (note,) = [each for each in injected.notes if "env:shop" in each]
    assert "drainproxy.io/successor: none switches that off" in note


TLS = {"drainproxy.io/tls-cert": "/tls/tls.crt", "drainproxy.io/tls-key": "/tls/tls.key"}
NAME = {"drainproxy.io/successor-name": "shop.web.svc"}
AUTHORITY = {"drainproxy.io/successor-ca": "/tls/ca.crt"}


@pytest.mark.parametrize(
    ("annotations", "asked_for"),
    [
        (TLS, "set drainproxy.io/successor-name and drainproxy.io/successor-ca unless it is valid for the address"),
        (TLS | NAME, "set drainproxy.io/successor-ca unless it is valid for shop.web.svc and signed by an authority"),
        (TLS | AUTHORITY, "set drainproxy.io/successor-name unless it is valid for the address of the Service and "),
    ],
)
def test_with_tls_it_is_told_which_certificates_siblings_must_have(annotations: dict[str, str], asked_for: str) -> None:
    document = deployment(annotations=annotations)
    assert successors(document, SHOP) == ["env:SHOP"]
    assert [asked_for in each for each in inject(document, SHOP).notes if "asked with TLS" in each] == [True]


@pytest.mark.parametrize("annotations", [{}, TLS | NAME | AUTHORITY])
def test_nothing_is_told_of_certificates_where_there_are_none_or_all_is_set(annotations: dict[str, str]) -> None:
    injected = inject(deployment(annotations=annotations), SHOP)
    assert not [each for each in injected.notes if "TLS" in each]
    made = resource_of(injected.document)
    sidecar = find(Workload(made, TEMPLATES[made.kind]))
    assert sidecar is not None
    assert sidecar.settings.config.successor_name == ("shop.web.svc" if annotations else None)


def scaler(least: int) -> dict[str, Any]:
    target = {"kind": "Deployment", "name": "shop"}
    spec = {"scaleTargetRef": target, "minReplicas": least}
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "shop"}, "spec": spec}


@pytest.mark.parametrize(
    ("document", "around"),
    [
        (deployment(), []),
        (deployment(), [SHOP, service(to(80, "http", 8080), name="shop-2")]),
        (deployment(), [service(to(80, "http", 8080), clusterIP="None")]),
        (deployment(), [service(to(80, "http", 8080), sessionAffinity="ClientIP")]),
        (deployment(), [service(to(80, "http", 8080), internalTrafficPolicy="Local")]),
        (deployment(replicas=1), [SHOP]),
        (deployment(replicas=None), [SHOP]),
        (deployment(replicas=None), [SHOP, scaler(1)]),
        (deployment(kind="StatefulSet"), [SHOP]),
        (deployment(kind="DaemonSet", replicas=None), [SHOP]),
        (deployment(annotations={"drainproxy.io/successor": "none"}), [SHOP]),
        (deployment(hostNetwork=True), [SHOP]),
        (deployment(hostname="shop"), [SHOP]),
    ],
    ids=[
        "no Service", "two Services", "headless", "sticky", "node-local", "one replica", "replicas not said",
        "scaled down to one", "StatefulSet", "DaemonSet", "switched off", "hostNetwork", "hostname",
    ],
)  # fmt: skip
def test_there_is_none_where_the_pods_are_not_known_to_be_alike(
    document: dict[str, Any], around: list[dict[str, Any]]
) -> None:
    assert successors(document, *around) == [""]


def test_a_name_that_all_share_makes_up_for_host_names_that_do_not_tell_it() -> None:
    named = {"drainproxy.io/workload": "shop"}
    assert successors(deployment(hostNetwork=True, annotations=named), SHOP) == ["env:SHOP"]


def test_an_autoscaler_that_keeps_two_says_that_there_are_several() -> None:
    assert successors(deployment(replicas=None), SHOP, scaler(2)) == ["env:SHOP"]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_a_service_that_is_named_is_taken_for_any_kind(kind: str) -> None:
    asked = deployment(kind=kind, annotations={"drainproxy.io/successor": "shop"})
    assert successors(asked, SHOP) == ["env:SHOP"]


def test_a_service_is_chosen_among_several_by_its_name() -> None:
    other = service(to(80, "http", 8080), name="shop-2")
    asked = deployment(annotations={"drainproxy.io/successor": "shop-2"})
    assert successors(asked, SHOP, other) == ["env:SHOP_2"]


def test_a_service_that_does_not_lead_there_is_undecided() -> None:
    with pytest.raises(Undecided, match="no Service 'shop-3'"):
        inject(deployment(annotations={"drainproxy.io/successor": "shop-3"}), SHOP)


def test_each_route_has_the_port_that_leads_to_it_and_only_the_first_needs_no_dns() -> None:
    two = app(port(8080, "http"), port(8081, "http-admin-ui"))
    both = service(to(80, "http", 8080), to(81, "http-ui", 8081))
    assert successors(deployment(two), both) == ["env:SHOP", "shop:81"]
    named = {"drainproxy.io/successor": "shop"}
    assert successors(deployment(two, hostNetwork=True, annotations=named), both) == ["env:SHOP", ""]


def test_without_service_links_the_service_is_found_by_dns() -> None:
    assert successors(deployment(enableServiceLinks=False), SHOP) == ["shop:80"]
    assert successors(deployment(enableServiceLinks=False, dnsPolicy="None"), SHOP) == [""]


def test_there_is_none_where_drainproxy_would_not_start_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(flags: dict[str, Any], *_: object) -> Config:
        raise ConfigError("--successor", flags["route"], "another route")

    monkeypatch.setattr(siblings, "load", refuses)
    assert successors(deployment(), SHOP) == [""]


@pytest.mark.parametrize(
    ("owners", "expected"),
    [([], ""), (["StatefulSet"], ""), (["ReplicaSet"], "env:SHOP")],
    ids=["nobody", "a StatefulSet", "a ReplicaSet"],
)
def test_a_pod_has_one_if_a_replicaset_made_it(owners: list[str], expected: str) -> None:
    references = [{"kind": kind, "name": "shop-1", "controller": True} for kind in owners]
    metadata = {"generateName": "shop-", "labels": LABELS, "ownerReferences": references}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [WEB]}}
    assert successors(pod, SHOP) == [expected]
