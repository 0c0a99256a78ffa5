"""How does drainproxy write things down? One line an event, JSON or text, and never at the proxy's expense.

A line is written whole or not at all, without waiting: a standard error that is full, broken or closed costs lines, and
nothing else. The next line that gets through says how many.
"""

from __future__ import annotations

import json
import logging
import math
import select
import sys
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from os import write
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from drainproxy.observe.documents import loss_lines, sentence
from drainproxy.observe.observer import Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drainproxy.config.options import Config
    from drainproxy.config.values import AccessLogFilter
    from drainproxy.drain.ledger import Work
    from drainproxy.observe.documents import LostWork, Summary
    from drainproxy.observe.observer import Observer

MAX_LINE = 4096
"""Bytes of a line: what Linux takes whole from a pipe that poll(2) calls writable (PIPE_BUF, pipe(7))."""
SHORTER = (1500, 200, 40)
"""Characters of each text in a line, tried in this order until the line fits."""
TARGETS = (200, 60, 20)
"""Characters of each target in a termination message, tried in this order until the message fits."""
MAX_TERMINATION_MESSAGE = 4096
"""Bytes. The kubelet keeps the last so many (MaxContainerTerminationMessageLength)."""
TERMINATION_LOG = Path("/dev/termination-log")
SERVER_ERROR = 500


class Log:
    """The process's log. Fields are facts by name: `log.info("drain began", trigger="http", deadline_s=24.0)`.

    `lines` takes the access log: only what `configure` returns has it.
    """

    def __init__(self, config: Config, lines: LineHandler | None = None) -> None:
        self._config = config
        self._lines = lines
        self._logger = logging.getLogger("drainproxy")

    def set_level(self, level: str) -> None:
        """The least severe line written from now on."""
        logging.getLogger().setLevel(level.upper())

    def debug(self, event: str, /, **fields: object) -> None:
        """For whoever looks for a fault in drainproxy."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, /, **fields: object) -> None:
        """What happened, in the normal course of things."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, /, **fields: object) -> None:
        """Someone should look at this, in the morning."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, /, exception: BaseException | None = None, **fields: object) -> None:
        """Something failed. `exception` adds its traceback."""
        self._logger.error(event, exc_info=exception, extra={"fields": fields})

    def failure(self, context: Mapping[str, Any]) -> None:
        """What asyncio hands to a loop's exception handler: a bug, or a resource that has run out."""
        self.error(str(context.get("message", "unhandled error")), context.get("exception"))

    def termination(self, summary: Summary) -> None:
        """Leave the drain's summary where `kubectl describe pod` shows it (the container's termination message).

        First a sentence for people, then what was cut and the advice, if there is any, last the facts as JSON: for
        `drainproxy advise`.
        """
        chosen = self._config.termination_log
        path = Path(chosen) if chosen else TERMINATION_LOG
        if not chosen and not path.exists():
            return
        try:
            path.write_text(termination_message(summary), encoding="utf-8")
        except OSError as error:
            self.warning("termination log not written", path=path, reason=error.strerror)

    def with_access_log(self, observer: Observer) -> Observer:
        """The observer itself when `--access-log` is off: nothing more is called for a request.

        The lines do not pass through logging, which would take almost half of their CPU (docs/benchmarks.md). So they
        are also written whatever `--log-level` says.
        """
        option, lines = self._config.access_log, self._lines
        if option.mode == "off":
            return observer
        assert lines is not None, "configure() made this log"
        access = AccessLog(option, lambda fields: lines.write(Line(time(), "info", "request", fields)))
        return Tee(observer, access.exchange)


def termination_message(summary: Summary) -> str:
    """A line each: what happened, what was cut or lost, what to do about it, and the facts. Short enough to be kept."""
    for most in TARGETS:
        cut, lost = _shorter(summary["cut"], most), _shorter(summary["lost_work"], most)
        message = _termination_message({**summary, "cut": cut, "lost_work": lost})
        if len(message.encode()) <= MAX_TERMINATION_MESSAGE:
            return message
    return _termination_message({**summary, "cut": [], "lost_work": []})


def _shorter(works: list[LostWork], most: int) -> list[LostWork]:
    return [{**work, "target": _short(work["target"], most)} for work in works]


def _termination_message(summary: Summary) -> str:
    advice = summary["advice"]
    facts = {name: value for name, value in summary.items() if name != "advice"}
    advised = [f"advice: {advice}"] if advice else []
    lines = [sentence(summary), *loss_lines(summary), *advised, json.dumps(facts, separators=(",", ":"))]
    return "\n".join(lines) + "\n"


