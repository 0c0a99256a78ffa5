"""Was the measurement a success? Each promise of the one answer that headline, reports and exit code share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.tools.probe.causes import likely_cause, meaning, seen_before
from drainproxy.tools.probe.measure import Command, Measurement, Result
from drainproxy.tools.probe.outcome import Allowance, Grade, Limits, outcome_of
from drainproxy.tools.probe.verdict import Pace, Reply, Sample, judge

if TYPE_CHECKING:
    from drainproxy.tools.probe.outcome import Outcome
    from drainproxy.tools.probe.verdict import Verdict

FINE = Command(("true",), 3.0, 6.0, 0)


def good(due: float, latency: float = 0.01) -> Sample:
    return Sample(due, due, due + latency, Reply(status=200))


def bad(due: float, fault: str, *, reused: bool = False) -> Sample:
    return Sample(due, due, due + 0.5, Reply(fault, "why", reused=reused))


def many(*failures: Sample, latency: float = 0.01) -> list[Sample]:
    """A hundred good answers over ten seconds, and these failures."""
    return [*(good(n / 10, latency) for n in range(100)), *failures]


def measured(
    *runs: list[Sample], command: Command | None = None, due: bool = False, pace: Pace | None = None
) -> Measurement:
    during = (command.start_s, command.end_s) if command else None
    results = [
        Result(f"http://target-{n}/", tuple(run), judge(run, during=during, pace=pace)) for n, run in enumerate(runs)
    ]
    return Measurement(0.0, tuple(results), command, False, due or command is not None)


def answer(measurement: Measurement, limits: Limits | None = None) -> Outcome:
    return outcome_of(measurement, limits or Limits())


def test_every_request_answered_in_full_is_a_success() -> None:
    outcome = answer(measured(many(), command=FINE))
    assert (outcome.grade, outcome.ok) == (Grade.PASSED, True)
    assert outcome.headline == "No request was lost: 100 sent, 100 answered in full."
    assert outcome.problems == []


def test_one_failed_request_is_a_failure_and_named_by_class() -> None:
    outcome = answer(measured(many(bad(3.5, "empty reply"), bad(4, "reset"), bad(5, "reset"))))
    assert outcome.grade is Grade.FAILED
    assert outcome.headline == "3 of 103 requests failed (2.9%): 2 reset, 1 empty reply."


def test_a_command_that_failed_is_a_failure_although_nothing_was_lost() -> None:
    outcome = answer(measured(many(), command=Command(("false",), 3, 4, 1)))
    assert (outcome.grade, outcome.ok) == (Grade.FAILED, False)
    assert outcome.headline == "The command failed (exit code 1), so this says little about a rollout."


def test_a_command_that_did_not_run_to_its_end_leaves_the_question_open() -> None:
    assert answer(measured(many(), due=True)).grade is Grade.UNSURE
    stopped = answer(measured(many(), command=Command(("sleep",), 3, 4, -15, stopped=True)))
    assert stopped.grade is Grade.UNSURE
    assert "stopped before the command had ended" in stopped.headline


def test_a_sender_below_95_percent_of_the_rate_leaves_the_question_open() -> None:
    assert answer(measured(many(), pace=Pace(105, 100, 10))).grade is Grade.PASSED
    slow = answer(measured(many(), pace=Pace(120, 100, 10)))
    assert slow.grade is Grade.UNSURE
    assert slow.headline.startswith("Only 10 of 12 requests/s could be sent")


def test_a_proven_loss_outranks_a_slow_sender() -> None:
    outcome = answer(measured(many(bad(4, "reset")), pace=Pace(200, 100, 10)))
    assert outcome.grade is Grade.FAILED
    assert outcome.headline == "1 of 101 requests failed (0.99%): 1 reset (and 1 more)."
    assert len(outcome.problems) == 2


def test_nothing_measured_is_no_success() -> None:
    outcome = answer(measured([]))
    assert outcome.grade is Grade.UNSURE
    assert outcome.headline == "Nothing was measured: no request ended."


def test_when_everything_failed_the_address_is_in_doubt() -> None:
    assert "Is the address right?" in answer(measured([bad(0, "refused")])).headline


def test_what_this_machine_could_not_send_is_not_held_against_the_server() -> None:
    assert answer(measured(many(bad(4, "local")))).grade is Grade.UNSURE
    assert answer(measured(many(bad(4, "local"), bad(5, "reset")))).grade is Grade.FAILED


def test_failures_may_be_allowed_by_number_or_by_share() -> None:
    two = measured(many(bad(4, "reset"), bad(5, "reset")))
    for allowance, grade in (
        (Allowance(1), Grade.FAILED),
        (Allowance(2), Grade.PASSED),
        (Allowance(share=0.01), Grade.FAILED),
        (Allowance(share=0.02), Grade.PASSED),
    ):
        assert answer(two, Limits(allowance)).grade is grade, allowance


def test_p99_is_held_in_every_phase() -> None:
    slow = [good(n / 10, 2.0 if 30 <= n < 60 else 0.01) for n in range(100)]
    outcome = answer(measured(slow, command=FINE), Limits(max_p99_s=0.5))
    assert outcome.problems == ["the p99 of during was 2000 ms, above 500 ms"]
    assert answer(measured(slow, command=FINE), Limits(max_p99_s=2.5)).ok


def test_one_bad_target_of_several_is_a_failure_and_named() -> None:
    outcome = answer(measured(many(), many(bad(4, "502"))))
    assert outcome.grade is Grade.FAILED
    assert outcome.headline == "http://target-1/: 1 of 101 requests failed (0.99%): 1 502."
    assert answer(measured(many(), many())).headline == "Within the limits: 200 requests sent to 2 targets."


def cause(*failures: Sample, rolled_out: bool = True) -> str:
    verdict: Verdict = judge(many(*failures), during=(3.0, 6.0) if rolled_out else None)
    return likely_cause(verdict.failures[0], verdict)


def test_a_likely_cause_comes_with_its_evidence() -> None:
    evidence = "none of these before the command started, and 100 other requests were answered"
    assert cause(bad(4, "refused")) == f"traffic still went to a Pod that had closed its port ({evidence})"
    assert cause(bad(4, "cut body")) == f"the app was stopped while it worked on the request ({evidence})"
    assert cause(bad(4, "empty reply")) == f"the app was stopped while it worked on the request ({evidence})"
    assert "closed idle keep-alive connections" in cause(bad(4, "empty reply", reused=True))


def test_without_evidence_there_is_no_likely_cause() -> None:
    assert cause(bad(4, "refused"), rolled_out=False) == ""
    assert cause(bad(4, "timeout")) == ""
    assert cause(*(bad(4 + n / 1000, "refused") for n in range(200))) == ""


def test_what_also_failed_before_the_command_is_not_laid_on_the_rollout() -> None:
    assert cause(bad(1, "502"), bad(4, "502")) == ""
    verdict = judge(many(bad(1, "502"), bad(4, "502")), during=(3.0, 6.0))
    assert seen_before(verdict.failures[0]) == "1 of them before the command started: the rollout is not the only cause"


def test_a_long_request_that_the_rollout_broke_is_laid_on_the_rollout() -> None:
    begun_before = Sample(2.0, 2.0, 4.0, Reply("cut body", "why"))
    assert cause(begun_before).startswith("the app was stopped while it worked")


def test_a_status_is_an_answer() -> None:
    assert meaning("418") == "the server answered with an error"
