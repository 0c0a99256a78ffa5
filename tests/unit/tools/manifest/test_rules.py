"""Does each rule find its fault, and only that? One mutation a rule breaks a manifest that is in order.

Taking the mutation back is what the rule's fix prescribes: the manifest in order has no finding of that rule.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from drainproxy.tools.cli.check import command
from drainproxy.tools.docs.contents import with_contents
from drainproxy.tools.manifest.report import GROUPS, anchor, as_github, as_json, as_sarif, page
from drainproxy.tools.manifest.rules import RULES, Report, Rule, Severity, check
from drainproxy.tools.manifest.source import File, parse

PROXIED = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  minReadySeconds: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 45
      initContainers:
      - name: drainproxy
        image: drainproxy:1
        restartPolicy: Always
        ports:
        - {name: http, containerPort: 9080}
        - {name: drain-admin, containerPort: 9081}
        env:
        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}
        - {name: DRAINPROXY_UPSTREAM, value: "127.0.0.1:8080"}
        - {name: DRAINPROXY_ADMIN, value: ":9081"}
        - {name: DRAINPROXY_READINESS_ON_DRAIN, value: hold}
        - name: DRAINPROXY_DRAIN_TOKEN
          valueFrom: {secretKeyRef: {name: web, key: token}}
        startupProbe: {httpGet: {path: /livez, port: 9081}}
        readinessProbe: {httpGet: {path: /readyz, port: drain-admin}}
        livenessProbe: {httpGet: {path: /livez, port: 9081}}
      containers:
      - name: app
        image: registry.example/app:1
        ports:
        - {name: app-http, containerPort: 8080}
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
        livenessProbe: {httpGet: {path: /alive, port: 8080}, failureThreshold: 3}
        lifecycle:
          preStop:
            httpGet:
              path: /drain?event=1
              port: 9081
              httpHeaders: [{name: X-Drain-Token, value: abc}]
---
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData: {token: abc}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  externalTrafficPolicy: Local
  ports:
  - {port: 80, targetPort: 9080}
---
apiVersion: v1
kind: Service
metadata: {name: web-pods}
spec:
  clusterIP: None
  selector: {app: web}
  ports:
  - {port: 9080}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: web}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - ports:
    - {port: 8080}
    - {port: 9080}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 3
  maxReplicas: 9
  behavior:
    scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}
"""

BARE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: bare}
spec:
  replicas: 2
  minReadySeconds: 5
  selector: {matchLabels: {app: bare}}
  template:
    metadata: {labels: {app: bare}}
    spec:
      terminationGracePeriodSeconds: 60
      containers:
      - name: app
        image: registry.example/app:1
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: bare}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: bare}}
"""

JOB = """\
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      initContainers:
      - name: drainproxy
        image: drainproxy:1
        restartPolicy: Always
        env: [{name: DRAINPROXY_DRAIN_TOKEN, value: abc}]
      containers:
      - name: app
        image: app:1
        lifecycle:
          preStop:
            httpGet: {path: "/drain?event=1", port: 9081, httpHeaders: [{name: X-Drain-Token, value: abc}]}
"""

INGRESS = (
    PROXIED
    + """\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  rules:
  - backendRefs: [{name: web, port: 80}]
"""
)

MESH = PROXIED.replace(
    "    metadata: {labels: {app: web}}\n",
    """\
    metadata:
      labels: {app: web, sidecar.istio.io/inject: "true"}
      annotations:
        sidecar.istio.io/rewriteAppHTTPProbers: "false"
        traffic.sidecar.istio.io/excludeInboundPorts: "15020, 9081"
        proxy.istio.io/config: '{"proxyMetadata": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"}}'
""",
).replace(
    "      containers:\n",
    "      containers:\n      - {name: istio-proxy, image: proxyv2, lifecycle: {preStop: {exec: {command: [x]}}}}\n",
)

LINKERD = PROXIED.replace(
    "    metadata: {labels: {app: web}}\n",
    """\
    metadata:
      labels: {app: web}
      annotations: {linkerd.io/inject: enabled, config.linkerd.io/skip-inbound-ports: "9000-9090",
        config.alpha.linkerd.io/proxy-wait-before-exit-seconds: "20"}
""",
)

TCP = PROXIED.replace(
    '{name: DRAINPROXY_UPSTREAM, value: "127.0.0.1:8080"}',
    '{name: DRAINPROXY_ROUTE, value: ":9080=127.0.0.1:8080,protocol=tcp"}',
).replace("port: 80, targetPort: 9080", "name: redis, port: 80, targetPort: 9080")

HANDING_OVER = PROXIED.replace(
    "        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n",
    '        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n        - {name: DRAINPROXY_SUCCESSOR, value: "env:WEB"}\n',
)

HANDING_OVER_WITH_TLS = HANDING_OVER.replace(
    "        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n",
    "        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n"
    "        - {name: DRAINPROXY_TLS_CERT, value: /tls/tls.crt}\n"
    "        - {name: DRAINPROXY_TLS_KEY, value: /tls/tls.key}\n"
    "        - {name: DRAINPROXY_SUCCESSOR_NAME, value: web.shop.svc}\n",
)

RUNNING = (
    PROXIED
    + """\
