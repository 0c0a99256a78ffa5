"""Which Service ports do Ingresses and Gateway routes lead to, and what do they speak to them?

An Ingress speaks HTTP to its backends unless an annotation of its controller says otherwise (ingress-nginx:
`backend-protocol`, `ssl-passthrough`); of the Gateway API's routes the kind says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import Resource, mapping, mappings, same_namespace
from drainproxy.tools.manifest.protocols import Speaks, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROUTES = {
    "HTTPRoute": Speaks.HTTP,
    "GRPCRoute": Speaks.HTTP2,
    "TLSRoute": Speaks.TLS,
    "TCPRoute": Speaks.BYTES,
}
_NGINX = "nginx.ingress.kubernetes.io/"
_NGINX_BACKENDS = {
    "HTTPS": Speaks.TLS,
    "GRPC": Speaks.HTTP2,
    "GRPCS": Speaks.TLS,
    "FCGI": Speaks.BYTES,
}


@dataclass(frozen=True, slots=True)
class _Backend:
    owner: Resource
    service: str
    port: object
    word: Word


@dataclass(frozen=True, slots=True)
class Backends:
    """Every backend that the input names."""

    found: tuple[_Backend, ...]

    def of(self, service: Resource, port: dict[str, Any]) -> list[Word]:
        """What is spoken to this port of this Service."""
        return [
            each.word
            for each in self.found
            if each.service == service.name
            and each.port in (port.get("port"), port.get("name") or object())
            and same_namespace(each.owner, service)
        ]


def backends_of(found: Iterable[Resource]) -> Backends:
    """The backends of all Ingresses and routes among these objects."""
    backends: list[_Backend] = []
    for each in found:
        if each.kind == "Ingress":
            word = Word(_of_ingress(each), f"{each} leads to it")
            backends += [_Backend(each, name, port, word) for name, port in _of_rules(each)]
        elif each.kind in _ROUTES:
            word = Word(_ROUTES[each.kind], f"{each} leads to it")
            references = [ref for rule in mappings(each.spec.get("rules")) for ref in mappings(rule.get("backendRefs"))]
            backends += [_Backend(each, str(ref.get("name")), ref.get("port"), word) for ref in references]
    return Backends(tuple(backends))


def _of_ingress(ingress: Resource) -> Speaks:
    if str(ingress.annotations.get(f"{_NGINX}ssl-passthrough")).lower() == "true":
        return Speaks.TLS
    return _NGINX_BACKENDS.get(str(ingress.annotations.get(f"{_NGINX}backend-protocol")).upper(), Speaks.HTTP)


def _of_rules(ingress: Resource) -> Iterator[tuple[str, object]]:
    """Service and port of each backend (networking.k8s.io/v1, and the older form with serviceName)."""
    spec = ingress.spec
    paths = [path for rule in mappings(spec.get("rules")) for path in mappings(mapping(rule.get("http")).get("paths"))]
    default = [mapping(spec.get("defaultBackend") or spec.get("backend"))]
    for backend in [*default, *(mapping(path.get("backend")) for path in paths)]:
        service = mapping(backend.get("service"))
        port = mapping(service.get("port"))
        if service:
            yield str(service.get("name")), port.get("number", port.get("name"))
        elif backend.get("serviceName"):
            yield str(backend["serviceName"]), backend.get("servicePort")
