"""Which patterns of other people's manifests does inject know, and what does it do with each?

A table: what is found, in words and as objects, and what is done, in words and as routes. The words are the table in
docs/inject.md; the objects are the corpus that the tests run, in every kind of workload and several styles of text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Ports = list[tuple[str, int, str]]
"""Container, the app's port, protocol (with a question mark: a guess)."""

LABELS = {"app": "shop"}


def app(*ports: Object, name: str = "app", image: str = "registry.example/shop:1", **more: Any) -> Object:
    """A container."""
    return {"name": name, "image": image, **({"ports": list(ports)} if ports else {}), **more}


def port(number: int, name: str = "", **more: Any) -> Object:
    """A container's port."""
    return {"containerPort": number, **({"name": name} if name else {}), **more}


def service(*ports: Object, name: str = "shop", **spec: Any) -> Object:
    """A Service that selects the workload."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": LABELS, "ports": list(ports), **spec},
    }


def to(number: int, name: str = "", target: int | str | None = None, **more: Any) -> Object:
    """A Service's port."""
    return {"port": number, **({"name": name} if name else {}), **({"targetPort": target} if target else {}), **more}


def ingress(number: int, **annotations: str) -> Object:
    """An Ingress that leads to the Service's port."""
    backend = {"service": {"name": "shop", "port": {"number": number}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "shop", "annotations": annotations},
        "spec": {"defaultBackend": backend},
    }


def http_probe(target: int | str, scheme: str = "HTTP") -> Object:
    """A readiness probe."""
    return {"readinessProbe": {"httpGet": {"path": "/", "port": target, "scheme": scheme}}}


def proxy(*args: str, number: int = 8443) -> Object:
    """kube-rbac-proxy, as operators ship it."""
    return app(
        port(number, "https"), name="kube-rbac-proxy", image="quay.io/brancz/kube-rbac-proxy:v1", args=list(args)
    )


@dataclass(frozen=True)
class Pattern:
    """One row. `routes`: what goes through drainproxy; or `left`: why undecided; or `passed`: why nothing is done."""

    found: str
    done: str
    containers: tuple[Object, ...]
    routes: Ports = field(default_factory=list)
    left: str = ""
    passed: str = ""
    around: tuple[Object, ...] = ()
    pod: Object = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