---
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
---
kind: Pod
metadata: {name: web-1, ownerReferences: [{kind: ReplicaSet, name: web-0, controller: true}]}
spec: {initContainers: [{name: drainproxy, restartPolicy: Always}], containers: [{name: app}]}
status:
  initContainerStatuses:
  - name: drainproxy
    lastState: {terminated: {message: "drained cleanly after 6.9s (quiet): 7 completed, 0 cut, 0 late"}}
---
kind: Namespace
metadata: {name: shop, labels: {drainproxy.io/inject: enabled}}
---
kind: Pod
metadata: {name: web-2, namespace: shop, uid: p2, ownerReferences: [{kind: ReplicaSet, name: w, controller: true}]}
spec:
  initContainers: [{name: drainproxy, image: "drainproxy:999.0.0", restartPolicy: Always}]
  containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]
status: {phase: Running}
---
kind: Event
metadata: {name: web-1.1}
reason: Started
involvedObject: {kind: Pod, name: web-1}
"""
)

# rule: (the manifest in order, what is replaced, by what)
BROKEN: dict[str, list[tuple[str, str, str]]] = {
    "DP101": [
        (PROXIED, "value: 45s", "value: 11s"),
        (PROXIED, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 11"),
    ],
    "DP102": [
        (PROXIED, "value: 45s", "value: 60s"),
        (PROXIED, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 60"),
        (PROXIED, "        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n", ""),
    ],
    "DP103": [
        (
            BARE,
            "      terminationGracePeriodSeconds: 60\n",
            "      hostname: x\n      initContainers: [{name: s, image: i, restartPolicy: Always, "
            "lifecycle: {preStop: {sleep: {seconds: 20}}}}]\n",
        )
    ],
    "DP104": [(BARE, "exec: {command: [/app, quiesce]}", "exec: {command: [sh, -c, sleep 1m]}")],
    "DP105": [(PROXIED, "value: hold", "value: sometimes")],
    "DP106": [(BARE, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 0")],
    "DP107": [(BARE, "exec: {command: [/app, quiesce]}", "sleep: {seconds: 57}")],
    "DP201": [
        (PROXIED, "path: /drain?event=1\n              port: 9081", "path: /bye\n              port: 8080"),
        (JOB, '            httpGet: {path: "/drain?event=1", port: 9081', '            httpGet: {path: "/x", port: 1'),
    ],
    "DP202": [
        (
            PROXIED.replace("        lifecycle:\n          preStop:", "        lifecycle:\n          postStart:"),
            "        startupProbe:",
            "        lifecycle: {preStop: {httpGet: {path: /drain, port: 9081}}}\n        startupProbe:",
        )
    ],
    "DP203": [
        (PROXIED, "              port: 9081", "              port: drain-admin"),
        (PROXIED, "              port: 9081", "              port: app-http"),
    ],
    "DP204": [(PROXIED, "              port: 9081", "              port: 9081\n              host: localhost")],
    "DP205": [(PROXIED, "              port: 9081", "              port: 9081\n              scheme: HTTPS")],
    "DP206": [(PROXIED, "              port: 9081", "              port: 9080")],
    "DP207": [
        (PROXIED, "/drain?event=1", "/status"),
        (PROXIED, "/drain?event=1", "/drain?event=1&wait=0"),
    ],
    "DP208": [
        (PROXIED, "value: abc", "value: abd"),
        (PROXIED, "stringData: {token: abc}", "data: {token: YWJk}"),
        (PROXIED, "              httpHeaders: [{name: X-Drain-Token, value: abc}]\n", ""),
        (
            PROXIED,
            "        startupProbe:",
            "        args: [serve, --drain-access, loopback]\n        startupProbe:",
        ),
        (JOB, "TOKEN, value: abc", "TOKEN, value: abd"),
    ],
    "DP209": [(PROXIED, 'value: ":9081"', 'value: "127.0.0.1:9081"')],
    "DP210": [(BARE, "exec: {command: [/app, quiesce]}", "sleep: {seconds: 5}")],
    "DP211": [
        (
            BARE.replace("[/app, quiesce]", "[sh, -c, /app quiesce]"),
            "image: registry.example/app:1",
            "image: gcr.io/distroless/python3:nonroot",
        )
    ],
    "DP212": [(PROXIED, "/drain?event=1", "/drain")],
    "DP213": [(BARE, "        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}\n", "")],
    "DP214": [
        (
            PROXIED,
            "        - name: DRAINPROXY_DRAIN_TOKEN\n          valueFrom: {secretKeyRef: {name: web, key: token}}\n",
            "",
        )
    ],
    "DP215": [(PROXIED, "      containers:\n", "      containers:\n      - {name: cache, image: cache:1}\n")],
    "DP216": [
        (BARE, "        image: reg", '        command: [sh, -c, "prepare && /app/server"]\n        image: reg'),
        (BARE, "        image: reg", '        args: [/bin/bash, -ec, "a; b"]\n        image: reg'),
        (
            BARE,
            "        image: reg",
            "        command: [/bin/sh, -c]\n        args: ['a\n\n          b']\n        image: reg",
        ),
    ],
    "DP301": [(BARE, "        readinessProbe: {httpGet: {path: /ready, port: 8080}}\n", "")],
    "DP302": [
        (PROXIED, "        readinessProbe: {httpGet: {path: /readyz, port: drain-admin}}\n", ""),
        (PROXIED, "path: /readyz, port: drain-admin", "path: /livez, port: drain-admin"),
        (PROXIED, "path: /readyz, port: drain-admin", "path: /readyz, port: 9080"),
    ],
    "DP303": [(PROXIED, "livenessProbe: {httpGet: {path: /alive", "livenessProbe: {httpGet: {path: /ready")],
    "DP304": [(PROXIED, "port: 8080}, failureThreshold: 3}", "port: 8080}, periodSeconds: 3, failureThreshold: 3}")],
    "DP305": [
        (PROXIED, "startupProbe: {httpGet: {path: /livez", "startupProbe: {httpGet: {path: /startupz"),
        (PROXIED, "startupProbe: {httpGet: {path: /livez", "startupProbe: {httpGet: {path: /readyz"),
    ],
    "DP306": [(PROXIED, "livenessProbe: {httpGet: {path: /livez", "livenessProbe: {httpGet: {path: /readyz")],
    "DP307": [
        (BARE, "path: /ready, port: 8080", "path: /ready, port: htttp"),
        (PROXIED, "path: /livez, port: 9081", "path: /livez, port: app-http"),
        (BARE, "        readiness", "        startupProbe: {tcpSocket: {port: grpc}}\n        readiness"),
    ],
    "DP401": [
        (PROXIED, "targetPort: 9080", "targetPort: 8080"),
        (PROXIED, "targetPort: 9080", "targetPort: app-http"),
    ],
    "DP402": [
        (PROXIED, "targetPort: 9080", "targetPort: htpt"),
        (
            BARE,
            "---\n",
            """\
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {selector: {app: bare}, ports: [{port: 80, targetPort: web}]}
---
""",
        ),
    ],
    "DP403": [(PROXIED, "  - {port: 9080}\n---", "  - {port: 8080}\n---")],
    "DP404": [(PROXIED, "  clusterIP: None", "  clusterIP: None\n  publishNotReadyAddresses: true")],
    "DP405": [(PROXIED, "value: hold", "value: fail")],
    "DP406": [(PROXIED, "    - {port: 9080}\n---", "---")],
    "DP407": [
        (
            PROXIED,
            "{name: app-http, containerPort: 8080}",
            "{name: app-http, containerPort: 8080}\n        - {containerPort: 9081}",
        )
    ],
    "DP408": [(PROXIED, "targetPort: 9080", "targetPort: http")],
    "DP409": [(PROXIED, "127.0.0.1:8080", "127.0.0.1:8081")],
    "DP410": [
        (PROXIED, "{name: app-http, containerPort: 8080}", "{name: app-http, containerPort: 8080, hostPort: 80}")
    ],
    "DP411": [
        (PROXIED, "  selector: {app: web}\n  ext", "  selector: {app: webb}\n  ext"),
        (
            BARE,
            "Unavailable: 1\n  selector: {matchLabels: {app: bare}}",
            "Unavailable: 1\n  selector: {matchLabels: {app: baer}}",
        ),
        (PROXIED, "podSelector: {matchLabels: {app: web}}", "podSelector: {matchLabels: {app: wep}}"),
    ],
    "DP412": [
        (PROXIED, "kind: Deployment, name: web", "kind: Deployment, name: wep"),
        (PROXIED, "kind: Deployment, name: web", "kind: StatefulSet, name: web"),
        (INGRESS, "service: {name: web,", "service: {name: webb,"),
        (INGRESS, "backendRefs: [{name: web,", "backendRefs: [{name: webs,"),
    ],
    "DP413": [
        (INGRESS, "port: {number: 80}", "port: {number: 9080}"),
        (INGRESS, "port: {number: 80}", "port: {name: http}"),
        (INGRESS, "port: 80}]", "port: 8080}]"),
    ],
    "DP414": [
        (PROXIED, "port: 80, targetPort: 9080", "name: tcp-redis, port: 80, targetPort: 9080"),
        (PROXIED, "port: 80, targetPort: 9080", "appProtocol: redis, port: 80, targetPort: http"),
        (PROXIED, "port: 80, targetPort: 9080", "name: https, port: 80, targetPort: 9080"),
        (TCP, "name: redis", "name: http"),
        (TCP.replace("protocol=tcp", "protocol=http1").replace("redis, port", "web, port"), "web, port", "grpc, port"),
    ],
    "DP501": [
        (PROXIED, "maxUnavailable: 0, maxSurge", "maxUnavailable: 100%, maxSurge"),
        (BARE, "  minReadySeconds: 5", "  minReadySeconds: 5\n  strategy: {rollingUpdate: {maxUnavailable: 2}}"),
    ],
    "DP502": [
        (PROXIED, "maxUnavailable: 0, maxSurge: 1", "maxUnavailable: 1, maxSurge: 0"),
        (PROXIED, "maxUnavailable: 0, maxSurge: 1", "maxUnavailable: 1, maxSurge: 0%"),
    ],
    "DP503": [(BARE, "  minReadySeconds: 5", "  minReadySeconds: 5\n  strategy: {type: Recreate}")],
    "DP504": [(BARE, "replicas: 2", "replicas: 1"), (PROXIED, "minReplicas: 3", "minReplicas: 1")],
    "DP505": [(BARE, "  minReadySeconds: 5\n", "")],
    "DP506": [
        (
            BARE,
            "  maxUnavailable: 1\n  selector: {matchLabels: {app: bare}}",
            "  selector: {matchLabels: {app: other}}",
        ),
        (PROXIED, "kind: PodDisruptionBudget", "kind: Something"),
    ],
    "DP415": [
        (HANDING_OVER, "env:WEB", "web-pods:9080"),
        (
            HANDING_OVER,
            "  selector: {app: web}\n  externalTrafficPolicy: Local\n",
            "  selector: {app: other}\n  externalTrafficPolicy: Local\n",
        ),
    ],
    "DP416": [
        (HANDING_OVER, "  - ports:\n    - {port: 8080}\n    - {port: 9080}\n", "  - ports:\n    - {port: 8080}\n"),
        (
            HANDING_OVER,
            "  - ports:\n    - {port: 8080}\n",
            "  - from: [{podSelector: {matchLabels: {app: client}}}]\n    ports:\n",
        ),
        (HANDING_OVER, "  ingress:\n", "  egress: [{ports: [{port: 53, protocol: UDP}]}]\n  ingress:\n"),
        (HANDING_OVER, "  ingress:\n", "  policyTypes: [Ingress, Egress]\n  ingress:\n"),
    ],
    "DP417": [
        (
            HANDING_OVER_WITH_TLS,
            "        - {name: DRAINPROXY_SUCCESSOR_NAME, value: web.shop.svc}\n",
            "",
        )
    ],
    "DP511": [(HANDING_OVER, "  minReplicas: 3\n", "  minReplicas: 1\n")],
    "DP507": [
        (PROXIED, "  maxUnavailable: 1\n", "  maxUnavailable: 0\n"),
        (PROXIED, "  maxUnavailable: 1\n", "  minAvailable: 3\n"),
        (PROXIED, "  maxUnavailable: 1\n", "  minAvailable: 100%\n"),
    ],
    "DP508": [(PROXIED, "    scaleDown: {policies", "    scaleUp: {policies")],
    "DP509": [(PROXIED, "  minReadySeconds: 5\n", "  minReadySeconds: 5\n  replicas: 3\n")],
    "DP510": [
        (
            BARE.replace("kind: Deployment", "kind: StatefulSet"),
            "  minReadySeconds: 5\n",
            "  minReadySeconds: 5\n  updateStrategy: {type: OnDelete}\n",
        )
    ],
    "DP601": [
        (
            JOB.replace("      containers:\n", ""),
            "      initContainers:\n",
            "      containers:\n",
        )
    ],
    "DP602": [(PROXIED, "        restartPolicy: Always\n", "")],
    "DP701": [(PROXIED, "apiVersion: policy/v1", "apiVersion: policy/v1beta1")],
    "DP702": [
        (
            BARE,
            "metadata: {name: bare}\nspec:\n  max",
            "metadata: {name: bare, annotations: {drainproxy.io/ignore: 'one-replica, DP999'}}\nspec:\n  max",
        )
    ],
    "DP801": [
        (MESH, '"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"', '"X": "y"'),
        (LINKERD, '-seconds: "20"', '-seconds: "2"'),
    ],
    "DP901": [(RUNNING, "ready: true", "ready: false")],
    "DP902": [(RUNNING, "7 completed, 0 cut", "5 completed, 2 cut")],
    "DP903": [(RUNNING, "reason: Started", "reason: FailedPreStopHook")],
    "DP904": [
        (RUNNING, '  initContainers: [{name: drainproxy, image: "drainproxy:999.0.0", restartPolicy: Always}]\n', ""),
        (RUNNING, "drainproxy:999.0.0", "drainproxy:0.0.9"),
    ],
    "DP802": [
        (MESH, '"15020, 9081"', '"15020"'),
        (LINKERD, '"9000-9090"', '"9000-9080"'),
    ],
}


def findings(text: str) -> set[str]:
    return {each.rule.id for each in check([File("m.yaml", text)]).findings}


@pytest.mark.parametrize(
    "text",
    [PROXIED, BARE, JOB, INGRESS, MESH, LINKERD, RUNNING, TCP, HANDING_OVER, HANDING_OVER_WITH_TLS],
    ids=["proxied", "bare", "job", "ingress", "mesh", "linkerd", "running", "tcp", "handing over", "with tls"],
)
def test_a_manifest_in_order_has_no_finding(text: str) -> None:
    assert [f"{each.rule.id} {each.message}" for each in check([File("m.yaml", text)]).findings] == []


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "text", "old", "new"),
    [pytest.param(rule, *case, id=f"{rule}-{n}") for rule, cases in BROKEN.items() for n, case in enumerate(cases)],
)
def test_a_rule_finds_its_fault_and_its_fix_takes_it_away(rule: str, text: str, old: str, new: str) -> None:
    assert rule not in findings(text)
    assert text.count(old) >= 1, "the mutation does not apply"
    broken = text.replace(old, new, 1)
    assert rule in findings(broken)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("DP101", "containers:"),
        ("DP204", "host: localhost"),
        ("DP401", "{port: 80, targetPort: 8080}"),
        ("DP501", "maxUnavailable: 100%"),
        ("DP701", "apiVersion: policy/v1beta1"),
    ],
)
def test_a_finding_points_at_the_line(rule: str, line: str) -> None:
    text, old, new = BROKEN[rule][0]
    broken = text.replace(old, new, 1)
    found = next(each for each in check([File("m.yaml", broken)]).findings if each.rule.id == rule)
    assert line in broken.splitlines()[found.line - 1] or rule == "DP101"
    assert broken.splitlines()[found.line - 1][found.column - 1] != " "


# --- what is no fault -------------------------------------------------------------------------------------------------


def test_settings_that_are_not_in_the_input_are_not_judged() -> None:
    unknown = PROXIED.replace("{name: DRAINPROXY_GRACE_PERIOD, value: 45s}", "{name: X, value: y}").replace(
        "        env:\n", "        envFrom: [{configMapRef: {name: elsewhere}}]\n        env:\n"
    )
    assert "DP102" not in findings(unknown)


def test_settings_in_a_config_map_of_the_input_are_read() -> None:
    config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {DRAINPROXY_GRACE_PERIOD: 60s}\n"
    text = PROXIED.replace("        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n", "").replace(
        "        env:\n", "        envFrom: [{configMapRef: {name: c}}]\n        env:\n"
    )
    assert "DP102" in findings(text + config)
    assert "DP102" not in findings(text + config.replace("60s", "45s"))


def test_flags_are_read_as_the_proxy_reads_them() -> None:
    text = PROXIED.replace("        - {name: DRAINPROXY_GRACE_PERIOD, value: 45s}\n", "").replace(
        "        env:\n", "        args: [serve, --grace-period=45s, --idle-timeout, 60s]\n        env:\n"
    )
    assert findings(text) == set()
    assert "DP102" in findings(text.replace("grace-period=45s", "grace-period=50s"))


def test_canaries_share_their_capacity() -> None:
    canary = BARE.split("---", maxsplit=1)[0].replace("{name: bare}", "{name: canary}")
    canary = canary.replace("replicas: 2", "replicas: 1")
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
    service += "spec: {selector: {app: bare}, ports: [{port: 80, targetPort: http}]}\n"
    assert "DP504" in findings(canary)
    assert "DP504" not in findings(BARE + "---\n" + canary + service)


def test_an_app_wrapped_by_drainproxy_run_needs_no_hook() -> None:
    text = BARE.replace("        lifecycle: {preStop: {exec: {command: [/app, quiesce]}}}\n", "")
    assert "DP213" in findings(text)
    assert "DP213" not in findings(
        text.replace("        ports:", "        command: [drainproxy, run, --, /app]\n        ports:")
    )


def test_several_files_are_one_input() -> None:
    deployment, rest = PROXIED.split("---\n", 1)
    report = check([File("a.yaml", deployment), File("b.yaml", rest)])
    assert report.findings == ()
    assert "DP504" in {each.rule.id for each in check([File("a.yaml", deployment)]).findings}


def test_an_annotation_or_an_option_leaves_a_rule_out() -> None:
    broken = BARE.replace("replicas: 2", "replicas: 1")
    marked = broken.replace(
        "metadata: {name: bare}\nspec:\n  replicas",
        "metadata: {name: bare, annotations: {drainproxy.io/ignore: 'DP505, one-replica'}}\nspec:\n  replicas",
    )
    assert "DP504" in findings(broken)
    assert "DP504" not in findings(marked)
    assert check([File("m", broken)], RULES.keys() - {"DP504"}).findings == ()


# --- how bad it is ----------------------------------------------------------------------------------------------------

UNREADY = BARE.replace("        readinessProbe: {httpGet: {path: /ready, port: 8080}}\n", "")
SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {selector: {app: bare}, ports: [{name: PORT, port: 80, targetPort: http}]}
"""


