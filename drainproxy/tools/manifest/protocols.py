"""What does a port speak, and what says so? Names, numbers, images and probes, as words of one small language.

Sources: the API reference of ServicePort.appProtocol (Kubernetes; KEP-3726 names `kubernetes.io/h2c`, `/ws`, `/wss`),
Istio's "Protocol Selection" (a port is named `<protocol>[-<suffix>]`), IANA's registry of service names and ports, and
the defaults of the servers named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from drainproxy.tools.manifest.objects import mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drainproxy.config.values import RouteProtocol


class Speaks(Enum):
    """What passes through a port, as far as a proxy cares."""

    HTTP = "HTTP"
    """HTTP/1, and perhaps HTTP/2 with prior knowledge: `auto` tells them apart."""
    HTTP2 = "HTTP/2"
    TLS = "TLS"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Word:
    """What one source says of a port. `source` reads on in "because of …": `Service port name tcp-redis`."""

    speaks: Speaks
    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The route's protocol, and why. A guess is one that nothing in the manifests backs."""

    protocol: RouteProtocol
    why: str
    guess: bool = False


_HTTP = "http http1 http2 web www ws websocket grpc-web graphql"
_HTTP2 = "grpc h2c h2"
_TLS = "https tls ssl wss grpcs mtls ldaps amqps mqtts imaps pop3s smtps ftps rediss"
_BYTES = """tcp
    redis valkey sentinel memcache memcached mysql mysqlx mariadb postgres postgresql pgsql psql pgbouncer mongo mongodb
    cql cassandra thrift mssql sqlserver oracle tns db database cockroach
    amqp rabbitmq epmd kafka zookeeper zk zkclient nats mqtt stomp openwire jms pulsar
    ldap kerberos smtp imap pop3 ftp ssh sftp telnet rsync nfs smb dns sip xmpp irc rtmp fastcgi fcgi fpm
    jdwp jmx rmi jnlp gossip raft"""
_NAMES: dict[str, Speaks] = {
    name: speaks
    for names, speaks in ((_HTTP, Speaks.HTTP), (_HTTP2, Speaks.HTTP2), (_TLS, Speaks.TLS), (_BYTES, Speaks.BYTES))
    for name in names.split()
}
"""`http2` counts as HTTP: what is named so serves HTTP/1 clients too more often than not (Istio's gateway does)."""

_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Speaks.HTTP2,
    "kubernetes.io/ws": Speaks.HTTP,
    "kubernetes.io/wss": Speaks.TLS,
}

_TCP_PORTS = """21 22 23 25 53 88 110 111 143 389 445 465 587 1433 1521 1883 2049 2181 2888 3306 3389 3888 4222 4369
    5222 5432 5433 5672 6379 6432 6650 9042 9092 9300 11211 16379 25672 26257 26379 27017 27018 27019
    28015 33060 61613 61616"""
_TLS_PORTS = "443 636 853 989 990 993 995 5671 6443 6514 8443 8883 9443 10250"
_HTTP2_PORTS = "50051"
_HTTP_PORTS = "80 591 8008 8080 15672"
_PORTS: dict[int, Speaks] = {
    int(number): speaks
    for numbers, speaks in (
        (_TCP_PORTS, Speaks.BYTES),
        (_TLS_PORTS, Speaks.TLS),
        (_HTTP2_PORTS, Speaks.HTTP2),
        (_HTTP_PORTS, Speaks.HTTP),
    )
    for number in numbers.split()
}
"""Ports that servers use by default, and others hardly. 80, 591, 8008 and 8080 are HTTP's own in IANA's registry."""

_ANYBODYS = (80, 591, 8008, 8080)
"""Ports that some server of another protocol may be put on: its image knows better."""

_SERVERS = """redis redis-stack redis-stack-server redis-sentinel redis-cluster valkey keydb dragonfly memcached
    mysql mysql-server mariadb percona percona-server proxysql postgres postgresql postgis timescaledb pgbouncer pgpool
    mongo mongodb mongodb-community-server cassandra scylla rethinkdb
    rabbitmq kafka zookeeper nats nats-streaming mosquitto emqx activemq artemis pulsar
    openldap 389ds sftp openssh-server vsftpd postfix dovecot"""
_IMAGES = frozenset(_SERVERS.split())
_IMAGE_PREFIX = re.compile(r"^(?:cp|kubernetes|k8s|bitnami|docker)-")