def configure(config: Config) -> Log:
    """Send every log line of the process, libraries' too, to standard error in the chosen format."""
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    text = config.log_format == "text" or (config.log_format is None and terminal)
    # No standard error at start: its number may be a client's socket by now, so nothing is written to it.
    sink = Sink(None if stream is None else stream.fileno())
    root = logging.getLogger()
    lines = LineHandler(sink, as_text if text else as_json)
    root.handlers = [lines]
    log = Log(config, lines)
    log.set_level(config.log_level)
    return log


class Sink:
    """A file descriptor that lines go to. Never waits, never raises. `lost` counts what it did not take."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._poll = select.poll()
        if fd is not None:
            self._poll.register(fd, select.POLLOUT)
        self.lost = 0

    def put(self, line: bytes) -> bool:
        """Write at most MAX_LINE bytes, or lose them."""
        try:
            if self._fd is not None and any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                write(self._fd, line)
                return True
        except OSError:
            pass
        self.lost += 1
        return False


@dataclass(slots=True)
class Line:
    """What is written: when (seconds since the epoch), a level's name in lower case, what happened, facts by name."""

    at: float
    level: str
    event: str
    fields: dict[str, object]


class LineHandler(logging.Handler):
    """The way to the sink: logging's, and for lines that are made without it."""

    def __init__(self, sink: Sink, render: Callable[[Line, int], str]) -> None:
        super().__init__()
        self._sink = sink
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        self.write(line_of(record))

    def write(self, line: Line) -> None:
        """Write a line; if lines were lost before, say so first."""
        lost = self._sink.lost
        if lost:
            if not self._sink.put(self._rendered(Line(line.at, "warning", "log lines lost", {"lines": lost}))):
                return
            self._sink.lost = 0
        self._sink.put(self._rendered(line))

    def _rendered(self, line: Line) -> bytes:
        for most in SHORTER:
            text = self._render(line, most).encode() + b"\n"
            if len(text) <= MAX_LINE:
                return text
        return self._render(replace(line, fields={}), SHORTER[-1]).encode() + b"\n"


def line_of(record: logging.LogRecord) -> Line:
    return Line(record.created, record.levelname.lower(), record.getMessage(), _fields(record))


def as_json(line: Line, most: int) -> str:
    """One JSON object; texts are cut to `most` characters. Everything that is not printable ASCII is escaped."""
    document = {"time": _time(line.at), "level": line.level, "msg": _short(line.event, most)}
    document |= {name: _plain(value, most) for name, value in line.fields.items()}
    return json.dumps(document)


def as_text(line: Line, most: int) -> str:
    """One line for people: time, level, event, `name=value` pairs; values that could mislead are quoted."""
    pairs = [f"{name}={_word(_plain(value, most))}" for name, value in line.fields.items()]
    event = _visible(_short(line.event, most))
    return " ".join([_time(line.at), f"{line.level.upper():<7}", event, *pairs])


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    if record.name.partition(".")[0] != "drainproxy":
        fields["logger"] = record.name
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = f"{type(error).__name__}: {error}"
        fields["where"] = [
            f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)
        ]
    return fields


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object, most: int) -> Any:
    """The value in JSON's terms."""
    plain: object
    match value:
        case None | bool() | int():
            plain = value
        case float() if math.isfinite(value):
            plain = round(value, 3)
        case Enum():
            plain = value.value
        case dict():
            plain = {str(key): _plain(each, most) for key, each in value.items()}
        case list() | tuple():
            plain = [_plain(each, most) for each in value]
        case _:
            plain = _short(str(value), most)
    return plain


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _word(value: object) -> str:
    """As it is if that is one plain word, else as JSON."""
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' "='):
        return value
    return json.dumps(value, ensure_ascii=not (isinstance(value, str) and value.isprintable()))


def _visible(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


class AccessLog:
    """A line for each exchange that `--access-log` asks for."""

    def __init__(self, option: AccessLogFilter, put: Callable[[dict[str, object]], None]) -> None:
        self._option = option
        self._put = put

    def exchange(self, work: Work, status: int, duration_s: float, *, completed: bool) -> None:
        match self._option.mode:
            case "errors" if completed and 0 < status < SERVER_ERROR:
                return
            case "slow" if duration_s < self._option.slow_s:
                return
        more: dict[str, object] = {"trace_id": work.trace} if work.trace else {}
        if work.handed_over:
            more["handed_over"] = True
        self._put(
            {
                "kind": work.kind,
                "method": work.method,
                "target": work.target,
                "status": status,
                "duration_s": duration_s,
                "client": work.client,
                "completed": completed,
                **more,
            }
        )