def severity(rule: str, text: str) -> str | None:
    found = [each.severity.value for each in check([File("m", text)]).findings if each.rule.id == rule]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "worst"),
    [
        (UNREADY + SERVICE.replace("PORT", "http"), "error"),
        (UNREADY.replace("containerPort: 8080", "containerPort: 8080, hostPort: 80"), "error"),
        (UNREADY, "warning"),
        (UNREADY + SERVICE.replace("PORT", "http").replace("app: bare", "app: other"), "info"),
        (UNREADY + SERVICE.replace("PORT", "http-metrics"), "info"),
        (UNREADY.replace("name: http,", "name: metrics,"), "info"),
        (UNREADY.replace("image: reg", "command: [/bin/sleep, 1d]\n        image: reg") + SERVICE, None),
        (UNREADY + SERVICE.replace("metadata: {name: bare}", "metadata: {name: bare-exporter}"), "info"),
        (UNREADY.replace("kind: Deployment", "kind: ReplicaSet") + SERVICE.replace("PORT", "http"), "warning"),
        (UNREADY.replace("kind: Deployment", "kind: ReplicaSet"), "info"),
    ],
)
def test_a_fault_is_as_bad_as_the_traffic_it_meets(text: str, worst: str | None) -> None:
    assert severity("DP301", text) == worst


