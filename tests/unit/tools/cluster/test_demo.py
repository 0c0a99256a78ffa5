"""What does the demo conclude, and from what? Its sentences and its table."""

from __future__ import annotations

from drainproxy.tools.cluster.demo import (
    BARE,
    DRAINPROXY,
    OWN_PATHS,
    SIMULATED,
    SLEEP,
    Run,
    Scene,
    conclusion,
    pod_bars,
    settings,
    told,
)
from drainproxy.tools.cluster.demo_view import as_json, page, rows, svg
from drainproxy.tools.cluster.kubelet import Event, EventReason
from drainproxy.tools.cluster.variants import App
from drainproxy.tools.probe.verdict import Reply, Sample, judge

SCENE = Scene(App(), OWN_PATHS)


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


def test_a_loss_on_a_machine_that_stood_still_proves_nothing() -> None:
    late = Sample(2.0, 2.5, 2.6, Reply("reset", "why"))
    stalled = Run(DRAINPROXY, judge([late]), (late,), (), 2.0)
    good, sentence = conclusion([run(BARE, "reset"), stalled])
    assert not good
    assert "stood still for 0.5 s" in sentence
    assert "that is a bug" in conclusion([run(BARE, "reset"), run(DRAINPROXY, "reset")])[1]


def test_a_bare_rollout_that_loses_nothing_proves_nothing() -> None:
    good, sentence = conclusion([run(BARE), run(SLEEP), run(DRAINPROXY)])
    assert not good
    assert "proves nothing" in sentence


def test_a_loss_with_drainproxy_is_said_first_and_is_a_failure() -> None:
    good, sentence = conclusion([run(BARE, "reset"), run(SLEEP), run(DRAINPROXY, "502")])
    assert not good
    assert sentence.startswith("drainproxy lost 1")


def test_the_table_has_a_column_for_every_failure_class_that_occurred() -> None:
    head, body = rows([run(BARE, "reset", "reset", "cut body"), run(SLEEP, "cut body"), run(DRAINPROXY)], "rollout")
    assert head == ["rollout", "requests", "failed", "reset", "cut body", "took", "longest served"]
    assert body[0] == [BARE, "53", "3", "2", "1", "2.00 s", "20 ms"]
    assert body[2][2:5] == ["0", "0", "0"]


def test_a_pods_bar_is_its_life_on_the_samples_clock() -> None:
    (bar,) = pod_bars(EVENTS, 100.0)
    assert (bar.name, bar.start_s, bar.ready_s, bar.ending_s, bar.end_s) == ("v1-1", -1.0, -0.5, 2.0, 3.0)


def test_the_results_forms_agree() -> None:
    runs = [run(BARE, "reset"), run(SLEEP), run(DRAINPROXY)]
    good, sentence = conclusion(runs)
    assert as_json(runs, good, sentence, told(SCENE))["ok"] is True
    assert sentence in page(runs, good, sentence, told(SCENE))
    assert svg(runs).count('class="ink title"') == 3
    assert ">1 failed<" in svg(runs)
    assert SIMULATED.split(":")[0] in page(runs, good, sentence, told(SCENE))
    assert as_json(runs, good, sentence, told(SCENE))["settings"] == settings(SCENE)


def test_the_settings_say_what_the_numbers_depend_on() -> None:
    said = settings(SCENE)
    assert said["traffic"] == "40 requests/s, 50% on connections of their own"
    assert said["rollout"] == "3 Pods, one more at a time, grace period 20s"
    assert said["app"].startswith("built in")
    assert settings(Scene(App(("mine", "8080")), ("/",)))["app"] == "mine 8080"
