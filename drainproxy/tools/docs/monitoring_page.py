"""What do people on call look at? docs/monitoring.md: how to scrape, which alerts and boards there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.tools.monitoring.boards import BOARDS
from drainproxy.tools.monitoring.rules import ALERTS, RECORDINGS

if TYPE_CHECKING:
    from drainproxy.tools.monitoring.boards import Board
    from drainproxy.tools.monitoring.rules import Alert

TEMPLATE = """<!-- Made by `make docs` from drainproxy/tools/docs/monitoring_page.py. Edits here are lost. -->

# Boards and alerts

One Pod tells its own drain: the log line `drain finished`, the termination message, `/status`. This page is about the sum of
many: which rollouts lost work, which floors are too short, what to change. All files are in
[deploy/monitoring](../deploy/monitoring/); all metrics are in [metrics](metrics.md).

## Scrape

| you have | use |
|---|---|
| the Prometheus Operator | `kubectl apply -k deploy/monitoring`: [PodMonitor](../deploy/monitoring/podmonitor.yaml), [PrometheusRule](../deploy/monitoring/prometheusrule.yaml), and the boards in a ConfigMap |
| a Prometheus without it | [scrape.yml](../deploy/monitoring/prometheus/scrape.yml) (`scrape_config_files`), [rules.yml](../deploy/monitoring/prometheus/rules.yml) (`rule_files`) |

Both scrape every container that has a port named `drain-admin`, and give each series `namespace`, `workload` (the Deployment,
StatefulSet, DaemonSet or Job), `revision` and `pod`. If you scrape in another way, by the `prometheus.io` annotations for
example, set these labels too: without `workload` the rules sum up all that has the same `namespace`.

The last values of a Pod are the interesting ones. Scrape every 15 s or more often, and give drainproxy a
`final-scrape-wait` of at least that, so that it stays for the scrape behind its drain.

## Alerts

Each fires for a workload, and stays for an hour behind a rollout. [tests.yml](../deploy/monitoring/prometheus/tests.yml) holds
them to examples (`promtool test rules tests.yml`); `make oncall` tries them with a real Prometheus.

| alert | severity | holds for | fires when | what to do |
|---|---|---|---|---|
{alerts}
They are built on recording rules, a series for each workload:

| series | what it is |
|---|---|
{recordings}
## Boards

For Grafana 10.1 and later: [provisioning.yml](../deploy/monitoring/grafana/provisioning.yml), or a ConfigMap with the label
`grafana_dashboard: "1"` for the usual sidecar, which the kustomization makes.

{boards}"""  # noqa: E501 - a row of a table is one line


def page() -> str:
    """docs/monitoring.md."""
    return TEMPLATE.format(
        alerts="".join(map(_alert, ALERTS)),
        recordings="".join(f"| `{each.name}` | {each.help} |\n" for each in RECORDINGS),
        boards="\n".join(map(_board, BOARDS)),
    )


def _alert(alert: Alert) -> str:
    when = alert.expr.replace("|", "\\|")
    return f"| `{alert.name}` | {alert.severity} | {alert.hold or '-'} | `{when}` | {alert.todo} |\n"


def _board(board: Board) -> str:
    panels = ", ".join(panel.title for _, panels in board.rows for panel in panels)
    return f"**{board.title}** ([JSON](../deploy/monitoring/grafana/{board.uid}.json)). {board.help} {panels}.\n"