def test_what_keeps_a_workload_from_running_is_an_error_without_traffic_too() -> None:
    worker = BARE.replace("path: /ready, port: 8080", "path: /ready, port: nowhere").replace(
        "name: http,", "name: metrics,"
    )
    assert severity("DP307", worker) == "error"


def test_the_worst_comes_first() -> None:
    text = UNREADY.replace("  minReadySeconds: 5\n", "") + SERVICE.replace("PORT", "http")
    order = [each.severity.rank for each in check([File("m", text)]).findings]
    assert order == sorted(order)
    assert len(set(order)) > 1


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        ("      volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]\n", False),
        ("      volumes: [{name: v, emptyDir: {}}]\n", True),
    ],
)
def test_a_single_writer_is_not_told_to_run_two(volume: str, told: bool) -> None:
    text = BARE.replace("replicas: 2", "replicas: 1\n  strategy: {type: Recreate}")
    text = text.replace("      containers:\n", f"{volume}      containers:\n")
    assert ("DP504" in findings(text), "DP503" in findings(text)) == (told, told)


def test_a_volume_that_many_nodes_mount_makes_no_single_writer() -> None:
    text = BARE.replace("replicas: 2", "replicas: 1")
    text = text.replace(
        "      containers:\n", "      volumes: [{persistentVolumeClaim: {claimName: c}}]\n      containers:\n"
    )
    claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [MODE]}\n"
    assert "DP504" in findings(text + claim.replace("MODE", "ReadWriteMany"))
    assert "DP504" not in findings(text + claim.replace("MODE", "ReadWriteOnce"))


