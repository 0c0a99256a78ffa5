"""What does the demo conclude, and from what? Its sentences and its table."""

from __future__ import annotations

from drainproxy.tools.cluster.demo import BARE, DRAINPROXY, SLEEP, Run, conclusion, pod_bars
from drainproxy.tools.cluster.demo_view import as_json, page, rows, svg
from drainproxy.tools.cluster.kubelet import Event, EventReason
from drainproxy.tools.probe.verdict import Reply, Sample, judge


def run(name: str, *faults: str) -> Run:
    samples = [Sample(n / 10, n / 10, n / 10 + 0.02, Reply(status=200)) for n in range(50)]
    samples += [Sample(2.0, 2.0, 2.1, Reply(fault, "why")) for fault in faults]
    verdict = judge(samples, during=(1.0, 3.0))
    return Run(name, verdict, tuple(samples), pod_bars(EVENTS, 100.0), 2.0)


EVENTS = [
    Event(99.0, "v1-1", "", EventReason.CREATED),
    Event(99.2, "v1-1", "app", EventReason.STARTED),
    Event(99.5, "v1-1", "", EventReason.READY),
    Event(102.0, "v1-1", "", EventReason.DELETED),
    Event(102.1, "v1-1", "", EventReason.UNREADY),
    Event(103.0, "v1-1", "", EventReason.GONE),
]


def test_drainproxy_alone_without_loss_is_the_good_end() -> None:
    good, sentence = conclusion([run(BARE, "reset", "reset"), run(SLEEP, "cut body"), run(DRAINPROXY)])
    assert good
    assert sentence == "drainproxy lost no request; bare lost 2, preStop: sleep lost 1."


def test_a_bare_rollout_that_loses_nothing_proves_nothing() -> None:
    good, sentence = conclusion([run(BARE), run(SLEEP), run(DRAINPROXY)])
    assert not good
    assert "proves nothing" in sentence


def test_a_loss_with_drainproxy_is_said_first_and_is_a_failure() -> None:
    good, sentence = conclusion([run(BARE, "reset"), run(SLEEP), run(DRAINPROXY, "502")])
    assert not good
    assert sentence.startswith("drainproxy lost 1")


def test_the_table_has_a_column_for_every_failure_class_that_occurred() -> None:
    head, body = rows([run(BARE, "reset", "reset", "cut body"), run(SLEEP, "cut body"), run(DRAINPROXY)])
    assert head == ["rollout", "requests", "failed", "reset", "cut body", "took", "longest served"]
    assert body[0] == [BARE, "53", "3", "2", "1", "2.00 s", "20 ms"]
    assert body[2][2:5] == ["0", "0", "0"]


def test_a_pods_bar_is_its_life_on_the_samples_clock() -> None:
    (bar,) = pod_bars(EVENTS, 100.0)
    assert (bar.name, bar.start_s, bar.ready_s, bar.ending_s, bar.end_s) == ("v1-1", -1.0, -0.5, 2.0, 3.0)


def test_the_results_forms_agree() -> None:
    runs = [run(BARE, "reset"), run(SLEEP), run(DRAINPROXY)]
    good, sentence = conclusion(runs)
    assert as_json(runs, good, sentence)["ok"] is True
    assert sentence in page(runs, good, sentence)
    assert svg(runs).count('class="ink title"') == 3
