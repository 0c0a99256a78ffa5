"""Is every event one line, and does logging never cost the proxy more than that line?"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.config.options import Config
from drainproxy.config.values import AccessLogFilter
from drainproxy.drain.ledger import Kind, Work
from drainproxy.drain.phase import Trigger
from drainproxy.observe.log import (
    MAX_LINE,
    AccessLog,
    Line,
    LineHandler,
    Sink,
    as_json,
    as_text,
    configure,
    line_of,
    termination_message,
)
from drainproxy.observe.meter import Meter
from drainproxy.observe.observer import Side, Tee
from drainproxy.protocol.reasons import Reason
from tests.support.control import ScriptedControl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = 'GET /\r\n{"level": "error"}\x1b[2J\u2028\ud800" x=1'


def record(event: str, /, level: int = logging.INFO, name: str = "drainproxy", **fields: object) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, event, (), None)
    made.fields = fields
    made.created = 1_800_000_000.25
    return made


def a_line(event: str, /, level: int = logging.INFO, name: str = "drainproxy", **fields: object) -> Line:
    return line_of(record(event, level, name, **fields))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """What `configure` changes is the process's: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def configured(writer: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """The log of a process whose standard error is this descriptor."""
    stream = os.fdopen(os.dup(writer), "w")
    monkeypatch.setattr(sys, "stderr", stream)
    log = configure(Config(**options))
    monkeypatch.undo()
    return log, stream


def lines_of(reader: int) -> list[str]:
    return os.read(reader, 1 << 20).decode().splitlines()


# --- lines ------------------------------------------------------------------------------------------------------------


def test_json_has_time_level_message_and_fields() -> None:
    line = as_json(a_line("drain began", trigger=Trigger.HTTP, deadline_s=24.00004, route=None, ok=True), 100)
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "msg": "drain began",
        "trigger": "http",
        "deadline_s": 24.0,
        "route": None,
        "ok": True,
    }


def test_text_is_for_people() -> None:
    line = as_text(a_line("drain began", level=logging.WARNING, trigger="http", why="two words", empty=""), 100)
    assert line == '2027-01-15T08:00:00.250Z WARNING drain began trigger=http why="two words" empty=""'


@pytest.mark.slow
@pytest.mark.parametrize("render", [as_json, as_text])
@given(event=st.text(), name=st.text(), number=st.floats())
def test_whatever_is_logged_stays_one_printable_line(render: Any, event: str, name: str, number: float) -> None:
    for hostile in (name, HOSTILE):
        line = render(a_line(event, target=hostile, number=number, nested={"a": [hostile]}), 100)
        assert line.isprintable()
        if render is as_json:
            assert json.loads(line, parse_constant=pytest.fail)["target"] == hostile[:100] + "…" * (len(hostile) > 100)


def test_libraries_lines_say_whose_they_are() -> None:
    assert json.loads(as_json(a_line("slow callback", name="asyncio"), 100))["logger"] == "asyncio"