@pytest.mark.parametrize(
    ("command", "waits"),
    [
        ("[/opt/app/drain-queue.sh]", False),
        ("[sh, -c, /opt/app/drain]", False),
        ("[sh, -c, /bin/drainproxy-helper drain]", False),
        ("[curl, 'http://example.com/drain']", False),
        ("[curl, 'http://127.0.0.1:9081/drains']", False),
        ("[drainproxy, drain]", True),
        ("[/usr/bin/drainproxy, drain]", True),
        ("[sh, -c, 'curl -s http://localhost:9081/drain?event=1']", True),
        ("[sh, -c, 'wget -qO- http://127.0.0.1:9081/drain; kill 1']", True),
        ("[sh, -c, 'curl http://$POD_IP:9081/drain']", True),
    ],
)
def test_only_our_own_hook_is_taken_for_it(command: str, waits: bool) -> None:
    start, end = (
        PROXIED.index("            httpGet:\n              path: /drain"),
        PROXIED.index("---\napiVersion: v1\nkind: Secret"),
    )
    text = PROXIED[:start] + f"            exec: {{command: {command}}}\n" + PROXIED[end:]
    assert ("DP201" not in findings(text)) == waits


@pytest.mark.parametrize(
    "command",
    [
        "[sh, -c, /app/server]",
        "[sh, -c, 'prepare && exec /app/server']",
        "[sh, -c, 'trap \"kill $pid\" TERM; /app/server & wait']",
        "[tini, --, sh, -c, 'a && b']",
        "[/app/server, -c, 'a && b']",
        "[bash, -c, '/app/server;']",
    ],
)
def test_a_shell_that_steps_aside_is_no_fault(command: str) -> None:
    assert "DP216" not in findings(
        BARE.replace("        image: reg", f"        command: {command}\n        image: reg")
    )


