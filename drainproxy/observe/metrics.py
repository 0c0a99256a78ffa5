"""How does Prometheus read what was counted? See observe/meter.py for the counting.

`METRICS` declares every metric once: name, type, labels, meaning, and where its values come from. The exposition and
docs/metrics.md are made from it. Names and labels are API.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    UntypedMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from drainproxy import __version__
from drainproxy.config.options import Config
from drainproxy.drain import handover
from drainproxy.drain.advice import Times
from drainproxy.drain.announcement import RESULTS, Occasion
from drainproxy.drain.handover import Attempt, Why
from drainproxy.drain.ledger import BY, By, Kind
from drainproxy.drain.phase import LATE, Outcome, Phase, State, Trigger
from drainproxy.observe.meter import BUCKETS, METHODS, OTHER
from drainproxy.observe.observer import Side
from drainproxy.protocol.reasons import Counted, Reason, labels
from drainproxy.session.ports import UNREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric as Family

    from drainproxy.drain.ledger import Tally
    from drainproxy.observe.documents import ConnectionCounts, Process
    from drainproxy.observe.meter import Meter

NO_ANSWER = "none"
"""`code` of a request that was not answered: the client left, or it was cut, before the response began."""
RELAYED = "relayed"
"""`code` where answers are relayed unread: HTTP/2 streams and TCP connections, counted when they have ended."""
RESTARTS = ("done", "failed")
SUM = "sum"
"""The sample of a histogram that is no bucket."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one scrape reads."""

    process: Process
    meter: Meter
    connections: ConnectionCounts
    drains: Tally

    @staticmethod
    def of(process: Process, meter: Meter) -> Snapshot:
        """Now. Connections first: that brings the meter's byte counts up to date."""
        return Snapshot(process, meter, process.connections(), process.ledger.total())


