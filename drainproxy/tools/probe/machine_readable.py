"""How does a script read a measurement? JSON for all of it, JSON Lines for each request, JUnit for CI."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drainproxy.tools.probe.causes import likely_cause, meaning

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.tools.probe.measure import Measurement, Result
    from drainproxy.tools.probe.outcome import Outcome
    from drainproxy.tools.probe.verdict import Bucket, FailureClass, Latency, Sample

    Clock = Callable[[float], str]


def as_json(measurement: Measurement, outcome: Outcome) -> dict[str, object]:
    """Everything that a report shows. Times are seconds since `started_at`, latencies milliseconds."""

    def clock(seconds: float) -> str:
        return datetime.fromtimestamp(measurement.started_at + seconds, UTC).isoformat(timespec="milliseconds")

    return {
        "ok": outcome.ok,
        "verdict": outcome.headline,
        "exit_code": outcome.grade.value,
        "problems": outcome.problems,
        "started_at": clock(0),
        "interrupted": measurement.interrupted,
        "command": asdict(measurement.command) if measurement.command else None,
        "targets": [_target(result, clock) for result in measurement.results],
    }


def _target(result: Result, clock: Clock) -> dict[str, object]:
    verdict = result.verdict
    return {
        "target": result.target,
        "sent": verdict.sent,
        "failed": verdict.failed,
        "retried": verdict.retried,
        "unchecked": verdict.unchecked,
        "unfinished": verdict.unfinished,
        "length_s": _round(verdict.length_s),
        "rate": {"asked": _round(verdict.pace.asked_per_s), "achieved": _round(verdict.pace.achieved_per_s)},
        "failures": [
            {**_failure(each, clock), "likely_cause": likely_cause(each, verdict) or None} for each in verdict.failures
        ],
        "latency": {each.phase: _latency(each) for each in verdict.latency},
        "longest_s": _round(verdict.longest_s),
        "sender_late_ms": _round(verdict.late_s * 1000),
        "pods": dict(verdict.pods),
        "timeline": [_bucket(each) for each in verdict.buckets],
    }


def _failure(each: FailureClass, clock: Clock) -> dict[str, object]:
    return {
        "class": each.name,
        "count": each.count,
        "by_phase": dict(each.phases),
        "on_reused_connection": each.reused,
        "first_s": _round(each.first_s),
        "first_at": clock(each.first_s),
        "last_s": _round(each.last_s),
        "last_at": clock(each.last_s),
        "example": each.example,
        "meaning": meaning(each.name),
    }


def _latency(each: Latency) -> dict[str, object]:
    values = {"p50": each.p50_s, "p90": each.p90_s, "p99": each.p99_s, "max": each.max_s}
    return {
        "sent": each.sent,
        "failed": each.failed,
        **{f"{name}_ms": _round(value * 1000) for name, value in values.items()},
    }


def _bucket(each: Bucket) -> dict[str, object]:
    values = {"p50": each.p50_s, "p99": each.p99_s, "worst": each.worst_s}
    return {
        "at_s": _round(each.start_s),
        "sent": each.sent,
        "failed": each.failed,
        **{f"{name}_ms": _round(value * 1000) for name, value in values.items()},
    }


def sample_line(target: str, sample: Sample) -> str:
    """One request as a line of JSON Lines. Times are seconds since the first request was due."""
    reply = sample.reply
    return json.dumps(
        {
            "target": target,
            "due_s": _round(sample.due_s),
            "sent_s": _round(sample.sent_s),
            "end_s": _round(sample.end_s),
            "class": reply.fault or None,
            "detail": reply.detail or None,
            "status": reply.status or None,
            "pod": reply.pod or None,
            "bytes": reply.size,
            "reused": reply.reused,
            "retried": reply.retried,
        }
    )


def as_junit(measurement: Measurement, outcome: Outcome) -> str:
    """One test case for each check; one that leaves the answer open is an error, not a failure."""
    failures = sum(bool(check.problem) and check.grade.value == 1 for check in outcome.checks)
    errors = len(outcome.problems) - failures
    seconds = max(result.verdict.length_s for result in measurement.results)
    suite = ET.Element(
        "testsuite",
        name="drainproxy probe",
        tests=str(len(outcome.checks)),
        failures=str(failures),
        errors=str(errors),
        time=f"{seconds:.3f}",
    )
    for check in outcome.checks:
        case = ET.SubElement(suite, "testcase", classname="drainproxy.probe", name=check.name)
        if check.problem:
            ET.SubElement(case, "failure" if check.grade.value == 1 else "error", message=_printable(check.problem))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    """XML 1.0 has no place for control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _round(value: float) -> float:
    return round(value, 3)