def test_a_selector_without_anything_near_is_only_advice() -> None:
    text = PROXIED.replace("  selector: {app: web}\n  ports", "  selector: {app: database}\n  ports")
    assert severity("DP411", text) == "info"
    assert severity("DP411", text.split("---\n", 1)[1].replace("kind: Deployment", "kind: X")) is None


def test_a_port_whose_name_says_nothing_is_not_judged() -> None:
    for name in ("web", "main", "http", "grpc", "http2-web"):
        assert "DP414" not in findings(PROXIED.replace("port: 80, targetPort", f"name: {name}, port: 80, targetPort"))
    certificate = (
        "env:\n        - {name: DRAINPROXY_TLS_CERT, value: /c}\n        - {name: DRAINPROXY_TLS_KEY, value: /k}\n"
    )
    https = PROXIED.replace("port: 80, targetPort", "name: https, port: 443, targetPort")
    assert "DP414" in findings(https)
    assert "DP414" not in findings(https.replace("env:\n", certificate, 1))


@pytest.mark.parametrize(
    ("name", "worst"),
    [("webb", "warning"), ("wbe", "info"), ("web-v2", "info"), ("website", "info"), ("shop", "info")],
)
def test_a_name_is_taken_for_another_only_if_it_is_nearly_that(name: str, worst: str) -> None:
    text = INGRESS.replace("backendRefs: [{name: web,", f"backendRefs: [{{name: {name},").replace(
        "kind: HTTPRoute\nmetadata: {name: web}", "kind: HTTPRoute\nmetadata: {name: route}"
    )
    assert severity("DP412", text) == worst