_NO_CODES = {0: NO_ANSWER, UNREAD: RELAYED}
_CODES = range(100, 600)

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `labels`: each name with what its values may be, for people."""

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: dict[str, str]
    read: Callable[[Snapshot], Iterable[Sample]]


def _requests(now: Snapshot) -> Iterator[Sample]:
    for method, codes in now.meter.codes.items():
        shown: Counter[str] = Counter()
        for status, count in codes.items():
            shown[_code(status)] += count
        yield from (((method, code), float(count)) for code, count in shown.items())


def _code(status: int) -> str:
    if status in _NO_CODES:
        return _NO_CODES[status]
    return str(status) if status in _CODES else OTHER


def _durations(now: Snapshot) -> Iterator[Sample]:
    return _histogram(BUCKETS, now.meter.durations, now.meter.duration_s)


def _handed_over_durations(now: Snapshot) -> Iterator[Sample]:
    handed = now.process.handed
    return _histogram(handover.BUCKETS, handed.durations, handed.duration_s)


def _histogram(bounds: tuple[float, ...], counts: list[int], total: float) -> Iterator[Sample]:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    yield from (((name,), float(count)) for name, count in zip(names, accumulate(counts), strict=True))
    yield (SUM,), total


def _reasons(counted: Counted, counts: Counter[Reason]) -> Iterator[Sample]:
    yield from (((reason.label,), float(counts[reason])) for reason in Reason if counted in reason.counted)
    yield (OTHER,), float(sum(count for reason, count in counts.items() if counted not in reason.counted))


def _drains(now: Snapshot) -> Iterator[Sample]:
    for trigger in Trigger:
        yield from (((trigger.value, outcome.value), float(now.meter.drains[trigger, outcome])) for outcome in Outcome)


def _drain_duration_s(now: Snapshot) -> float:
    process, schedule = now.process, now.process.machine.schedule
    if schedule is None or process.machine.drained_at is not None:
        return now.meter.drain_duration_s
    return process.now() - schedule.started_at


def _drain_deadline_s(now: Snapshot) -> float:
    schedule = now.process.machine.schedule
    return now.process.config.budget_s if schedule is None else schedule.deadline_at - schedule.started_at


def _last_arrival_s(now: Snapshot) -> float:
    process, schedule, tally = now.process, now.process.machine.schedule, now.process.ledger.tally
    if schedule is None or tally is None:
        last = None if process.last_drain is None else process.last_drain["last_arrival_s"]
        return 0.0 if last is None else last
    return 0.0 if tally.last_arrival_at is None else tally.last_arrival_at - schedule.started_at


def _times(now: Snapshot) -> Iterator[Sample]:
    for name, seconds in Times.of(now.process.config).by_option().items():
        yield (name,), seconds


def _calls(now: Snapshot) -> Iterator[Sample]:
    for occasion in Occasion:
        yield from (((occasion.value, result), float(now.meter.calls[occasion, result])) for result in RESULTS)


def _handed_over(now: Snapshot) -> Iterator[Sample]:
    counts = now.process.handed.counts
    for why in Why:
        yield from (((why.value, became.value), float(counts[why, became])) for became in Attempt)


def _kinds(counted: Counter[Kind]) -> Iterator[Sample]:
    return (((kind.value,), float(counted[kind])) for kind in Kind)


def _aborted(now: Snapshot) -> Iterator[Sample]:
    counts: Counter[tuple[Kind, By]] = Counter()
    for (kind, ended), count in now.drains.aborted.items():
        counts[kind, BY[ended]] += count
    yield from (((kind.value, by.value), float(counts[kind, by])) for kind in Kind for by in By)


def _values(*members: str) -> str:
    return ", ".join(members)


_KINDS = {"kind": _values(*(kind.value for kind in Kind))}
_SIDES = {"side": _values(*(side.value for side in Side))}

METRICS = (
    Metric(
        "drainproxy_build_info",
        "info",
        "The version that is running.",
        {"version": "the version"},
        lambda now: [((__version__,), 1.0)],
    ),
    Metric(
        "drainproxy_state",
        "gauge",
        "1 for the state the process is in, 0 for the others.",
        {"state": _values(*(state.value for state in State))},
        lambda now: (((state.value,), float(now.process.machine.state is state)) for state in State),
    ),
    Metric(
        "drainproxy_requests_total",
        "counter",
        "Requests that have ended, including refused requests and health checks that pass through the proxy.",
        {
            "method": _values(*METHODS, OTHER),
            "code": f"the response's status; {NO_ANSWER}: the client left, or the request was cut, before an answer; "
            f"{RELAYED}: ended in order, relayed unread; {OTHER}: a status that is not standard",
        },
        _requests,
    ),
    Metric(
        "drainproxy_request_duration_seconds",
        "histogram",
        "Time from a request's complete head to the end of its exchange; for a tunnel (101), its whole duration.",
        {},
        _durations,
    ),
    Metric(
        "drainproxy_in_flight",
        "gauge",
        "Work that is open now: what a drain waits for.",
        _KINDS,
        lambda now: _kinds(now.process.ledger.count()),
    ),
    Metric(
        "drainproxy_connections",
        "gauge",
        "Connections that are open now, idle ones included.",
        _SIDES,
        lambda now: [
            ((Side.CLIENT.value,), float(now.connections.client)),
            ((Side.UPSTREAM.value,), float(now.connections.upstream_idle + now.connections.upstream_busy)),
        ],
    ),
    Metric(
        "drainproxy_connections_total",
        "counter",
        "Connections that were opened.",
        _SIDES,
        lambda now: (((side.value,), float(now.meter.connections[side])) for side in Side),
    ),
    Metric(
        "drainproxy_bytes_total",
        "counter",
        "Bytes exchanged with clients.",
        {"direction": "in (from clients), out (to clients)"},
        lambda now: [(("in",), float(now.meter.received)), (("out",), float(now.meter.sent))],
    ),
    Metric(
        "drainproxy_upstream_errors_total",
        "counter",
        "Failures of the app, or of the connection to it.",
        {"reason": _values(*labels(Counted.UPSTREAM_ERROR), OTHER)},
        lambda now: _reasons(Counted.UPSTREAM_ERROR, now.meter.upstream_errors),
    ),
    Metric(
        "drainproxy_upstream_retries_total",
        "counter",
        "Requests that were sent to the app a second time, because a reused connection was closed without an answer.",
        {},
        lambda now: [((), float(now.meter.retries))],
    ),
    Metric(
        "drainproxy_handed_over_total",
        "counter",
        "Attempts to hand a request, or a connection, to another Pod of the workload (--successor), by result.",
        {"reason": _values(*(why.value for why in Why)), "outcome": _values(*(became.value for became in Attempt))},
        _handed_over,
    ),
    Metric(
        "drainproxy_handed_over_duration_seconds",
        "histogram",
        "Time from a request's complete head to the end of its exchange, for requests that another Pod answered.",
        {},
        _handed_over_durations,
    ),
    Metric(
        "drainproxy_upstream_up",
        "gauge",
        "1 while the health check of every route's app passes, else 0.",
        {},
        lambda now: [((), float(now.process.machine.healthy))],
    ),
    Metric(
        "drainproxy_rejected_total",
        "counter",
        "Requests that drainproxy refused: malformed, over a limit, cut by a drain, or not allowed to drain (auth).",
        {"reason": _values(*labels(Counted.REJECTED), OTHER)},
        lambda now: _reasons(Counted.REJECTED, now.meter.rejections),
    ),
    Metric(
        "drainproxy_drains_total",
        "counter",
        "Drains that have ended. A drain that ended and was then called off counts under both outcomes.",
        {
            "trigger": _values(*(trigger.value for trigger in Trigger)),
            "outcome": _values(*(outcome.value for outcome in Outcome)),
        },
        _drains,
    ),
    Metric(
        "drainproxy_drain_duration_seconds",
        "gauge",
        "Time since the trigger while a drain runs; duration of the last drain after that; 0 before the first drain.",
        {},
        lambda now: [((), _drain_duration_s(now))],
    ),
    Metric(
        "drainproxy_drain_deadline_seconds",
        "gauge",
        "Time from a drain's trigger to its deadline. The duration divided by it is the used share of the budget.",
        {},
        lambda now: [((), _drain_deadline_s(now))],
    ),
    Metric(
        "drainproxy_config_seconds",
        "gauge",
        "The options that decide how a drain works, with the values in use.",
        {"option": _values(*Times.of(Config()).by_option())},
        _times,
    ),
    Metric(
        "drainproxy_hooks_total",
        "counter",
        "Calls to other service discovery (--on-ready, --on-drain, --on-resume); all attempts of a call count as one.",
        {"hook": _values(*(occasion.value for occasion in Occasion)), "result": _values(*RESULTS)},
        _calls,
    ),
    Metric(
        "drainproxy_restarts_total",
        "counter",
        "Restarts of the app under run that were begun. failed: the new process did not stay, or was not healthy.",
        {"outcome": _values(*RESTARTS)},
        lambda now: (((outcome,), float(now.meter.restarts[outcome])) for outcome in RESTARTS),
    ),
    Metric(
        "drainproxy_spans_total",
        "counter",
        "Spans for --otlp-endpoint. dropped: the queue was full, or the collector did not accept them.",
        {"result": _values("exported", "dropped")},
        lambda now: [
            (("exported",), float(now.meter.spans.exported)),
            (("dropped",), float(now.meter.spans.dropped)),
        ],
    ),
    Metric(
        "drainproxy_drain_arrivals_total",
        "counter",
        "Work that arrived during drains, before the floor or after it.",
        {},
        lambda now: [((), float(now.drains.arrivals))],
    ),
    Metric(
        "drainproxy_drain_completed_total",
        "counter",
        "Work that was completed during drains.",
        _KINDS,
        lambda now: _kinds(now.drains.completed),
    ),
    Metric(
        "drainproxy_drain_late_total",
        "counter",
        "Work that arrived after a drain's floor: the sender had not yet learned that the Pod ends.",
        {"phase": _values(*(phase.value for phase in Phase if phase in LATE))},
        lambda now: (((phase.value,), float(now.drains.late[phase])) for phase in Phase if phase in LATE),
    ),
    Metric(
        "drainproxy_drain_aborted_total",
        "counter",
        "Work that failed during drains, by who ended it. us: the deadline, a time limit, or, after the drain, the end "
        "of the app or of this process; client: it left, or was refused; app: it closed the connection, or was gone.",
        _KINDS | {"by": _values(*(by.value for by in By))},
        _aborted,
    ),
    Metric(
        "drainproxy_drain_last_arrival_seconds",
        "gauge",
        "Time from a drain's trigger to the last arrival in it: the measured propagation; 0 if nothing arrived.",
        {},
        lambda now: [((), _last_arrival_s(now))],
    ),
)


class _Current(Collector):
    """Reads everything when prometheus_client collects."""

    def __init__(self, process: Process, meter: Meter, *, openmetrics: bool) -> None:
        self._process = process
        self._meter = meter
        self._openmetrics = openmetrics

    def collect(self) -> Iterator[Family]:
        now = Snapshot.of(self._process, self._meter)
        return (_family(metric, now, openmetrics=self._openmetrics) for metric in METRICS)


GROWING = {metric.name: metric for metric in METRICS if metric.type in ("counter", "histogram")}
"""What only grows, and goes on after an upgrade."""


def grown(metric: Metric, now: Snapshot) -> dict[tuple[str, ...], float]:
    """The samples of one that only grows, what the generations before have counted included."""
    totals = dict(metric.read(now))
    before = now.meter.before.get(metric.name, {})
    if metric.type == "histogram" and before.keys() != totals.keys():  # another version has other buckets, or nobody
        return totals
    for values, count in before.items():
        totals[values] = totals.get(values, 0.0) + count
    return totals


def _family(metric: Metric, now: Snapshot, *, openmetrics: bool) -> Family:
    samples = grown(metric, now).items() if metric.name in GROWING else metric.read(now)
    if metric.type == "histogram":
        *buckets, (_, total_s) = ((labels[0], count) for labels, count in samples)
        return HistogramMetricFamily(metric.name, metric.help, buckets, total_s)
    if metric.type == "info":
        info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help)
        for labels, _ in samples:
            info.add_metric([], dict(zip(metric.labels, labels, strict=True)))
        return info
    clash = openmetrics and metric.type == "counter" and metric.name.removesuffix("_total") in _GAUGES
    make = UntypedMetricFamily if clash else CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=tuple(metric.labels))
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


_GAUGES = frozenset(metric.name for metric in METRICS if metric.type == "gauge")
"""OpenMetrics calls a counter by its name without `_total`, which must not be a gauge's: such a counter has no type."""


class Exposition:
    """`/metrics`: ours, and the process's own (CPU, memory, file descriptors)."""

    def __init__(self, process: Process, meter: Meter) -> None:
        self._registries = {}
        for openmetrics in (False, True):
            registry = self._registries[openmetrics] = CollectorRegistry()
            registry.register(_Current(process, meter, openmetrics=openmetrics))
            ProcessCollector(registry=registry)
        self._process = process
        self._meter = meter

    def totals(self) -> dict[str, int]:
        """What the status page derives rates from."""
        now = Snapshot.of(self._process, self._meter)
        received, sent = grown(GROWING["drainproxy_bytes_total"], now).values()
        requests = grown(GROWING["drainproxy_requests_total"], now).values()
        return {"requests": int(sum(requests)), "bytes_in": int(received), "bytes_out": int(sent)}

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type: OpenMetrics if `accept` asks for it, else Prometheus text."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registries["openmetrics" in content_type]), content_type
