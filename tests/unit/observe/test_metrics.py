"""Do the metrics add up to what happened, in names and formats that Prometheus reads?"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import drainproxy
from drainproxy.config.options import Config, flag_of, options
from drainproxy.drain.ledger import Ended, Kind, Work
from drainproxy.drain.phase import Trigger
from drainproxy.observe.documents import ConnectionCounts
from drainproxy.observe.meter import METHODS, OTHER
from drainproxy.observe.metrics import METRICS, Exposition
from drainproxy.observe.observer import Side
from drainproxy.protocol.reasons import Counted, Reason, labels
from drainproxy.session.ports import UNREAD
from tests.support.control import ScriptedControl

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PRODUCT = Path(drainproxy.__file__).parent

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(control: ScriptedControl, accept: str = "") -> Samples:
    body, content_type = Exposition(control, control.meter).render(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    families = list(parse(body.decode()))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def total(samples: Samples, name: str) -> float:
    return sum(found for (each, _), found in samples.items() if each == name)


def work(method: str = "GET") -> Work:
    made = Work(Kind.HTTP, "192.0.2.7")
    made.method = method
    return made


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", OPENMETRICS])
def test_both_formats_are_read_by_the_parser_and_say_the_same(accept: str) -> None:
    control = ScriptedControl()
    control.meter.exchange(work(), 200, 0.01, completed=True)
    mine = {key: found for key, found in scrape(control, accept).items() if key[0].startswith("drainproxy_")}
    plain = {key: found for key, found in scrape(control).items() if key[0].startswith("drainproxy_")}
    assert mine == plain


def test_openmetrics_only_when_asked_for() -> None:
    control = ScriptedControl()
    exposition = Exposition(control, control.meter)
    assert exposition.render("*/*")[1].startswith("text/plain; version=0.0.4")
    body, content_type = exposition.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_every_metric_of_the_contract_is_there_from_the_start() -> None:
    control = ScriptedControl()
    body, _ = Exposition(control, control.meter).render("")
    typed = dict(re.findall(r"^# TYPE (\w+) (\w+)$", body.decode(), re.M))
    for metric in METRICS:
        assert typed[metric.name] == {"info": "gauge"}.get(metric.type, metric.type)
    names = """
        build_info state requests_total request_duration_seconds in_flight connections connections_total bytes_total
        upstream_errors_total upstream_retries_total handed_over_total handed_over_duration_seconds
        upstream_up rejected_total drains_total
        drain_duration_seconds drain_deadline_seconds config_seconds hooks_total restarts_total spans_total
        drain_arrivals_total
        drain_completed_total drain_late_total drain_aborted_total drain_last_arrival_seconds
    """
    assert [metric.name.removeprefix("drainproxy_") for metric in METRICS] == names.split()


def test_what_is_known_beforehand_is_there_as_zero() -> None:
    samples = scrape(ScriptedControl())
    assert value(samples, "drainproxy_drains_total", trigger="sigterm", outcome="forced") == 0
    assert value(samples, "drainproxy_drain_late_total", phase="drained") == 0
    assert value(samples, "drainproxy_drain_aborted_total", kind="websocket", by="app") == 0
    assert value(samples, "drainproxy_rejected_total", reason="auth") == 0
    assert value(samples, "drainproxy_upstream_errors_total", reason="connect-refused") == 0
    assert value(samples, "drainproxy_in_flight", kind="tcp") == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*METHODS, "", "PROPFIND", "get", "G\xcbT"]),
            st.sampled_from([0, UNREAD, 7, 101, 200, 204, 404, 431, 500, 599, 600, 999]),
            st.floats(0, 1000),
        )
    )
)
def test_requests_add_up_exactly(exchanges: list[tuple[str, int, float]]) -> None:
    control = ScriptedControl()
    for method, status, duration_s in exchanges:
        control.meter.exchange(work(method), status, duration_s, completed=status != 0)
    samples = scrape(control)
    expected: Counter[tuple[str, str]] = Counter()
    for method, status, _ in exchanges:
        code = {0: "none", UNREAD: "relayed", 7: OTHER, 600: OTHER, 999: OTHER}.get(status, str(status))
        expected[method if method in METHODS else OTHER, code] += 1
    counted = {
        (dict(labels)["method"], dict(labels)["code"]): found
        for (name, labels), found in samples.items()
        if name == "drainproxy_requests_total"
    }
    assert counted == dict(expected)
    assert value(samples, "drainproxy_request_duration_seconds_count") == len(exchanges) == control.meter.requests
    assert value(samples, "drainproxy_request_duration_seconds_sum") == pytest.approx(sum(d for _, _, d in exchanges))
    buckets = {
        float(dict(labels)["le"]): found
        for (name, labels), found in samples.items()
        if name == "drainproxy_request_duration_seconds_bucket"
    }
    assert all(found == sum(d <= bound for _, _, d in exchanges) for bound, found in buckets.items())
    assert max(buckets) == float("inf")


def test_connections_bytes_retries_and_faults_are_counted() -> None:
    control = ScriptedControl()
    control.counts = ConnectionCounts(client=3, upstream_idle=1, upstream_busy=2)
    meter = control.meter
    for side in (Side.CLIENT, Side.CLIENT, Side.UPSTREAM):
        meter.opened(side)
    meter.transferred(10, 100)
    meter.transferred(1, 2)
    meter.retried()
    meter.rejected(Reason.BAD_HOST)
    meter.rejected(Reason.AUTH)
    meter.upstream_error(Reason.TIMEOUT)
    samples = scrape(control)
    assert value(samples, "drainproxy_connections", side="client") == 3
    assert value(samples, "drainproxy_connections", side="upstream") == 3
    assert value(samples, "drainproxy_connections_total", side="client") == 2
    assert value(samples, "drainproxy_connections_total", side="upstream") == 1
    assert value(samples, "drainproxy_bytes_total", direction="in") == 11
    assert value(samples, "drainproxy_bytes_total", direction="out") == 102
    assert value(samples, "drainproxy_upstream_retries_total") == 1
    assert total(samples, "drainproxy_rejected_total") == 2
    assert value(samples, "drainproxy_rejected_total", reason="bad-host") == 1
    assert value(samples, "drainproxy_upstream_errors_total", reason="timeout") == 1


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_every_reason_is_counted_under_its_label_by_the_metric_it_is_for_and_as_other_elsewhere(reason: Reason) -> None:
    control = ScriptedControl()
    control.meter.rejected(reason)
    control.meter.upstream_error(reason)
    samples = scrape(control)
    for metric, name in (
        (Counted.REJECTED, "drainproxy_rejected_total"),
        (Counted.UPSTREAM_ERROR, "drainproxy_upstream_errors_total"),
    ):
        assert total(samples, name) == 1
        assert value(samples, name, reason=reason.label if metric in reason.counted else OTHER) == 1


@pytest.mark.parametrize("metric", [Counted.REJECTED, Counted.UPSTREAM_ERROR])
def test_no_two_reasons_that_a_metric_counts_have_the_same_label(metric: Counted) -> None:
    assert len(set(labels(metric)) | {OTHER}) == len(labels(metric)) + 1


SMUGGLING = ("obs-fold", "nul", "bare-lf", "bare-cr", "bad-field", "space-before-colon")


def test_the_signs_of_request_smuggling_have_labels_of_their_own() -> None:
    assert set(SMUGGLING) <= set(labels(Counted.REJECTED))
    assert set(SMUGGLING) <= set(labels(Counted.UPSTREAM_ERROR))


def test_the_product_gives_every_reason() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PRODUCT.rglob("*.py"))
    assert [reason.name for reason in Reason if not re.search(rf"\bReason\.{reason.name}\b", source)] == []


def assert_state(control: ScriptedControl, expected: str) -> Samples:
    samples = scrape(control)
    assert value(samples, "drainproxy_state", state=expected) == 1
    assert total(samples, "drainproxy_state") == 1
    return samples


def test_exactly_one_state_is_1() -> None:
    control = ScriptedControl()
    assert_state(control, "ready")
    control.machine.upstream(reachable=True, healthy=False, gate=None)
    assert_state(control, "unready")
    control.drain(Trigger.HTTP)
    assert_state(control, "draining")
    control.wait(10)
    samples = assert_state(control, "drained")
    assert value(samples, "drainproxy_upstream_up") == 0


def test_a_drain_is_counted_with_its_length_and_its_last_arrival() -> None:
    control = ScriptedControl()
    held = control.open()
    before = scrape(control)
    assert value(before, "drainproxy_drain_duration_seconds") == 0
    assert value(before, "drainproxy_drain_deadline_seconds") == 24
    control.drain(Trigger.HTTP)
    control.tick(6)
    control.end(control.open(kind=Kind.WEBSOCKET))
    during = scrape(control)
    assert value(during, "drainproxy_drain_duration_seconds") == 6
    assert value(during, "drainproxy_drain_last_arrival_seconds") == 6
    assert value(during, "drainproxy_in_flight", kind="http") == 1
    control.tick(1)
    control.end(held)
    control.tick(1)
    control.end(control.open())
    control.tick(2)
    after = scrape(control)
    assert value(after, "drainproxy_drains_total", trigger="http", outcome="clean") == 1
    assert total(after, "drainproxy_drains_total") == 1
    assert value(after, "drainproxy_drain_completed_total", kind="http") == 2
    assert value(after, "drainproxy_drain_completed_total", kind="websocket") == 1
    assert total(after, "drainproxy_drain_late_total") == 2
    assert value(after, "drainproxy_drain_arrivals_total") == 2


def test_the_counts_of_a_drain_outlive_its_resume() -> None:
    control = ScriptedControl()
    control.drain(Trigger.CLI)
    control.tick(3)
    control.end(control.open(), ended=Ended.DEPARTED)
    control.tick(1)
    control.resume()
    control.tick(50)
    samples = scrape(control)
    assert value(samples, "drainproxy_drains_total", trigger="cli", outcome="resumed") == 1
    assert value(samples, "drainproxy_drain_aborted_total", kind="http", by="client") == 1
    assert value(samples, "drainproxy_drain_aborted_total", kind="http", by="us") == 0
    assert value(samples, "drainproxy_drain_last_arrival_seconds") == 3
    assert value(samples, "drainproxy_drain_duration_seconds") == 4


def test_the_settings_of_a_drain_are_told_as_they_are_in_force() -> None:
    samples = scrape(ScriptedControl(Config(grace_period_s=60, propagation_delay_s=7.5)))
    told = {
        dict(labels)["option"]: found
        for (name, labels), found in samples.items()
        if name == "drainproxy_config_seconds"
    }
    expected = {"grace-period": 60, "app-stop-time": 5, "drain-timeout": 54, "propagation-delay": 7.5}
    assert told == expected | {"quiet-period": 1, "quiet-limit": 10}
    assert set(told) <= {flag_of(each) for each, _ in options()}


def test_the_process_tells_of_itself() -> None:
    assert value(scrape(ScriptedControl()), "process_resident_memory_bytes") > 0