def of_name(name: str) -> Speaks | None:
    """What a port's name says: by its first word, else its last (`tcp-redis`, `grpc-web`, `api-http`, `redis2`)."""
    name = name.lower()
    words = [word for word in name.split("-") if word not in ("port", "server", "service", "srv", "client")]
    candidates = [name, "-".join(words[:2]), *words[:1], *words[-1:]]
    for each in candidates:
        for spelled in (each, each.rstrip("0123456789")):
            if spelled in _NAMES:
                return _NAMES[spelled]
    return None


def of_app_protocol(text: str) -> Speaks | None:
    """What a Service port's appProtocol says: a name of Kubernetes' own or one of IANA's."""
    return _APP_PROTOCOLS.get(text.lower()) or of_name(text)


def of_server(number: int, image: str) -> Word | None:
    """What is known of a port's number, or of the server that an image holds."""
    speaks = _PORTS.get(number)
    if speaks is not None and number not in _ANYBODYS:
        return Word(speaks, f"well-known port {number}")
    name = image.rsplit("/", 1)[-1].split("@", maxsplit=1)[0].split(":", maxsplit=1)[0]
    if _IMAGE_PREFIX.sub("", name) in _IMAGES:
        return Word(Speaks.BYTES, f"image {name}")
    return Word(speaks, f"well-known port {number}") if speaks is not None else None


def of_probes(container: dict[str, Any], number: int, names: Iterable[str]) -> Word | None:
    """How the container's probes speak to this port, if they do. A TCP probe says nothing."""
    here = {str(number), *names}
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = mapping(container.get(kind))
        http = mapping(probe.get("httpGet"))
        if str(http.get("port")) in here:
            tls = str(http.get("scheme", "HTTP")).upper() == "HTTPS"
            return Word(Speaks.TLS if tls else Speaks.HTTP, f"{kind} by {'HTTPS' if tls else 'HTTP'}")
        if str(mapping(probe.get("grpc")).get("port")) in here:
            return Word(Speaks.HTTP2, f"{kind} by gRPC")
    return None


def decide(sources: Sequence[Sequence[Word]], witnesses: Iterable[Word], *, ends_tls: bool) -> Verdict:
    """The protocol of a port: what the first source that says something says, else a guess.

    `sources` come best first; each may have several words (a port that two Service ports lead to). `witnesses` are
    heard beside whichever it is if they speak against HTTP: a probe by HTTPS that works, a port or image known for
    something else (CockroachDB's 26257 is named `grpc`, and serves SQL too). `ends_tls`: drainproxy has a certificate,
    so what arrives as TLS is HTTP for it.
    """
    words = next((list(each) for each in sources if each), [])
    if not words:
        return Verdict("any", "nothing says what it speaks", guess=True)
    against = (Speaks.BYTES,) if ends_tls else (Speaks.BYTES, Speaks.TLS)
    if any(word.speaks in _HTTP_KINDS for word in words):
        words += [word for word in witnesses if word.speaks in against]
    speaks = _common({word.speaks for word in words})
    source = ", ".join(dict.fromkeys(word.source for word in words))
    if speaks is None:
        return Verdict("any", f"they disagree: {source}", guess=True)
    if speaks is Speaks.TLS and ends_tls:
        return Verdict("auto", f"{source}; tls-cert ends TLS here")
    return Verdict(_PROTOCOL[speaks], source)


_HTTP_KINDS = (Speaks.HTTP, Speaks.HTTP2)
_PROTOCOL: dict[Speaks, RouteProtocol] = {
    Speaks.HTTP: "auto",
    Speaks.HTTP2: "http2",
    Speaks.TLS: "tcp",
    Speaks.BYTES: "tcp",
}


def _common(said: set[Speaks]) -> Speaks | None:
    """What serves all of them; None where that would be bytes for some and HTTP for others."""
    if len(said) == 1:
        return next(iter(said))
    if said == {Speaks.HTTP, Speaks.HTTP2}:
        return Speaks.HTTP
    return Speaks.BYTES if said == {Speaks.TLS, Speaks.BYTES} else None


_ASIDE = re.compile(
    r"metrics?|prom|prometheus|admin|administration|management|mgmt|health|healthz|healthcheck|healthchecks|livez|readyz"
    r"|liveness|readiness|probe|probes|debug|pprof|profiling|telemetry|monitoring|exporter|stats|jmx|jdwp"
)


def is_aside(name: str) -> bool:
    """Whether a name says that no client's work passes there: metrics, health, debugging."""
    words = name.lower().split("-")
    return any(_ASIDE.fullmatch(word) or word.startswith("prom") for word in words)