def test_names_that_differ_by_a_number_are_two() -> None:
    text = PROXIED.replace("name: web", "name: cache-1").replace(
        "Deployment, name: cache-1", "Deployment, name: cache-2"
    )
    scaler = text.replace("scaler\nmetadata: {name: cache-1}", "scaler\nmetadata: {name: s}")
    assert severity("DP412", scaler) == "info"


def test_a_service_of_one_replica_selects_its_stateful_set() -> None:
    text = UNREADY.replace("kind: Deployment", "kind: StatefulSet") + SERVICE.replace("PORT", "http")
    one = text.replace(
        "selector: {app: bare}, ports", "selector: {statefulset.kubernetes.io/pod-name: NAME, app: bare}, ports"
    )
    assert severity("DP301", one.replace("NAME", "bare-0")) == "error"
    assert severity("DP301", one.replace("NAME", "other-0")) == "info"
    open_early = one.replace("NAME", "bare-0").replace(
        "selector: {stateful", "publishNotReadyAddresses: true, selector: {stateful"
    )
    assert severity("DP404", open_early) == "info"


def test_a_helper_with_one_answer_for_both_probes_is_no_fault() -> None:
    probes = "readinessProbe: {exec: {command: ['true']}}, livenessProbe: {exec: {command: ['true']}}"
    assert "DP303" not in findings(
        BARE.replace("      containers:\n", f"      containers:\n      - {{name: d, {probes}}}\n")
    )


def test_one_of_several_workloads_without_the_port_is_only_advice() -> None:
    other = (
        BARE.split("---", maxsplit=1)[0].replace("{name: bare}", "{name: other}").replace("name: http,", "name: web,")
    )
    assert severity("DP402", BARE + "---\n" + other + SERVICE.replace("PORT", "http")) == "info"


@pytest.mark.parametrize(
    ("mode", "rewrite", "worst"),
    [("STRICT", "false", "error"), ("STRICT", "true", "warning"), ("PERMISSIVE", "false", "warning")],
)
def test_a_mesh_that_asks_for_certificates_refuses_the_hook(mode: str, rewrite: str, worst: str) -> None:
    policy = f"---\nkind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    text = MESH.replace('"15020, 9081"', '"15020"').replace('Probers: "false"', f'Probers: "{rewrite}"')
    assert severity("DP802", text + policy) == worst


