"""Which boards are there for Grafana, and what does each panel ask? Panels as data, put into Grafana's own types.

Needs grafana-foundation-sdk, Grafana's schema as Python: only `make docs` and the tests import this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from itertools import count
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from drainproxy.tools.monitoring.queries import series

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
TAG = "drainproxy"
SCOPE = 'namespace=~"$namespace",workload=~"$workload"'
POD = SCOPE + ',pod=~"$pod"'
GREEN, AMBER, RED = "green", "orange", "red"
WHOLE = 24
"""Columns of a row (Grafana's grid)."""


class Look(Enum):
    """How a panel shows its values."""

    LINES = "lines"
    AREAS = "areas, stacked"
    BARS = "bars, stacked"
    NUMBER = "one number"
    GAUGES = "a bar each"
    TABLE = "a row each"


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: each with its legend, or the title of its column. `steps`: from which value on which colour."""

    title: str
    help: str
    look: Look
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    steps: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """One board. `rows`: each with its title. `variables`: label names that the reader can choose from."""

    uid: str
    title: str
    help: str
    since: str
    variables: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def _grew(metric: str, scope: str, by: str, *selectors: str, over: str = "$__range") -> str:
    """How much a counter grew in all that the board shows."""
    return f"sum by ({by}) (increase({series(metric, scope, *selectors)}[{over}]))"


def _in_all(metric: str, scope: str, *selectors: str) -> str:
    return f"round(sum(increase({series(metric, scope, *selectors)}[$__range])))"


def _rate(metric: str, scope: str, by: str) -> str:
    return f"sum by ({by}) (rate({series(metric, scope)}[$__rate_interval]))"


def _longest(metric: str, scope: str, by: str, *selectors: str) -> str:
    return f"max by ({by}) (max_over_time({series(metric, scope, *selectors)}[$__range]))"


def _quantile(part: float, scope: str, metric: str = "request_duration_seconds") -> str:
    rates = f"rate({series(f'{metric}_bucket', scope)}[$__rate_interval])"
    return f"histogram_quantile({part}, sum by (le) ({rates}))"


_WORKLOAD = "namespace, workload"
_REVISION = "namespace, workload, revision"
_FLOOR = 'option="propagation-delay"'
_BAD_NEWS = ((0, GREEN), (1, RED))
_DOUBTS = ((0, GREEN), (1, AMBER))
_BUDGET = ((0, GREEN), (0.6, AMBER), (0.8, RED))


def _budget_used(scope: str, by: str) -> str:
    duration, deadline = series("drain_duration_seconds", scope), series("drain_deadline_seconds", scope)
    return f"max by ({by}) (max_over_time({duration}[$__range]) / max_over_time({deadline}[$__range]))"


def _floor_used(by: str) -> str:
    last = _longest("drain_last_arrival_seconds", SCOPE, by)
    return f"{last} / {_longest('config_seconds', SCOPE, by, _FLOOR)}"


ROLLOUTS = Board(
    "drainproxy-rollouts",
    "drainproxy / Rollouts",
    "What happened to the work of Pods that were told to end.",
    "now-24h",
    ("namespace", "workload"),
    (
        (
            "In all",
            (
                Panel(
                    "Drains",
                    "Drains that ended.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drains_total", SCOPE), ""),),
                    4,
                ),
                Panel(
                    "Forced",
                    "Drains that reached their deadline: work was cut.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drains_total", SCOPE, 'outcome="forced"'), ""),),
                    4,
                    _BAD_NEWS,
                ),
                Panel(
                    "Still arriving",
                    "Drains that ended while requests still arrived.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drains_total", SCOPE, 'outcome="still-arriving"'), ""),),
                    4,
                    _DOUBTS,
                ),
                Panel(
                    "Late arrivals",
                    "Arrivals after the floor. They were served.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drain_late_total", SCOPE), ""),),
                    4,
                    _DOUBTS,
                ),
                Panel(
                    "Cut or broken off",
                    "Work that failed during drains: cut, left by its client, or broken off by the app.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drain_aborted_total", SCOPE), ""),),
                    4,
                    _BAD_NEWS,
                ),
                Panel(
                    "Ended well",
                    "Work that was in flight or arrived during drains, and was completed.",
                    Look.NUMBER,
                    "short",
                    ((_in_all("drain_completed_total", SCOPE), ""),),
                    4,
                ),
            ),
        ),
        (
            "Over time",
            (
                Panel(
                    "Drains by outcome",
                    "When drains ended, and how.",
                    Look.BARS,
                    "short",
                    ((_grew("drains_total", SCOPE, "outcome", over="$__rate_interval"), "{{outcome}}"),),
                ),
                Panel(
                    "Duration against budget",
                    "The longest drain of each workload, and the deadline it had.",
                    Look.LINES,
                    "s",
                    (
                        (f"max by ({_WORKLOAD}) ({series('drain_duration_seconds', SCOPE)})", "{{workload}}"),
                        (
                            f"min by ({_WORKLOAD}) ({series('drain_deadline_seconds', SCOPE)})",
                            "{{workload}}: deadline",
                        ),
                    ),
                ),
                Panel(
                    "Last arrival against floor",
                    "How long requests kept arriving, and the floor.",
                    Look.LINES,
                    "s",
                    (
                        (f"max by ({_WORKLOAD}) ({series('drain_last_arrival_seconds', SCOPE)})", "{{workload}}"),
                        (
                            f"min by ({_WORKLOAD}) ({series('config_seconds', SCOPE, _FLOOR)})",
                            "{{workload}}: floor",
                        ),
                    ),
                ),
                Panel(
                    "Pods by state",
                    "In a rollout, old Pods drain and new ones start.",
                    Look.AREAS,
                    "short",
                    ((f"sum by (state) ({series('state', SCOPE)})", "{{state}}"),),
                ),
                Panel(
                    "Late arrivals by phase",
                    "drained: after the end, when the app may be stopped.",
                    Look.BARS,
                    "short",
                    ((_grew("drain_late_total", SCOPE, "phase", over="$__rate_interval"), "{{phase}}"),),
                ),
                Panel(
                    "Handed to other Pods",
                    "Attempts, by reason (drain: late; app-gone: a crash or a restart) and by result.",
                    Look.BARS,
                    "short",
                    (
                        (
                            _grew("handed_over_total", SCOPE, "reason, outcome", over="$__rate_interval"),
                            "{{reason}}, {{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "Work that did not end well",
                    "us: cut at the deadline; app: broken off by the app; client: the client left.",
                    Look.BARS,
                    "short",
                    (
                        (
                            _grew("drain_aborted_total", SCOPE, "kind, by", over="$__rate_interval"),
                            "{{kind}}, by {{by}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "By workload and revision",
            (
                Panel(
                    "Rollouts",
                    "A row for each revision that drained.",
                    Look.TABLE,
                    "short",
                    (
                        (_grew("drains_total", SCOPE, _REVISION), "drains"),
                        (_grew("drains_total", SCOPE, _REVISION, 'outcome="forced"'), "forced"),
                        (_grew("drains_total", SCOPE, _REVISION, 'outcome="still-arriving"'), "still arriving"),
                        (_grew("drain_arrivals_total", SCOPE, _REVISION), "arrivals"),
                        (_grew("drain_late_total", SCOPE, _REVISION), "late"),
                        (_grew("drain_aborted_total", SCOPE, _REVISION), "cut or broken off"),
                        (_longest("drain_duration_seconds", SCOPE, _REVISION), "longest drain (s)"),
                        (_longest("drain_deadline_seconds", SCOPE, _REVISION), "budget (s)"),
                        (_longest("drain_last_arrival_seconds", SCOPE, _REVISION), "last arrival (s)"),
                        (_longest("config_seconds", SCOPE, _REVISION, _FLOOR), "floor (s)"),
                    ),
                    WHOLE,
                ),
            ),
        ),
    ),
)

PODS = Board(
    "drainproxy-pod",
    "drainproxy / Pod",
    "One Pod: its traffic, its app, and its drain.",
    "now-1h",
    ("namespace", "workload", "pod"),
    (
        (
            "Traffic",
            (
                Panel(
                    "Requests",
                    "By code. relayed: HTTP/2 streams and TCP, counted at their end; none: not answered.",
                    Look.AREAS,
                    "reqps",
                    ((_rate("requests_total", POD, "code"), "{{code}}"),),
                ),
                Panel(
                    "Time a request takes",
                    "From its complete head to the end of its answer.",
                    Look.LINES,
                    "s",
                    tuple((_quantile(part, POD), f"p{100 * part:g}") for part in (0.5, 0.9, 0.99)),
                ),
                Panel(
                    "In flight",
                    "What a drain would wait for.",
                    Look.AREAS,
                    "short",
                    ((f"sum by (kind) ({series('in_flight', POD)})", "{{kind}}"),),
                ),
                Panel(
                    "Open connections",
                    "Idle ones included.",
                    Look.LINES,
                    "short",
                    ((f"sum by (side) ({series('connections', POD)})", "{{side}}"),),
                ),
                Panel(
                    "New connections",
                    "Many connections to the app for few requests: the app closes them early.",
                    Look.LINES,
                    "cps",
                    ((_rate("connections_total", POD, "side"), "{{side}}"),),
                ),
                Panel(
                    "Bytes",
                    "Exchanged with clients.",
                    Look.LINES,
                    "Bps",
                    ((_rate("bytes_total", POD, "direction"), "{{direction}}"),),
                ),
            ),
        ),
        (
            "The app",
            (
                Panel(
                    "Errors of the app",
                    "And of the way to it.",
                    Look.BARS,
                    "reqps",
                    ((f"{_rate('upstream_errors_total', POD, 'reason')} > 0 or vector(0)", "{{reason}}"),),
                ),
                Panel(
                    "Refused here",
                    "Malformed, over a limit, or cut by a drain.",
                    Look.BARS,
                    "reqps",
                    ((f"{_rate('rejected_total', POD, 'reason')} > 0 or vector(0)", "{{reason}}"),),
                ),
                Panel(
                    "Sent twice",
                    "Requests that were repeated because a reused connection had been closed.",
                    Look.LINES,
                    "reqps",
                    ((_rate("upstream_retries_total", POD, "pod"), "{{pod}}"),),
                ),
                Panel(
                    "Handed over",
                    "Attempts to hand a request to another Pod, by result.",
                    Look.BARS,
                    "reqps",
                    ((f"{_rate('handed_over_total', POD, 'outcome')} > 0 or vector(0)", "{{outcome}}"),),
                ),
                Panel(
                    "Time of requests handed over",
                    "From the complete head to the end of the answer, at this Pod.",
                    Look.LINES,
                    "s",
                    (
                        (_quantile(0.5, POD, "handed_over_duration_seconds"), "p50"),
                        (_quantile(0.99, POD, "handed_over_duration_seconds"), "p99"),
                    ),
                ),
                Panel(
                    "Restarts of the app",
                    "Under run: new processes of the app that were started to take over, by outcome.",
                    Look.BARS,
                    "short",
                    ((_grew("restarts_total", POD, "outcome", over="$__rate_interval"), "{{outcome}}"),),
                ),
                Panel(
                    "Spans",
                    "Spans for the collector of traces. dropped: it did not accept them.",
                    Look.LINES,
                    "cps",
                    ((_rate("spans_total", POD, "result"), "{{result}}"),),
                ),
                Panel(
                    "App healthy",
                    "1: the health check of every route passes.",
                    Look.LINES,
                    "short",
                    ((f"min by (pod) ({series('upstream_up', POD)})", "{{pod}}"),),
                ),
                Panel(
                    "CPU of the proxy",
                    "Cores.",
                    Look.LINES,
                    "short",
                    ((f"{_rate('process_cpu_seconds_total', POD, 'pod')}", "{{pod}}"),),
                ),
                Panel(
                    "Memory of the proxy",
                    "Resident.",
                    Look.LINES,
                    "bytes",
                    ((f"max by (pod) ({series('process_resident_memory_bytes', POD)})", "{{pod}}"),),
                ),
            ),
        ),
        (
            "The drain",
            (
                Panel(
                    "State",
                    "The state is the line that is at 1.",
                    Look.AREAS,
                    "short",
                    ((f"sum by (pod, state) ({series('state', POD)}) > 0", "{{pod}}: {{state}}"),),
                ),
                Panel(
                    "Age of the drain against its deadline",
                    "After the drain: its length.",
                    Look.LINES,
                    "s",
                    (
                        (f"max by (pod) ({series('drain_duration_seconds', POD)})", "{{pod}}"),
                        (f"min by (pod) ({series('drain_deadline_seconds', POD)})", "{{pod}}: deadline"),
                    ),
                ),
                Panel(
                    "Ended well during the drain",
                    "By kind of work.",
                    Look.LINES,
                    "short",
                    ((f"sum by (kind) ({series('drain_completed_total', POD)})", "{{kind}}"),),
                ),
            ),
        ),
    ),
)

FLEET = Board(
    "drainproxy-fleet",
    "drainproxy / Fleet",
    "Which workloads need other settings: near the deadline, the floor too short or too long, an old version.",
    "now-7d",
    ("namespace", "workload"),
    (
        (
            "Who needs another setting",
            (
                Panel(
                    "Nearest to the deadline",
                    "The largest share of its budget that a drain used. Raise the grace period of the first ones.",
                    Look.GAUGES,
                    "percentunit",
                    ((f"topk(10, {_budget_used(SCOPE, _WORKLOAD)})", "{{namespace}}/{{workload}}"),),
                    8,
                    _BUDGET,
                ),
                Panel(
                    "Floor too short",
                    "Last arrival as a share of the floor. Above 100 %: raise propagation-delay.",
                    Look.GAUGES,
                    "percentunit",
                    ((f"topk(10, {_floor_used(_WORKLOAD)})", "{{namespace}}/{{workload}}"),),
                    8,
                    ((0, GREEN), (0.8, AMBER), (1, RED)),
                ),
                Panel(
                    "Floor too long",
                    "The same, lowest first: each of their Pods stays longer than necessary. 0: nothing arrived.",
                    Look.GAUGES,
                    "percentunit",
                    ((f"bottomk(10, {_floor_used(_WORKLOAD)})", "{{namespace}}/{{workload}}"),),
                    8,
                    ((0, AMBER), (0.4, GREEN)),
                ),
            ),
        ),
        (
            "What runs",
            (
                Panel(
                    "Versions",
                    "Pods by version of drainproxy.",
                    Look.AREAS,
                    "short",
                    ((f"count by (version) ({series('build_info', SCOPE)})", "{{version}}"),),
                ),
                Panel(
                    "Pods by state",
                    "Pods that stay drained for long were drained by hand.",
                    Look.AREAS,
                    "short",
                    ((f"sum by (state) ({series('state', SCOPE)})", "{{state}}"),),
                ),
                Panel(
                    "Apps that do not answer",
                    "Pods whose health check fails.",
                    Look.LINES,
                    "short",
                    ((f"sum by ({_WORKLOAD}) (1 - {series('upstream_up', SCOPE)})", "{{namespace}}/{{workload}}"),),
                ),
            ),
        ),
        (
            "All workloads",
            (
                Panel(
                    "Workloads",
                    "What is set, and what was measured.",
                    Look.TABLE,
                    "short",
                    (
                        (f"count by ({_WORKLOAD}) ({series('build_info', SCOPE)})", "Pods"),
                        (_grew("drains_total", SCOPE, _WORKLOAD), "drains"),
                        (_grew("drains_total", SCOPE, _WORKLOAD, 'outcome!="clean"'), "not clean"),
                        (_grew("drain_late_total", SCOPE, _WORKLOAD), "late"),
                        (_grew("drain_aborted_total", SCOPE, _WORKLOAD), "cut or broken off"),
                        (_longest("drain_last_arrival_seconds", SCOPE, _WORKLOAD), "last arrival (s)"),
                        (_longest("config_seconds", SCOPE, _WORKLOAD, _FLOOR), "floor (s)"),
                        (_longest("drain_duration_seconds", SCOPE, _WORKLOAD), "longest drain (s)"),
                        (_longest("config_seconds", SCOPE, _WORKLOAD, 'option="grace-period"'), "grace period (s)"),
                    ),
                    WHOLE,
                ),
            ),
        ),
    ),
)

BOARDS = (ROLLOUTS, PODS, FLEET)


def document(board: Board) -> dict[str, Any]:
    """The board as Grafana reads it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.help)
        .tags([TAG])
        .time(board.since, "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(dashboard.DashboardLink("drainproxy").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
    )
    for number, name in enumerate(board.variables):
        made.with_variable(_variable(name, board.variables[:number]))
    numbers = count(1)
    for title, panels in board.rows:
        made.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            made.with_panel(_panel(panel, next(numbers)))
    built: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    return built


