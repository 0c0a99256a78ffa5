"""Which numbers are kept for each workload, and which of them wake somebody? Recording rules and alerts.

Pods go, and their series with them: what is asked about a rollout is asked of the last hour. Everything is summed by
`namespace` and `workload`, labels that the scrape configurations here set; without them it is summed over all that is
scraped, and still right.
"""

from __future__ import annotations

from dataclasses import dataclass

from drainproxy.tools.monitoring.queries import series

BY = "namespace, workload"
WINDOW = "1h"
"""How long a rollout stays in the alerts: long enough to be seen, short enough to be over by the next one."""
LATE_SHARE = 0.01
NEAR_DEADLINE = 0.8
ERROR_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus keeps. Its name says level, metric and operation."""

    name: str
    expr: str
    help: str


@dataclass(frozen=True, slots=True)
class Alert:
    """What fires when, for whom, and what to do. `summary` and `todo` may name labels and the value."""

    name: str
    expr: str
    hold: str
    """How long the condition must hold; empty: at once."""
    severity: str
    summary: str
    todo: str


def _kept(name: str, expr: str, help: str) -> Recording:  # noqa: A002 - the word the field uses
    return Recording(f"workload:drainproxy_{name}", expr, help)


def _increase(metric: str, *more: str) -> str:
    labels = ", ".join([BY, *more])
    return f"sum by ({labels}) (increase({series(metric)}[{WINDOW}]))"


def _rate(metric: str, *more: str) -> str:
    labels = ", ".join([BY, *more])
    return f"sum by ({labels}) (rate({series(metric)}[5m]))"


_AUTH = series("rejected_total", 'reason="auth"')
_FAILED = series("hooks_total", 'result="failed"')
_NOT_HANDED = series("handed_over_total", 'outcome=~"unreachable|stranger|over-budget"')
_DRAINED = series("state", 'state="drained"')
_UNREADY = series("state", 'state="unready"')

DRAINS = _kept("drains:increase1h", _increase("drains_total", "outcome"), "drains that ended, by outcome")
ARRIVALS = _kept("drain_arrivals:increase1h", _increase("drain_arrivals_total"), "arrivals during drains")
LATE = _kept("drain_late:increase1h", _increase("drain_late_total", "phase"), "arrivals after the floor, by phase")
ABORTED = _kept("drain_aborted:increase1h", _increase("drain_aborted_total", "by"), "work that failed, by who ended it")
REFUSED = _kept(
    "drain_refused:increase1h",
    f"sum by ({BY}) (increase({_AUTH}[{WINDOW}]))",
    "drain calls without the right token",
)
LAST_ARRIVAL = _kept(
    "drain_last_arrival_seconds:max1h",
    f"max by ({BY}) (max_over_time({series('drain_last_arrival_seconds')}[{WINDOW}]))",
    "the longest propagation that was measured",
)
BUDGET_USED = _kept(
    "drain_budget_used:max1h",
    f"max by ({BY}) (max_over_time({series('drain_duration_seconds')}[{WINDOW}])"
    f" / max_over_time({series('drain_deadline_seconds')}[{WINDOW}]))",
    "the largest part of its budget that a drain used",
)
NOT_TOLD = _kept(
    "hooks_failed:increase1h",
    f"sum by ({BY}, hook) (increase({_FAILED}[{WINDOW}]))",
    "calls to other service discovery that failed",
)
NOT_HANDED_OVER = _kept(
    "not_handed_over:increase1h",
    f"sum by ({BY}, outcome) (increase({_NOT_HANDED}[{WINDOW}]))",
    "attempts to hand a request to another Pod that failed, by why",
)
REQUESTS = _kept("requests:rate5m", _rate("requests_total", "code"), "requests per second, by code")
ERRORS = _kept("upstream_errors:rate5m", _rate("upstream_errors_total"), "failures of the app per second")

RECORDINGS = (
    *(DRAINS, ARRIVALS, LATE, ABORTED, REFUSED, LAST_ARRIVAL, BUDGET_USED),
    *(NOT_TOLD, NOT_HANDED_OVER, REQUESTS, ERRORS),
)

ALERTS = (
    Alert(
        "DrainproxyDrainForced",
        f'{DRAINS.name}{{outcome="forced"}} > 0',
        "",
        "warning",
        "{{ $labels.workload }} cut work at the deadline of a drain",
        "Work took longer than the budget of the drain. The Pod's termination message and the log line `drain "
        "finished` name what was cut. Raise the grace period, or let clients reconnect earlier.",
    ),
    Alert(
        "DrainproxyStillArriving",
        f'{DRAINS.name}{{outcome="still-arriving"}} > 0',
        "",
        "warning",
        "requests still arrived at {{ $labels.workload }} when a drain ended",
        "A sender does not learn that the Pod ends, or learns it late, and its next requests find a closed port. Find "
        "the sender in the access log. If it learns late, raise propagation-delay.",
    ),
    Alert(
        "DrainproxyArrivedAfterEnd",
        f'{LATE.name}{{phase="drained"}} > 0',
        "",
        "warning",
        "requests arrived at {{ $labels.workload }} after a drain had ended",
        "The app may already be stopped then. Raise quiet-period above the length of the pauses in this traffic, or "
        "raise propagation-delay.",
    ),
    Alert(
        "DrainproxyAppBrokeWork",
        f'{ABORTED.name}{{by="app"}} > 0',
        "",
        "warning",
        "the app of {{ $labels.workload }} broke work off during a drain",
        "The app ended or failed while requests were in flight, before it was told to stop. Look at its log, its "
        "memory limit and its liveness probe.",
    ),
    Alert(
        "DrainproxyLateArrivals",
        f"sum by ({BY}) ({LATE.name}) / {ARRIVALS.name} > {LATE_SHARE}",
        "",
        "info",
        "{{ $value | humanizePercentage }} of the arrivals of {{ $labels.workload }} came after the floor",
        "They were served. Raise propagation-delay above drainproxy_drain_last_arrival_seconds; `drainproxy advise` "
        "recommends a value.",
    ),
    Alert(
        "DrainproxyNearDeadline",
        f'{BUDGET_USED.name} > {NEAR_DEADLINE} unless on ({BY}) {DRAINS.name}{{outcome="forced"}} > 0',
        "1m",
        "info",
        "a drain of {{ $labels.workload }} used {{ $value | humanizePercentage }} of its budget",
        "The next drain may cut work. Raise the grace period; `drainproxy advise` recommends a value.",
    ),
    Alert(
        "DrainproxyDrainRefused",
        f"{REFUSED.name} > 0",
        "",
        "critical",
        "drain calls to {{ $labels.workload }} were refused because of their token",
        "If the preStop hook has the wrong token, its Pods are stopped without a drain: `drainproxy check` compares "
        "the two. Otherwise a caller without the right token tries to drain.",
    ),
    Alert(
        "DrainproxyDiscoveryNotTold",
        f"{NOT_TOLD.name} > 0",
        "",
        "warning",
        "other service discovery was not told: on-{{ $labels.hook }} of {{ $labels.workload }} failed",
        "Its clients keep sending to Pods that end, or do not find new Pods. The log line `on-{{ $labels.hook }}` says "
        "why.",
    ),
    Alert(
        "DrainproxyNotHandedOver",
        f"{NOT_HANDED_OVER.name} > 0",
        "",
        "warning",
        "{{ $labels.workload }} could not hand requests to its other Pods: {{ $labels.outcome }}",
        "They waited for their own app. unreachable: no other Pod is ready, or a NetworkPolicy or a mesh keeps them "
        "from each other; `drainproxy check --live` looks. stranger: the successor leads to another workload, or its "
        "Pods have no drainproxy. over-budget: more failed than came; the other Pods are down, too.",
    ),
    Alert(
        "DrainproxyLeftDrained",
        f"sum by ({BY}, pod) ({_DRAINED}) > 0",
        "10m",
        "warning",
        "{{ $labels.pod }} of {{ $labels.workload }} is drained and still running",
        "It gets no traffic. It was drained by hand, or its app was restarted with resume-after=never. `drainproxy "
        "resume` makes it ready again.",
    ),
    Alert(
        "DrainproxyAppDown",
        f"sum by ({BY}, pod) ({_UNREADY}) > 0",
        "2m",
        "warning",
        "{{ $labels.pod }} of {{ $labels.workload }} is not ready: its app does not answer",
        "Health checks fail, or the readiness gate is closed: `upstream.reason` in /status says which.",
    ),
    Alert(
        "DrainproxyAppErrors",
        f"{ERRORS.name} / on ({BY}) sum by ({BY}) ({REQUESTS.name}) > {ERROR_SHARE}",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.workload }} failed in the app",
        "drainproxy_upstream_errors_total says how: closed-early, connect-refused, timeout, or an answer that is not "
        "valid HTTP.",
    ),
)
