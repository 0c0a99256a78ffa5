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

# Boards and alerts

One Pod tells its own drain: the log line `drain finished`, the termination message, `/status`. This page is about the sum of
many: which rollouts lost work, which floors are too short, what to change. All files are in
[deploy/monitoring](../deploy/monitoring/kustomization.yaml); all metrics are in [metrics](metrics.md).

## Scrape

| you have | use |
|---|---|
| the Prometheus Operator | `kubectl apply -k deploy/monitoring`: [PodMonitor](../deploy/monitoring/podmonitor.yaml), [PrometheusRule](../deploy/monitoring/prometheusrule.yaml), and the boards in a ConfigMap |
| a Prometheus without it | [scrape.yml](../deploy/monitoring/prometheus/scrape.yml) (`scrape_config_files`), [rules.yml](../deploy/monitoring/prometheus/rules.yml) (`rule_files`) |

Both scrape every container that has a port named `drain-admin`, and give each series `namespace`, `workload` (the Deployment,
StatefulSet, DaemonSet or Job), `revision` and `pod`. If you scrape in another way, by the `prometheus.io` annotations for
example, set these labels too: without `workload` the rules sum up all that has the same `namespace`.

The last values of a Pod are the interesting ones. So drainproxy stays for one more scrape when its drain has something to tell
(`final-scrape-wait auto`), as far as the grace period allows: with the defaults a drain that is forced leaves 5 s. Scrape more
often than that, or make the grace period longer by the time between two scrapes and set `drain-timeout` to what it was.

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
## Advice

`drainproxy advise` says which `propagation-delay`, `quiet-period`, grace period and `minReadySeconds` each workload needs, and
why. It reads Prometheus, the termination messages of Pods, or log files:

```sh
drainproxy advise --prometheus http://prometheus:9090 --since 30d --html advice.html
kubectl get pods -A -o json | drainproxy advise -
drainproxy advise --live -n shop            # while a rollout runs: each Pod as it ends
kubectl logs -l app=web -c drainproxy --prefix --tail=-1 | drainproxy advise -
```

```
shop/short: 250 drains (250 clean)
  last arrival  p50 5.8s, p99 10.2s, p99.9 11s, longest 11s
  drain         p50 6.8s, p99 11.2s, p99.9 12s, longest 12s
  arrivals      50000, 176 late; 0 cut, 0 broken off by the app
  !   propagation-delay     5s  -> 15s  last arrival: p99.9 of 250 drains is 11s; 0.35 % of arrivals were later than the floor of 5s
      quiet-period          1s          nothing came after the end of a clean drain
      grace-period       1m30s          drains took up to 12s of 1m24s; what is not used costs nothing
  +   minReadySeconds        -  -> 11s  learning of a new Pod takes as long as learning that an old one is gone: p99.9 of 250 drains is 11s
```

One drain can show that something is too short. To recommend a shorter floor it takes {enough} drains with at least {traffic}
arrivals each, and {margin:g} times what the slowest {tail:g} % needed; with less it says that there is too little data. `-o json` is for
scripts, `-o patch` writes patches with annotations for `drainproxy inject`. The same rules give the advice in each drain's
summary.

A Prometheus sees the end of a drain only if it scrapes the Pod behind it: drains whose end it did not see are left out, and
counted on standard error. Those it sees are rather the bad ones (see above), so its advice is on the safe side; termination
messages and logs tell of all.

## A rollout, live

`drainproxy top` shows all Pods of a selector while they go: state, phase, what is in flight, the oldest of it, the time to the
deadline. Keys sort; Pods that have gone stay for a minute, with what they said last. It asks through `kubectl proxy` on a
socket of its own (the right to `get pods/proxy` is needed), at the API server (`--api`), or at admin ports that can be reached.

```sh
drainproxy top -n shop -l app=web
drainproxy top -A --once --sort oldest
drainproxy top 10.0.0.5:9081 10.0.0.6:9081 --json
```

## Boards

For Grafana 10.1 and later: [provisioning.yml](../deploy/monitoring/grafana/provisioning.yml), or a ConfigMap with the label
`grafana_dashboard: "1"` for the usual sidecar, which the kustomization makes. The pictures are plots of the same queries, from
`make oncall ARGS="--pictures docs"`: a minute in which nine workloads fare well or badly.

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