def _variable(label: str, outer: Iterable[str]) -> dashboard.QueryVariable:
    """One of the label's values, or all; an empty label, where a scrape does not set it, is among all."""
    chosen = ",".join(f'{name}=~"${name}"' for name in outer)
    return (
        dashboard.QueryVariable(label)
        .label(label)
        .query(f"label_values({series('build_info', chosen)}, {label})")
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel, number: int) -> Any:
    """In Grafana's types. A builder for each look: they have no class in common."""
    make: dict[Look, Any] = {
        Look.LINES: _graph,
        Look.AREAS: lambda: _graph().fill_opacity(40).stacking(common.StackingConfig().mode(StackingMode.NORMAL)),
        Look.BARS: lambda: (
            _graph()
            .draw_style(GraphDrawStyle.BARS)
            .fill_opacity(80)
            .stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        ),
        Look.NUMBER: lambda: stat.Panel().color_mode(BigValueColorMode.BACKGROUND_SOLID),
        Look.GAUGES: lambda: (
            bargauge.Panel().display_mode(BarGaugeDisplayMode.BASIC).orientation(VizOrientation.HORIZONTAL).min(0)
        ),
        Look.TABLE: lambda: _merged(table.Panel().show_header(True), panel),
    }
    built = (
        make[panel.look]()
        .id(number)
        .title(panel.title)
        .description(panel.help)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height({Look.NUMBER: 4, Look.TABLE: 10}.get(panel.look, 8))
    )
    if panel.steps:
        (_, lowest), *above = panel.steps
        steps = [Threshold(None, lowest), *(Threshold(value, color) for value, color in above)]
        built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for ref, (expr, legend) in zip(ascii_uppercase, panel.queries, strict=False):
        built.with_target(_query(panel, expr, legend, ref))
    return built


def _graph() -> timeseries.Panel:
    return (
        timeseries.Panel()
        .line_width(1)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )


def _query(panel: Panel, expr: str, legend: str, ref: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).ref_id(ref).legend_format(legend or "__auto").datasource(SOURCE)
    match panel.look:
        case Look.TABLE:
            return query.instant().format(PromQueryFormat.TABLE)
        case Look.NUMBER | Look.GAUGES:
            return query.instant()
        case _:
            return query.range()


def _merged(made: table.Panel, panel: Panel) -> table.Panel:
    """All queries in one table: a row for each set of labels, a column for each query."""
    titles = {f"Value #{ref}": title for ref, (_, title) in zip(ascii_uppercase, panel.queries, strict=False)}
    return made.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": titles})
    )
