"""Was the measurement a success? One answer for the headline, every report and the exit code.

Arithmetic only, over the samples, the command and the limits that were set.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from drainproxy.tools.probe.verdict import ENOUGH, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drainproxy.tools.probe.measure import Command, Measurement, Result
    from drainproxy.tools.probe.verdict import Verdict


class Grade(Enum):
    """How a measurement ended; the values are exit codes. UNSURE: it cannot say whether requests are lost."""

    PASSED = 0
    FAILED = 1
    UNSURE = 2


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many failures are allowed: a number, or a share (0..1) of all requests."""

    count: int = 0
    share: float | None = None

    def holds(self, failed: int, sent: int) -> bool:
        return failed <= (self.count if self.share is None else self.share * sent)

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{self.share * 100:g}%"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still a success. `max_p99_s` holds for each phase with good answers."""

    max_failed: Allowance = Allowance()
    max_p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the run and its answer; `problem` is empty if all was well, `grade` what it means if not."""

    name: str
    problem: str = ""
    grade: Grade = Grade.FAILED


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer. `checks` are all that were made, of every target; `headline` is one sentence."""

    grade: Grade
    headline: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return self.grade is Grade.PASSED

    @property
    def problems(self) -> list[str]:
        return [check.problem for check in self.checks if check.problem]


def outcome_of(measurement: Measurement, limits: Limits) -> Outcome:
    """A failure is proven whatever else is in doubt, so FAILED outranks UNSURE."""
    several = len(measurement.results) > 1
    checks = [
        check for result in measurement.results for check in _checks(result, limits, result.target if several else "")
    ]
    if measurement.command_due:
        checks.append(_command(measurement.command))
    grades = {check.grade for check in checks if check.problem}
    grade = next((each for each in (Grade.FAILED, Grade.UNSURE) if each in grades), Grade.PASSED)
    return Outcome(grade, _headline(measurement, checks, grade), tuple(checks))


def _checks(result: Result, limits: Limits, target: str) -> Iterable[Check]:
    verdict = result.verdict
    prefix = f"{target}: " if target else ""
    yield Check(f"{prefix}requests were sent", "" if verdict.sent else f"{prefix}{_summary(verdict)}", Grade.UNSURE)
    yield _losses(verdict, limits, prefix)
    yield _rate(verdict, prefix)
    if limits.max_p99_s is not None:
        yield from _latencies(verdict, limits.max_p99_s, prefix)


def _losses(verdict: Verdict, limits: Limits, prefix: str) -> Check:
    name = f"{prefix}failed requests, at most {limits.max_failed}"
    if limits.max_failed.holds(verdict.failed, verdict.sent):
        return Check(name)
    ours = sum(each.count for each in verdict.failures if each.name == LOCAL)
    theirs = not limits.max_failed.holds(verdict.failed - ours, verdict.sent)
    return Check(name, prefix + _summary(verdict), Grade.FAILED if theirs else Grade.UNSURE)


def _rate(verdict: Verdict, prefix: str) -> Check:
    pace = verdict.pace
    name = f"{prefix}rate, at least {ENOUGH * 100:g}% of what was asked for"
    if pace.reached:
        return Check(name)
    problem = (
        f"{prefix}only {pace.achieved_per_s:.0f} of {pace.asked_per_s:.0f} requests/s could be sent: this machine is "
        "too slow for --rate, so this is not a valid result"
    )
    return Check(name, problem, Grade.UNSURE)


def _latencies(verdict: Verdict, limit_s: float, prefix: str) -> Iterable[Check]:
    for each in verdict.latency:
        if each.sent > each.failed:
            problem = f"{prefix}the p99 of {each.phase} was {each.p99_s * 1000:.0f} ms, above {limit_s * 1000:.0f} ms"
            name = f"{prefix}p99 of {each.phase}, at most {limit_s * 1000:.0f} ms"
            yield Check(name, problem if each.p99_s > limit_s else "")


def _command(command: Command | None) -> Check:
    name = "the command succeeds"
    if command is None:
        return Check(name, "the run was stopped before the command started", Grade.UNSURE)
    if command.stopped:
        return Check(name, "the run was stopped before the command had ended", Grade.UNSURE)
    problem = f"the command failed (exit code {command.exit_code}), so this says little about a rollout"
    return Check(name, problem if command.exit_code else "")


def _headline(measurement: Measurement, checks: Sequence[Check], grade: Grade) -> str:
    problems = [check.problem for check in checks if check.problem and check.grade is grade]
    if problems:
        more = len([check for check in checks if check.problem]) - 1
        first = problems[0] if len(measurement.results) > 1 else problems[0][0].upper() + problems[0][1:]
        return f"{first}{f' (and {more} more)' if more else ''}."
    if len(measurement.results) == 1:
        return f"{_summary(measurement.results[0].verdict)}."
    sent = sum(result.verdict.sent for result in measurement.results)
    return f"Within the limits: {sent} requests sent to {len(measurement.results)} targets."


def _summary(verdict: Verdict) -> str:
    """What the samples of one target say, in one clause."""
    if verdict.sent == 0:
        return "nothing was measured: no request ended"
    if verdict.failed == 0:
        return f"No request was lost: {verdict.sent} sent, {verdict.sent} answered in full"
    classes = ", ".join(f"{each.count} {each.name}" for each in verdict.failures)
    if verdict.failed == verdict.sent:
        return f"every request failed ({verdict.sent}): {classes}. Is the address right?"
    return f"{verdict.failed} of {verdict.sent} requests failed ({100 * verdict.failed / verdict.sent:.2g}%): {classes}"
