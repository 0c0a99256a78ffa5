"""Do drain, resume and status do what their help says, exit codes included?"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from drainproxy.cli import cli
from drainproxy.drain.ledger import Kind
from drainproxy.drain.phase import Trigger
from drainproxy.errors import AdminError, ConfigError
from drainproxy.observe.documents import status
from tests.support.control import ScriptedControl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUMMARY = {
    "trigger": "cli",
    "started_at": 1_800_000_000.0,
    "elapsed_s": 6.25,
    "deadline_in_s": 17.75,
    "floor_in_s": 0.0,
    "arrivals": 12,
    "late": 3,
    "handed_over": 0,
    "last_arrival_s": 5.1,
    "completed": 14,
    "aborted": 0,
    "departed": 0,
    "broken": 0,
    "lost": 0,
    "lost_work": [],
    "cut_total": 0,
    "cut": [],
    "outcome": "clean",
    "why": "nothing was in flight",
    "times": {},
    "advice": None,
}


class Scripted:
    """An admin port that gives one answer, and notes what it was asked."""

    def __init__(self, code: int, body: object) -> None:
        self.code = code
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.asked: list[tuple[str, str]] = []
        self.port = 0


@contextmanager
def admin(code: int, body: object) -> Iterator[Scripted]:
    script = Scripted(code, body)

    class Handler(BaseHTTPRequestHandler):
        def version_string(self) -> str:
            return "drainproxy"

        def answer(self) -> None:
            script.asked.append((self.command, self.path))
            self.send_response(script.code)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in http.server
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(script: Scripted, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"DRAINPROXY_ADMIN": f":{script.port}"})


# --- drain ------------------------------------------------------------------------------------------------------------


def test_drain_waits_and_prints_one_line() -> None:
    with admin(200, SUMMARY) as script:
        result = run(script, "drain")
    assert result.exit_code == 0
    assert result.output == (
        "drained cleanly after 6.2s (nothing was in flight): 14 completed, 0 cut, 3 late, "
        "last arrival 5.1s after the trigger; trigger cli\n"
    )
    assert script.asked == [("POST", "/drain?trigger=cli")]


def test_a_drain_that_ended_while_requests_came_is_exit_code_0_and_says_so() -> None:
    with admin(200, {**SUMMARY, "outcome": "still-arriving", "why": "requests still arrived"}) as script:
        result = run(script, "drain")
    assert result.exit_code == 0
    assert result.output.startswith("drained while requests still arrived after 6.2s (requests still arrived)")


def test_drain_can_leave_at_once() -> None:
    with admin(202, {**SUMMARY, "outcome": None, "deadline_in_s": 24.0}) as script:
        result = run(script, "drain", "--no-wait")
    assert (result.exit_code, result.output.split(";")[0]) == (0, "draining: at most 24.0s")
    assert script.asked == [("POST", "/drain?trigger=cli&wait=0")]


@pytest.mark.parametrize(("code", "outcome"), [(504, "forced"), (409, "resumed")])
def test_a_drain_that_lost_work_or_was_called_off_is_exit_code_1(code: int, outcome: str) -> None:
    with admin(code, {**SUMMARY, "outcome": outcome, "aborted": 2}) as script:
        assert run(script, "drain").exit_code == 1
        result = run(script, "drain", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["outcome"] == outcome


def test_what_was_cut_is_listed_and_how_much_more() -> None:
    lost = {
        "kind": "http",
        "method": "GET",
        "target": "/\x1b[2J",
        "age_s": 23.9,
        "client": "192.0.2.7",
        "client_left": False,
    }
    with admin(504, {**SUMMARY, "outcome": "forced", "cut_total": 4, "cut": [lost, lost]}) as script:
        lines = run(script, "drain").output.splitlines()
    assert ", 4 cut, " in lines[0]
    assert lines[1:] == ["cut: GET /?[2J after 23.9s, from 192.0.2.7"] * 2 + ["cut: 2 more"]


@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (200, {"outcome": "clean"}, "another version"),
        (200, {**SUMMARY, "outcome": "new"}, "another version"),
        (503, b"too many wait", "unexpected answer 503: too many wait"),
        (401, b"send the token", "refuses: send the token"),
        (200, b"<html>", "not an answer from drainproxy"),
    ],
)
def test_an_answer_that_is_none_is_an_error_in_one_line(code: int, body: object, says: str) -> None:
    with admin(code, body) as script:
        result = run(script, "drain")
    assert isinstance(result.exception, AdminError)
    assert result.exception.exit_code == 1
    assert says in str(result.exception)


def test_options_that_cannot_be_used_are_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ["drain", "--admin", "nonsense"],
        ["drain", "--timeout", "soon"],
        ["drain", "--drain-token", "two\nlines"],
        ["resume", "--drain-token-file", str(tmp_path / "none")],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert isinstance(result.exception, ConfigError), arguments
        assert result.exception.exit_code == 2
        assert "two\nlines" not in str(result.exception)


def test_the_token_comes_from_flag_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    tokens: list[str | None] = []

    def note(*_: object, token: str | None, **__: object) -> None:
        tokens.append(token)
        raise AdminError("enough")

    monkeypatch.setattr("drainproxy.cli._admin.ask", note)
    environ = {"DRAINPROXY_DRAIN_TOKEN": "of-the-environment", "DRAINPROXY_DRAIN_TOKEN_FILE": str(file)}
    for arguments, variables in (
        (["drain"], {}),
        (["drain"], {"DRAINPROXY_DRAIN_TOKEN_FILE": str(file)}),
        (["drain"], environ),
        (["drain", "--drain-token-file", str(file)], environ),
        (["resume", "--drain-token", "of-the-flag"], environ),
        (["status"], environ),
    ):
        CliRunner().invoke(cli, arguments, env=variables)
    assert tokens == [None, "of-the-file", "of-the-environment", "of-the-file", "of-the-flag", None]


# --- resume -----------------------------------------------------------------------------------------------------------


def test_resume_says_what_state_follows() -> None:
    with admin(200, b"ready\n") as script:
        result = run(script, "resume")
    assert (result.exit_code, result.output) == (0, "ready\n")
    assert script.asked == [("POST", "/resume")]


def test_a_resume_that_comes_too_late_is_an_error() -> None:
    with admin(409, b"SIGTERM was received\n") as script:
        result = run(script, "resume")
    assert str(result.exception) == "SIGTERM was received"


# Upgrade.


def test_an_upgrade_says_who_serves_then() -> None:
    with admin(200, {"pid": 7, "generation": 2}) as script:
        result = run(script, "upgrade", "--exec", "/opt/a b/drainproxy")
    assert (result.exit_code, result.output) == (0, "upgraded: generation 2 serves, pid 7; the old one drains\n")
    assert script.asked == [("POST", "/upgrade?exec=/opt/a%20b/drainproxy")]


def test_an_upgrade_that_was_refused_is_an_error() -> None:
    with admin(409, b"a drain runs\n") as script:
        result = run(script, "upgrade")
    assert isinstance(result.exception, AdminError)
    assert str(result.exception) == "a drain runs"


# --- status -----------------------------------------------------------------------------------------------------------


def document(control: ScriptedControl) -> dict[str, object]:
    return status(control) | {"totals": {"requests": 1, "bytes_in": 2, "bytes_out": 3}}


def test_status_shows_the_processes_of_the_app_the_generation_and_a_hold() -> None:
    control = ScriptedControl()
    control.generation = 3
    control.children = lambda: [{"pid": 7, "number": 2, "state": "serving", "address": "127.0.0.1:8080"}]
    control.hold = lambda: {"waiting": 4, "ends_in_s": 12.0}
    with admin(200, document(control)) as script:
        lines = run(script, "status").output.splitlines()
    assert lines[0].endswith(", generation 3")
    assert "process      2 of the app, pid 7, on 127.0.0.1:8080: serving" in lines
    assert "hold         4 requests wait; it ends in 12.0s at the latest" in lines


def test_status_is_one_screen_for_people() -> None:
    control = ScriptedControl()
    control.open("/report\x1b[2J\r\nfake: line", client="192.0.2.7")
    control.drain(Trigger.HTTP)
    control.tick(8)
    control.open(kind=Kind.WEBSOCKET)
    with admin(200, document(control)) as script:
        result = run(script, "status")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("draining for ")
    assert ", finishing" in lines[0]
    assert lines[2] == "app          :9080 -> 127.0.0.1:8080   healthy: accepts connections"
    assert lines[3] == "in flight    2   1 http, 1 websocket"
    assert lines[5] == "drain        [#############...........................] 8.0s, past the floor, deadline in 16.0s"
    assert lines[6] == "             trigger http; 1 arrivals, the last 8.0s after the trigger; 1 late"
    assert lines[9] == "     8.0s  http       GET /report?[2J??fake: line   from 192.0.2.7"
    assert len(lines) == 11


def test_a_status_without_drain_is_short() -> None:
    with admin(200, document(ScriptedControl())) as script:
        lines = run(script, "status").output.splitlines()
    assert lines[0].startswith("ready for ")
    assert len(lines) == 5


def test_status_as_json_is_the_document_of_the_contract() -> None:
    expected = status(ScriptedControl())
    with admin(200, document(ScriptedControl())) as script:
        result = run(script, "status", "--json")
    assert json.loads(result.output) == json.loads(json.dumps(expected))


def test_a_status_of_another_version_is_an_error_in_one_line() -> None:
    with admin(200, {"state": "ready"}) as script:
        assert "another version" in str(run(script, "status").exception)


def test_watch_shows_it_again_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("drainproxy.cli.status.time.sleep", nap)
    with admin(200, document(ScriptedControl())) as script:
        result = run(script, "status", "--watch", "--json")
        assert result.exit_code == 0
        assert [json.loads(line)["state"] for line in result.output.splitlines()] == ["ready"] * 3
        naps.clear()
        result = run(script, "status", "--watch")
    assert result.exit_code == 0
    assert result.output.count("ready for ") == 3


def test_on_a_terminal_watch_redraws_in_place_with_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    printed: list[str] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("drainproxy.cli.status.time.sleep", nap)
    monkeypatch.setattr("drainproxy.cli.status.click.echo", printed.append)

    from drainproxy.cli import _admin  # noqa: PLC0415 - beside the module that is patched
    from drainproxy.cli import status as module  # noqa: PLC0415

    with admin(200, document(ScriptedControl())) as script:
        flags = {"admin": f":{script.port}", "timeout": None}
        module._live(_admin.admin_of(flags, "5s"))
    first, second = printed
    assert not first.startswith("\x1b[5F")
    assert second.startswith(f"\x1b[{len(first.splitlines())}F\x1b[J")
    assert "rates" not in first
    assert "rates        0.0 requests/s" in second
