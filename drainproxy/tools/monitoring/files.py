"""What is in `deploy/monitoring`? Each file's text, made from the rules and the boards: `make docs` writes them.

Kubernetes objects end in `.yaml`; what a plain Prometheus or Grafana reads ends in `.yml`.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from drainproxy.tools.monitoring.boards import BOARDS, document
from drainproxy.tools.monitoring.rules import ALERTS, RECORDINGS

if TYPE_CHECKING:
    from pathlib import Path

    from drainproxy.tools.monitoring.rules import Alert, Recording

MADE = "# Made by `make docs` from drainproxy/tools/monitoring. Edits here are lost.\n"
ADMIN_PORT = "drain-admin"

# A ReplicaSet's name is its Deployment's with the hash of the Pod template behind it; other controllers are workloads.
_OWNER_KIND, _OWNER = "__meta_kubernetes_pod_controller_kind", "__meta_kubernetes_pod_controller_name"
_RELABELINGS = (
    (("__meta_kubernetes_namespace",), "(.+)", "namespace"),
    (("__meta_kubernetes_pod_name",), "(.+)", "pod"),
    (("__meta_kubernetes_pod_name",), "(.+)", "workload"),
    ((_OWNER,), "(.+)", "workload"),
    ((_OWNER_KIND, _OWNER), "ReplicaSet;(.+)-[^-]+", "workload"),
    (("__meta_kubernetes_pod_label_pod_template_hash",), "(.+)", "revision"),
    (("__meta_kubernetes_pod_label_controller_revision_hash",), "(.+)", "revision"),
)
"""Labels from what Kubernetes tells of a Pod: sources, what they must look like, and the label that gets it. The last
one that fits wins."""


def rules() -> dict[str, Any]:
    """For `rule_files` of a Prometheus without the operator."""
    return {
        "groups": [
            {"name": "drainproxy.workloads", "interval": "30s", "rules": [_recording(each) for each in RECORDINGS]},
            {"name": "drainproxy.alerts", "rules": [_alert(each) for each in ALERTS]},
        ]
    }


def _recording(each: Recording) -> dict[str, Any]:
    return {"record": each.name, "expr": each.expr}


def _alert(each: Alert) -> dict[str, Any]:
    return {
        "alert": each.name,
        "expr": each.expr,
        **({"for": each.hold} if each.hold else {}),
        "labels": {"severity": each.severity},
        "annotations": {"summary": each.summary, "description": each.todo},
    }


def prometheus_rule() -> dict[str, Any]:
    """For the Prometheus Operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "drainproxy"},
        "spec": rules(),
    }


def pod_monitor() -> dict[str, Any]:
    """For the Prometheus Operator: every Pod that has drainproxy, in all namespaces, by the admin port's name."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "drainproxy"},
        "spec": {
            "namespaceSelector": {"any": True},
            "selector": {},
            "podMetricsEndpoints": [
                {
                    "port": ADMIN_PORT,
                    "path": "/metrics",
                    "interval": "15s",
                    "relabelings": [
                        {"sourceLabels": list(sources), "regex": regex, "targetLabel": target}
                        for sources, regex, target in _RELABELINGS
                    ],
                }
            ],
        },
    }


def scrape_config() -> dict[str, Any]:
    """For a Prometheus without the operator: a file for `scrape_config_files`, or to paste under `scrape_configs`."""
    return {
        "scrape_configs": [
            {
                "job_name": "drainproxy",
                "scrape_interval": "15s",
                "kubernetes_sd_configs": [{"role": "pod"}],
                "relabel_configs": [
                    {
                        "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                        "regex": ADMIN_PORT,
                        "action": "keep",
                    },
                    *(
                        {"source_labels": list(sources), "regex": regex, "target_label": target}
                        for sources, regex, target in _RELABELINGS
                    ),
                ],
            }
        ]
    }


def provisioning() -> dict[str, Any]:
    """For a Grafana without the sidecar loader: belongs into /etc/grafana/provisioning/dashboards."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "drainproxy",
                "folder": "drainproxy",
                "type": "file",
                "options": {"path": "/var/lib/grafana/dashboards/drainproxy"},
            }
        ],
    }


def kustomization() -> dict[str, Any]:
    """All of it, with the boards in ConfigMaps that Grafana's usual sidecar loads by their label."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["podmonitor.yaml", "prometheusrule.yaml"],
        "configMapGenerator": [
            {
                "name": "drainproxy-boards",
                "files": [f"grafana/{board.uid}.json" for board in BOARDS],
                "options": {
                    "disableNameSuffixHash": True,
                    "labels": {"grafana_dashboard": "1"},
                    "annotations": {"grafana_folder": "drainproxy"},
                },
            }
        ],
    }


_YAML = {
    "kustomization.yaml": kustomization,
    "podmonitor.yaml": pod_monitor,
    "prometheusrule.yaml": prometheus_rule,
    "prometheus/rules.yml": rules,
    "prometheus/scrape.yml": scrape_config,
    "grafana/provisioning.yml": provisioning,
}


def texts() -> dict[str, str]:
    """Every file's path below `deploy/monitoring`, and what is in it."""
    boards = {f"grafana/{board.uid}.json": json.dumps(document(board), indent=1) + "\n" for board in BOARDS}
    return {name: f"{MADE}# {make.__doc__}\n{_yaml(make())}" for name, make in _YAML.items()} | boards


def write(folder: Path) -> None:
    """Make every file anew."""
    for name, text in texts().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _yaml(data: dict[str, Any]) -> str:
    writer = YAML()
    writer.width = 1000  # one line for a query or a sentence
    out = io.StringIO()
    writer.dump(data, out)
    return out.getvalue()