def test_a_mesh_proxy_that_waits_for_the_drain_stops_last() -> None:
    short = MESH.replace('"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"', "")
    waits = short.replace("exec: {command: [x]}", 'exec: {command: [curl, "http://127.0.0.1:9081/drain"]}')
    assert (severity("DP801", short), severity("DP801", waits)) == ("error", None)


def test_whether_a_mesh_is_native_is_not_guessed() -> None:
    told = PROXIED.replace("labels: {app: web}}\n    spec", 'labels: {app: web, istio.io/rev: "1"}}\n    spec')
    assert severity("DP801", told) == "info"
    assert severity("DP801", MESH.replace("image: proxyv2", "image: proxyv2, restartPolicy: Always")) is None


# --- the rules themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_teaches(rule: Rule) -> None:
    assert re.fullmatch(r"DP\d{3}", rule.id)
    assert rule.id[:3] in GROUPS
    assert re.fullmatch(r"[a-z0-9-]+", rule.slug)
    assert rule.why.endswith(".")
    assert rule.fix.endswith(".")
    assert not rule.title.endswith(".")
    parse(rule.id, rule.example)


def test_slugs_are_unique() -> None:
    assert len({rule.slug for rule in RULES.values()}) == len(RULES)


def test_the_manual_is_made_from_the_rules() -> None:
    manual = Path(__file__).parents[4] / "docs" / "check.md"
    assert manual.read_text() == with_contents(page()), "docs/check.md is out of date: make docs"
    for rule in RULES.values():
        assert f"### {rule.id} {rule.slug}" in manual.read_text()
        assert f"(#{anchor(rule)})" in manual.read_text()


# --- output -----------------------------------------------------------------------------------------------------------


def broken_report() -> tuple[str, Report]:
    text, old, new = BROKEN["DP204"][0]
    return text.replace(old, new, 1), check([File("dir/m.yaml", text.replace(old, new, 1))])


def test_json_holds_every_field() -> None:
    _, report = broken_report()
    data = json.loads(as_json(report))
    assert data["counts"] == {"error": 1, "warning": 0, "info": 0}
    finding = data["findings"][0]
    assert (finding["rule"], finding["name"], finding["severity"]) == ("DP204", "hook-host", "error")
    assert finding["path"] == "spec.template.spec.containers[0].lifecycle.preStop.httpGet.host"
    assert finding["object"] == "Deployment/web"


def test_github_output_names_file_and_line() -> None:
    text, report = broken_report()
    line = next(n for n, each in enumerate(text.splitlines(), 1) if "host: localhost" in each)
    assert as_github(report).startswith(f"::error file=dir/m.yaml,line={line},col=15,title=DP204")
    assert "\n" not in as_github(report)


def test_sarif_is_whole() -> None:
    text, report = broken_report()
    run = json.loads(as_sarif(report))["runs"][0]
    assert len(run["tool"]["driver"]["rules"]) == len(RULES)
    result = run["results"][0]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "DP204"
    region = result["locations"][0]["physicalLocation"]["region"]
    assert "host: localhost" in text.splitlines()[region["startLine"] - 1]


def test_text_shows_place_excerpt_reason_and_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = broken_report()
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(text)
    result = CliRunner().invoke(command, ["-f", "m.yaml"])
    assert result.exit_code == 1
    assert "error DP204 hook-host" in result.output
    assert "--> m.yaml:" in result.output
    assert "host: localhost" in result.output
    assert "^" in result.output
    assert "why:" in result.output
    assert "fix:" in result.output
    assert "1 error" in result.output


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_warnings_fail_only_when_strict(tmp_path: Path, strict: list[str], code: int) -> None:
    (tmp_path / "m.yaml").write_text(BARE.replace("replicas: 2", "replicas: 1"))
    assert CliRunner().invoke(command, ["-f", str(tmp_path / "m.yaml"), *strict]).exit_code == code


def test_standard_input_and_directories_are_read(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, ["-f", "-"], input=PROXIED).exit_code == 0
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "m.yml").write_text(PROXIED)
    (tmp_path / "readme.txt").write_text("not: [yaml")
    assert "7 objects" in CliRunner().invoke(command, ["-f", str(tmp_path)]).output


def test_explain_and_list() -> None:
    for name in ("DP208", "dp208", "hook-token"):
        result = CliRunner().invoke(command, ["--explain", name])
        assert "X-Drain-Token" in result.output
    listed = CliRunner().invoke(command, ["--list"]).output
    assert all(rule.id in listed for rule in RULES.values())
    assert "no rule 'DP999'" in str(CliRunner().invoke(command, ["--explain", "DP999"]).exception)
    assert CliRunner().invoke(command, []).exit_code == 2


def test_severities_are_the_three() -> None:
    assert {rule.severity for rule in RULES.values()} == set(Severity)
