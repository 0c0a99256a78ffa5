"""What do people on call look at? docs/monitoring.md: how to scrape, which alerts and boards there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.drain.advice import ENOUGH, MARGIN, TAIL, TRAFFIC
from drainproxy.tools.monitoring.boards import BOARDS
from drainproxy.tools.monitoring.rules import ALERTS, RECORDINGS

if TYPE_CHECKING:
    from drainproxy.tools.monitoring.boards import Board
    from drainproxy.tools.monitoring.rules import Alert

TEMPLATE = """<!-- Made by `make docs` from drainproxy/tools/docs/monitoring_page.py. Edits here are lost. -->

# Dashboards and alerts

Each Pod reports its own drain: in the log line `drain finished`, in the termination message, and in `/status`. This page is
about all Pods together: which rollouts lost work, which floors are too short, and what to change. All files are in
[deploy/monitoring](../deploy/monitoring/kustomization.yaml). [Metrics](metrics.md) lists all metrics.

## Scrape

| you have | use |
|---|---|
| the Prometheus Operator | `kubectl apply -k deploy/monitoring`: [PodMonitor](../deploy/monitoring/podmonitor.yaml), [PrometheusRule](../deploy/monitoring/prometheusrule.yaml), and the dashboards in a ConfigMap |
| a Prometheus without it | [scrape.yml](../deploy/monitoring/prometheus/scrape.yml) (`scrape_config_files`), [rules.yml](../deploy/monitoring/prometheus/rules.yml) (`rule_files`) |

Both scrape every container with a port named `drain-admin`, and give each series the labels `namespace`, `workload` (the
Deployment, StatefulSet, DaemonSet or Job), `revision` and `pod`. If you scrape in a different way, for example by the
`prometheus.io` annotations, set these labels too: without `workload`, the rules add up everything in a `namespace`.

The last values of a Pod are the interesting ones. Therefore drainproxy stays for one more scrape when its drain has something
to report (`final-scrape-wait auto`), as far as the grace period allows. With the defaults, a forced drain leaves 5 s. Scrape
more often than that, or raise the grace period by the time between two scrapes and keep `drain-timeout` as it was.

## Alerts

Each alert fires for a workload, and stays for an hour after a rollout. [tests.yml](../deploy/monitoring/prometheus/tests.yml)
has examples for each (`promtool test rules tests.yml`); `make oncall` tries them with a real Prometheus.

| alert | severity | holds for | fires when | what to do |
|---|---|---|---|---|
{alerts}
They use recording rules, with one series for each workload:

| series | meaning |
|---|---|
{recordings}
## Advice

`drainproxy advise` recommends `propagation-delay`, `quiet-period`, the grace period and `minReadySeconds` for each workload,
and says why. It reads Prometheus, the termination messages of Pods, or log files:

```sh
drainproxy advise --prometheus http://prometheus:9090 --since 30d --html advice.html
kubectl get pods -A -o json | drainproxy advise -
drainproxy advise --live -n shop            # during a rollout: each Pod when it ends
kubectl logs -l app=web -c drainproxy --prefix --tail=-1 | drainproxy advise -
```

```
shop/short: 250 drains (250 clean)
  last arrival  p50 5.8s, p99 10.2s, p99.9 11s, longest 11s
  drain         p50 6.8s, p99 11.2s, p99.9 12s, longest 12s
  arrivals      50000, 176 late; 0 cut, 0 broken off by the app
  !   propagation-delay     5s  -> 15s  last arrival: p99.9 of 250 drains is 11s; 0.35 % of arrivals were later than the floor of 5s
      quiet-period          1s          nothing came after the end of a clean drain
      grace-period       1m30s          drains took up to 12s of 1m24s; unused time costs nothing
  +   minReadySeconds        -  -> 11s  learning of a new Pod takes as long as learning that an old one is gone: p99.9 of 250 drains is 11s
```

One drain is enough to show that a time is too short. A shorter floor is recommended only after {enough} drains with at least
{traffic} arrivals each, and it is {margin:g} times what the slowest {tail:g} % needed. With fewer drains, `advise` says that there is
too little data. `-o json` is for scripts, and `-o patch` writes patches with annotations for `drainproxy inject`. The advice in
each drain's summary follows the same rules.

Prometheus knows the end of a drain only if it scrapes the Pod after it. Drains whose end it did not see are left out, and
counted on standard error. The drains that it does see are mostly those with something to report (see above), so its advice
is on the safe side. Termination messages and logs have all drains.

## A rollout, live

`drainproxy top` shows all Pods of a selector while they end: state, phase, work in flight, the oldest work, the time until the
deadline. Keys change the order. Pods that are gone stay on the screen for a minute, with their last values. It asks the Pods
through `kubectl proxy` on its own socket (this needs the right to `get pods/proxy`), through the API server (`--api`), or at
their admin ports.

```sh
drainproxy top -n shop -l app=web
drainproxy top -A --once --sort oldest
drainproxy top 10.0.0.5:9081 10.0.0.6:9081 --json
```

## Dashboards

For Grafana 10.1 and later: use [provisioning.yml](../deploy/monitoring/grafana/provisioning.yml), or a ConfigMap with the label
`grafana_dashboard: "1"` for Grafana's sidecar, which the kustomization makes. The pictures are plots of the same queries, from
`make oncall ARGS="--pictures docs"`: one minute with nine workloads, some of them with losses.

{boards}"""  # noqa: E501 - a row of a table is one line


def page() -> str:
    """docs/monitoring.md."""
    return TEMPLATE.format(
        enough=ENOUGH,
        traffic=TRAFFIC,
        margin=MARGIN,
        tail=round(100 * (1 - TAIL), 3),
        alerts="".join(map(_alert, ALERTS)),
        recordings="".join(f"| `{each.name}` | {each.help} |\n" for each in RECORDINGS),
        boards="\n".join(map(_board, BOARDS)),
    )


def _alert(alert: Alert) -> str:
    when = alert.expr.replace("|", "\\|")
    return f"| `{alert.name}` | {alert.severity} | {alert.hold or '-'} | `{when}` | {alert.todo} |\n"


def _board(board: Board) -> str:
    panels = ", ".join(panel.title for _, panels in board.rows for panel in panels)
    link = f"[JSON](../deploy/monitoring/grafana/{board.uid}.json)"
    return f"### {board.title}\n\n{board.help} {link}. Panels: {panels}.\n\n![{board.title}]({board.uid}.png)\n"