def test_a_failure_names_the_error_and_the_place(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    log, stream = configured(pipe[1], monkeypatch)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log.failure({"message": "task x failed", "exception": error})
    log.failure({})
    first, second = [json.loads(line) for line in lines_of(pipe[0])]
    assert (first["level"], first["msg"], first["error"]) == ("error", "task x failed", "ValueError: two\nlines")
    assert first["where"][-1].startswith("test_log.py:")
    assert second["msg"] == "unhandled error"
    stream.close()


def test_a_line_that_is_too_long_is_cut_and_still_whole_json(pipe: tuple[int, int]) -> None:
    handler = LineHandler(Sink(pipe[1]), as_json)
    handler.emit(record("one long text", target="x" * 10_000))
    many: dict[str, Any] = {f"field{n}": "\x00" * 1000 for n in range(10)}
    handler.emit(record("many", **many))
    far_too_many: dict[str, Any] = {f"field{n}": n for n in range(2000)}
    handler.emit(record("far too many", **far_too_many))
    data = os.read(pipe[0], 1 << 20)
    lines = data.splitlines(keepends=True)
    assert all(len(line) <= MAX_LINE for line in lines)
    documents = [json.loads(line) for line in lines]
    assert documents[0]["target"] == "x" * 1500 + "…"
    assert len(documents[1]["field9"]) == 41
    assert documents[2] == {"time": documents[2]["time"], "level": "info", "msg": "far too many"}


# --- a standard error that does not work ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_full_standard_error_loses_lines_without_waiting_and_says_how_many(kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        ends = socket.socketpair()
        reader, writer = (end.detach() for end in ends)
    handler = LineHandler(Sink(writer), as_json)
    before = time.monotonic()
    for n in range(2000):
        handler.emit(record("line", n=n, padding="x" * 500))
    assert time.monotonic() - before < 5, "a write that blocks would never come back"
    got = b""
    while len(got) < 4000 or not got.endswith(b"\n"):
        got += os.read(reader, 1 << 20)
    os.set_blocking(reader, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            got += os.read(reader, 1 << 20)
    written = [json.loads(line) for line in got.splitlines()]
    assert [each["n"] for each in written] == list(range(len(written))), "whole lines, in order"
    handler.emit(record("again"))
    note, again = [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]
    assert (note["level"], note["msg"], note["lines"]) == ("warning", "log lines lost", 2000 - len(written))
    assert again["msg"] == "again"
    os.close(reader)
    os.close(writer)


def test_a_broken_pipe_costs_nothing_but_lines(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    sink = Sink(pipe[1])
    handler = LineHandler(sink, as_json)
    for _ in range(3):
        handler.emit(record("line"))
    assert sink.lost == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - a device, not a path to work on
def test_a_full_disk_costs_nothing_but_lines() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    sink = Sink(fd)
    LineHandler(sink, as_text).emit(record("line"))
    assert sink.lost == 1
    os.close(fd)


def test_without_a_standard_error_nothing_is_written_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure(Config()).info("lost")


# --- what is written --------------------------------------------------------------------------------------------------


def test_json_unless_on_a_terminal_or_asked_otherwise(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for options, is_json in (({}, True), ({"log_format": "text"}, False), ({"log_format": "json"}, True)):
        log, stream = configured(pipe[1], monkeypatch, **options)
        log.info("hello")
        (line,) = lines_of(pipe[0])
        assert line.startswith("{") is is_json
        stream.close()


def test_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    log, stream = configured(follower, monkeypatch)
    log.info("hello")
    assert b" INFO    hello\r\n" in os.read(leader, 1000)
    stream.close()
    os.close(leader)
    os.close(follower)


def test_the_log_level_holds_back_what_is_less_severe(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    log, stream = configured(pipe[1], monkeypatch, log_level="warning")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    assert [json.loads(line)["msg"] for line in lines_of(pipe[0])] == ["yes", "yes"]
    stream.close()


def drained() -> ScriptedControl:
    control = ScriptedControl()
    control.drain(Trigger.SIGTERM)
    control.wait(7)
    return control


def test_the_termination_message_is_the_summary(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = drained().last_drain
    assert summary is not None
    file = tmp_path / "termination-log"
    log, stream = configured(pipe[1], monkeypatch, termination_log=str(file))
    log.termination(summary)
    said, facts = file.read_text().splitlines()
    assert said == (
        "drained cleanly after 6.0s (nothing was in flight, and no more requests arrived): "
        "0 completed, 0 cut, 0 late, nothing arrived; "
        "trigger sigterm"
    )
    assert json.loads(facts) == {name: value for name, value in summary.items() if name != "advice"}
    stream.close()


def test_the_termination_message_says_what_to_do() -> None:
    control = ScriptedControl()
    held = control.open()
    control.drain(Trigger.HTTP)
    control.wait(25)
    summary = control.last_drain
    assert summary is not None
    assert control.ledger.idle, held
    _, cut, advice, facts = termination_message(summary).splitlines()
    assert cut == "cut: GET / after 24.0s, from 192.0.2.7"
    assert advice == "advice: the deadline cut 1 request in the drain, at 24s: set grace-period to 45s"
    assert summary["advice"] is not None
    assert json.loads(facts)["outcome"] == "forced"


def test_the_termination_message_is_never_longer_than_the_kubelet_keeps_whatever_was_cut() -> None:
    control = ScriptedControl()
    control.drain(Trigger.HTTP)
    for length in (10, 150, 100_000, 190, 199, 200):
        control.open("/" + length * "\x80\xff", method="M" * length)
    control.wait(25)
    summary = control.last_drain
    assert summary is not None
    message = termination_message(summary)
    assert len(message.encode()) <= 4096
    said = message.splitlines()
    facts = json.loads(said[-1])
    assert (facts["cut_total"], len(facts["cut"])) == (6, 5)
    assert said[6] == "cut: 1 more"
    assert all(line.isprintable() for line in said)


def test_a_drain_that_was_called_off_calls_for_nothing() -> None:
    control = ScriptedControl()
    control.drain(Trigger.HTTP)
    control.tick(3)
    control.resume()
    assert control.last_drain is not None
    assert control.last_drain["advice"] is None


def test_a_termination_message_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = drained().last_drain
    assert summary is not None
    log, stream = configured(pipe[1], monkeypatch, termination_log=str(tmp_path))
    log.termination(summary)
    (line,) = [json.loads(line) for line in lines_of(pipe[0])]
    assert (line["level"], line["msg"]) == ("warning", "termination log not written")
    stream.close()


# --- exchanges --------------------------------------------------------------------------------------------------------


def work(target: str = "/a?b=c") -> Work:
    made = Work(Kind.HTTP, "192.0.2.7")
    made.method, made.target = "GET", target
    return made


EXCHANGES = [
    (200, 0.01, True),
    (200, 2.0, True),
    (404, 0.01, True),
    (500, 0.01, True),
    (200, 0.01, False),
    (0, 0.01, False),
]


@pytest.mark.parametrize(
    ("option", "logged"),
    [
        (AccessLogFilter("all"), EXCHANGES),
        (AccessLogFilter("errors"), EXCHANGES[3:]),
        (AccessLogFilter("slow", 1.0), EXCHANGES[1:2]),
    ],
)
def test_the_access_log_has_what_was_asked_for(option: AccessLogFilter, logged: list[tuple[int, float, bool]]) -> None:
    lines: list[dict[str, object]] = []
    access = AccessLog(option, lines.append)
    for status, duration_s, completed in EXCHANGES:
        access.exchange(work(), status, duration_s, completed=completed)
    assert [(line["status"], line["duration_s"], line["completed"]) for line in lines] == logged


def test_without_an_access_log_nothing_more_is_called(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    log, stream = configured(pipe[1], monkeypatch)
    meter = Meter()
    assert log.with_access_log(meter) is meter
    stream.close()


def test_the_access_log_is_written_at_every_log_level_and_the_meter_counts_on(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stream = configured(pipe[1], monkeypatch, log_level="error", access_log=AccessLogFilter("all"))
    meter = Meter()
    observer = log.with_access_log(meter)
    observer.exchange(work(HOSTILE), 200, 0.0123456, completed=True)
    (line,) = lines_of(pipe[0])
    document = json.loads(line)
    del document["time"]
    assert document == {
        "level": "info",
        "msg": "request",
        "kind": "http",
        "method": "GET",
        "target": HOSTILE,
        "status": 200,
        "duration_s": 0.012,
        "client": "192.0.2.7",
        "completed": True,
    }
    assert meter.requests == 1
    stream.close()


def test_a_tee_hands_everything_else_on() -> None:
    meter = Meter()
    tee = Tee(meter, AccessLog(AccessLogFilter("all"), lambda _: None).exchange)
    tee.opened(Side.CLIENT)
    tee.transferred(1, 2)
    tee.rejected(Reason.AUTH)
    tee.upstream_error(Reason.TIMEOUT)
    tee.retried()
    assert meter.connections[Side.CLIENT] == 1
    assert (meter.received, meter.sent, meter.retries) == (1, 2, 1)
    assert (meter.rejections[Reason.AUTH], meter.upstream_errors[Reason.TIMEOUT]) == (1, 1)