PATTERNS = (
    # What a port speaks
    Pattern(
        "Service `appProtocol: kubernetes.io/h2c`",
        "`http2`; it is stronger than every name",
        (app(port(8080, "http")),),
        [("app", 8080, "http2")],
        around=(service(to(80, "http", 8080, appProtocol="kubernetes.io/h2c")),),
    ),
    Pattern(
        "Service port named `tcp-redis`",
        "`tcp`: the name's first word, as in Istio",
        (app(port(6379)),),
        [("app", 6379, "tcp")],
        around=(service(to(6379, "tcp-redis")),),
    ),
    Pattern(
        "Service port named `grpc`, on any number",
        "`http2`",
        (app(port(8080)),),
        [("app", 8080, "http2")],
        around=(service(to(5000, "grpc", 8080)),),
    ),
    Pattern(
        "Service port named `http2`",
        "`auto`: ports with this name serve HTTP/1 clients too",
        (app(port(8080)),),
        [("app", 8080, "auto")],
        around=(service(to(80, "http2", 8080)),),
    ),
    Pattern(
        "Service port named `https` or `tls`",
        "`tcp`: relayed as bytes, the app ends TLS",
        (app(port(9000)),),
        [("app", 9000, "tcp")],
        around=(service(to(443, "https", 9000)),),
    ),
    Pattern(
        "the same, with `--set tls-cert=…`",
        "`auto`: drainproxy ends TLS",
        (app(port(9000)),),
        [("app", 9000, "auto")],
        around=(service(to(443, "https", 9000)),),
        options={"settings": {"tls-cert": "/tls/tls.crt", "tls-key": "/tls/tls.key"}},
    ),
    Pattern(
        "Service ports `http` and `https` on one port of the app",
        "`any?`: they disagree, the app tells them apart itself",
        (app(port(8080)),),
        [("app", 8080, "any?")],
        around=(service(to(80, "http", 8080), to(443, "https", 8080)),),
    ),
    Pattern(
        "port named `http`, and an HTTPS probe on it",
        "`any?`: the probe works, so the port speaks TLS",
        (app(port(8081, "http"), **http_probe("http", "HTTPS")),),
        [("app", 8081, "any?")],
        around=(service(to(80, "http", "http")),),
    ),
    Pattern(
        "Service port named `grpc` on 26257 (CockroachDB)",
        "`any?`: the number is known for something else",
        (app(port(26257, "grpc")),),
        [("app", 26257, "any?")],
        around=(service(to(26257, "grpc")),),
    ),
    Pattern(
        "container port named `mysql`, `redis`, `ldap`, `amqp`, …",
        "`tcp`",
        (app(port(7000, "mysql")),),
        [("app", 7000, "tcp")],
        around=(service(to(7000)),),
    ),
    Pattern(
        "nothing is named; readiness probe by HTTP",
        "`auto`",
        (app(port(3000), **http_probe(3000)),),
        [("app", 3000, "auto")],
        around=(service(to(80, target=3000)),),
    ),
    Pattern(
        "nothing is named; an Ingress leads to the Service",
        "`auto`; by ingress-nginx's `backend-protocol` what that says",
        (app(port(3000)),),
        [("app", 3000, "auto")],
        around=(service(to(80, target=3000)), ingress(80)),
    ),
    Pattern(
        "the same with `backend-protocol: GRPC`",
        "`http2`",
        (app(port(3000)),),
        [("app", 3000, "http2")],
        around=(service(to(80, target=3000)), ingress(80, **{"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"})),
    ),
    Pattern(
        "unnamed 5432, 3306, 6379, 27017, 5672, 9092, 2181, 389, 11211, 9042, …",
        "`tcp`: well-known ports",
        (app(port(2181)),),
        [("app", 2181, "tcp")],
        around=(service(to(2181)),),
    ),
    Pattern(
        "unnamed 443, 8443, 6443, …",
        "`tcp`: TLS by custom",
        (app(port(8443)),),
        [("app", 8443, "tcp")],
        around=(service(to(443, target=8443)),),
    ),
    Pattern(
        "unnamed 50051",
        "`http2`: gRPC by custom",
        (app(port(50051)),),
        [("app", 50051, "http2")],
        around=(service(to(50051)),),
    ),
    Pattern(
        "unnamed 80 or 8080",
        "`auto`: HTTP by IANA's registry",
        (app(port(80)),),
        [("app", 80, "auto")],
        around=(service(to(80)),),
    ),
    Pattern(
        "image `redis`, `mysql`, `postgres`, `zookeeper`, … on another port",
        "`tcp`",
        (app(port(8080), image="docker.io/bitnami/redis:7"),),
        [("app", 8080, "tcp")],
        around=(service(to(8080)),),
    ),
    Pattern(
        "nothing says what the port speaks",
        "`any?`: HTTP is treated as on `auto`, the rest as bytes",
        (app(port(7777)),),
        [("app", 7777, "any?")],
        around=(service(to(7777)),),
    ),
    Pattern(
        "`--protocol tcp` or `--protocol 9000=tcp`",
        "what is asked for",
        (app(port(8080, "http"), port(9000, "http-alt")),),
        [("app", 8080, "auto"), ("app", 9000, "tcp")],
        around=(service(to(80, "http", 8080), to(81, "http-alt", 9000)),),
        options={"protocols": ("9000=tcp",)},
    ),
    Pattern(
        "annotation `drainproxy.io/protocol: tcp`",
        "the same, and it is stronger than the flag",
        (app(port(8080, "http")),),
        [("app", 8080, "tcp")],
        around=(service(to(80, "http", 8080)),),
        annotations={"drainproxy.io/protocol": "tcp"},
        options={"protocols": ("http2",)},
    ),
    # Which ports
    Pattern(
        "a Service with several ports",
        "a route for each",
        (app(port(8080, "http"), port(9090, "grpc"), port(5555, "tcp-feed")),),
        [("app", 8080, "auto"), ("app", 9090, "http2"), ("app", 5555, "tcp")],
        around=(service(to(80, "http", "http"), to(90, "grpc", "grpc"), to(5555, "tcp-feed")),),
    ),
    Pattern(
        "one of them named `metrics`, `http-metrics`, `prom…`, `admin`, `health`, `debug`",
        "not put behind drainproxy",
        (app(port(8080, "http"), port(9102, "http-metrics")),),
        [("app", 8080, "auto")],
        around=(service(to(80, "http", "http"), to(9102, "http-metrics", "http-metrics")),),
    ),
    Pattern(
        "only such ports",
        "nothing; the table says so",
        (app(port(9102, "metrics")),),
        passed="metrics, health or debugging",
        around=(service(to(9102, "metrics")),),
    ),
    Pattern(
        "the same with `--port metrics`",
        "taken: it is named",
        (app(port(9102, "metrics")),),
        [("app", 9102, "any?")],
        around=(service(to(9102, "metrics")),),
        options={"ports": ("metrics",)},
    ),
    Pattern(
        "a Service's number that no container declares; one container",
        "taken: declaring ports is optional",
        (app(),),
        [("app", 8080, "auto")],
        around=(service(to(80, "http", 8080)),),
    ),
    Pattern(
        "the same; several containers",
        "the one whose probe or arguments name it",
        (app(), app(name="web", args=["--listen", ":8080"])),
        [("web", 8080, "auto")],
        around=(service(to(80, "http", 8080)),),
    ),
    Pattern(
        "the same; nothing tells which",
        "undecided: `drainproxy.io/container`",
        (app(), app(name="web")),
        left="no container declares it",
        around=(service(to(80, "http", 8080)),),
    ),
    Pattern(
        "no Service in the input; one port",
        "taken, with a note on what the Service must contain",
        (app(port(8080, "http")),),
        [("app", 8080, "auto")],
    ),
    Pattern(
        "no Service; several ports",
        "those that a name, a number or a probe points to",
        (app(port(8080, "http"), port(7946), port(9102, "metrics")),),
        [("app", 8080, "auto")],
    ),
    Pattern(
        "no Service; several ports, and nothing tells",
        "undecided: `drainproxy.io/ports`",
        (app(port(7001), port(7002)),),
        left="which port gets the traffic",
    ),
    Pattern(
        "no Service; ports in several containers",
        "undecided: `drainproxy.io/container`",
        (app(port(8080, "http")), app(port(8081, "http"), name="other")),
        left="several containers have ports",
    ),
    Pattern(
        "no Service, no ports; a probe",
        "the probe's port",
        (app(**http_probe(8085)),),
        [("app", 8085, "auto")],
    ),
    Pattern(
        "the same, and an argument calls that port one for health (`--health-probe-bind-address=:8081`)",
        "nothing",
        (app(args=["--health-probe-bind-address=:8081"], **http_probe(8081)),),
        passed="declares a TCP port",
    ),
    Pattern(
        "`--port` that the workload does not declare",
        "undecided; with `--only` or `--container` it is taken",
        (app(port(8080, "http")),),
        left="does not declare",
        options={"ports": ("8000",)},
    ),
    Pattern(
        'annotation `drainproxy.io/ports: "http, 9000"`',
        "these",
        (app(port(8080, "http"), port(9000), port(9001)),),
        [("app", 8080, "auto"), ("app", 9000, "any?")],
        annotations={"drainproxy.io/ports": "http, 9000"},
    ),
    Pattern(
        "Service port with UDP or SCTP",
        "not put behind drainproxy",
        (app(port(53, "dns", protocol="UDP"), port(8080, "http")),),
        [("app", 8080, "auto")],
        around=(service(to(53, "dns", protocol="UDP"), to(80, "http", "http")),),
    ),
    # Neighbours
    Pattern(
        "kube-rbac-proxy in front of an app on 127.0.0.1",
        "the proxy's port, as bytes; the app waits for the drain too",
        (app(port(8080, "http"), args=["--listen=127.0.0.1:8080"]), proxy("--upstream=http://127.0.0.1:8080/")),
        [("kube-rbac-proxy", 8443, "tcp")],
        around=(service(to(8443, "https", "https")),),
    ),
    Pattern(
        "the same without a Service in the input",
        "the same: the port behind it is not considered",
        (app(port(8080, "http")), proxy("--upstream=http://127.0.0.1:8080/")),
        [("kube-rbac-proxy", 8443, "tcp")],
    ),
    Pattern(
        "the same with `--port 8080`",
        "undecided: clients would bypass the auth proxy",
        (app(port(8080, "http")), proxy("--upstream=http://127.0.0.1:8080/")),
        left="clients would bypass kube-rbac-proxy",
        options={"ports": ("8080",)},
    ),
    Pattern(
        "an exporter that reads the app's statistics on 127.0.0.1",
        "the app's port: the exporter protects nothing",
        (app(port(8080, "http")), app(name="exporter", args=["--scrape-uri=http://localhost:8080/stats"])),
        [("app", 8080, "auto")],
        around=(service(to(80, "http", "http")),),
    ),
    Pattern(
        "an app bound to `$(IP)`, the Pod's address",
        "drainproxy connects to it there, by the same field",
        (
            app(
                port(9100, "http"),
                args=["--listen-address=[$(IP)]:9100"],
                env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            ),
        ),
        [("app", 9100, "auto")],
    ),
    Pattern(
        "bound to a variable whose value is not known",
        "undecided",
        (app(port(9100, "http"), args=["--listen-address=$(WHERE):9100"]),),
        left=r"bound to \$\(WHERE\)",
    ),
    Pattern(
        "hostNetwork",
        "both ports named; two such workloads of the input get different ones",
        (app(port(8080, "http")),),
        [("app", 8080, "auto")],
        pod={"hostNetwork": True},
    ),
    Pattern(
        "a preStop that runs a command",
        "undecided: `drainproxy.io/hook: curl` or `/replace-hook`",
        (app(port(8080, "http"), lifecycle={"preStop": {"exec": {"command": ["/stop.sh"]}}}),),
        left="already has a preStop hook",
    ),
    Pattern(
        "the same with annotation `drainproxy.io/hook: wget`",
        "the command runs after the drain",
        (app(port(8080, "http"), lifecycle={"preStop": {"exec": {"command": ["/stop.sh"]}}}),),
        [("app", 8080, "auto")],
        annotations={"drainproxy.io/hook": "wget"},
    ),
    # Meshes
    Pattern(
        "Istio by label",
        "the admin port excluded from interception, by annotation",
        (app(port(8080, "http")),),
        [("app", 8080, "auto")],
        annotations={"sidecar.istio.io/inject": "true"},
    ),
    Pattern(
        "Istio in the manifest already, as a container",
        "the same, also in istio-init's arguments; istio-proxy waits for the drain",
        (app(port(8080, "http")), app(port(15090, "http-envoy-prom"), name="istio-proxy", image="istio/proxyv2:1")),
        [("app", 8080, "auto")],
        pod={
            "initContainers": [{"name": "istio-init", "image": "istio/proxyv2:1", "args": ["-b", "*", "-d", "15020"]}]
        },
    ),
    Pattern(
        "Linkerd by annotation, and MySQL",
        "the admin port skipped; drainproxy's port listed as opaque, because MySQL speaks first",
        (app(port(3306, "mysql")),),
        [("app", 3306, "tcp")],
        annotations={"linkerd.io/inject": "enabled"},
    ),
    # Left alone
    Pattern(
        "annotation `drainproxy.io/inject: disabled`",
        "nothing",
        (app(port(8080, "http")),),
        passed="disabled",
        annotations={"drainproxy.io/inject": "disabled"},
    ),
    Pattern(
        "annotation with an option of `serve`, such as `drainproxy.io/propagation-delay: 15s`",
        "that option, for this workload",
        (app(port(8080, "http")),),
        [("app", 8080, "auto")],
        annotations={"drainproxy.io/propagation-delay": "15s", "drainproxy.io/grace-period": "90s"},
    ),
    Pattern(
        "an unknown annotation that begins with `drainproxy.io/`",
        "undecided: it may be a typing error",
        (app(port(8080, "http")),),
        left="not an option",
        annotations={"drainproxy.io/propagation-dealy": "15s"},
    ),
    Pattern(
        "a drainproxy written by hand",
        "nothing: `check` reports on it",
        (app(port(8080, "http")), app(name="drainproxy", image="drainproxy:1")),
        passed="that inject did not write",
    ),
)
