"""`drainproxy probe` as a user and as CI runs it: output, files, exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.cluster.plain_app import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--before", "300ms", "--after", "300ms")


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drainproxy", "probe", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_rollout_without_loss_is_exit_code_0(url: str) -> None:
    done = probe(url, *QUICK, "--", "sh", "-c", "echo rolling; sleep 0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("✓ No request was lost")
    assert "│ rolling" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_failed_request_is_exit_code_1() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        done = probe(f"http://127.0.0.1:{held.getsockname()[1]}/", "--duration", "300ms")
    assert done.returncode == 1
    assert "Every request failed" in done.stdout
    assert "refused" in done.stdout


def test_a_command_that_fails_is_exit_code_1_although_no_request_was_lost(url: str) -> None:
    done = probe(url, *QUICK, "--", "false")
    assert done.returncode == 1
    assert done.stdout.strip().startswith("✗ The command failed (exit code 1)")
    assert json.loads(probe(url, *QUICK, "-o", "json", "--", "false").stdout)["ok"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ("ftp://127.0.0.1/",),
        ("127.0.0.1:8080",),
        ("http://127.0.0.1/", "--rate", "0"),
        ("http://127.0.0.1/", "--rate", "many"),
        ("http://127.0.0.1/", "--duration", "soon"),
        ("http://127.0.0.1/", "--fresh", "150%"),
        ("http://127.0.0.1/", "--ok", "fine"),
        ("http://127.0.0.1/", "--connections", "0"),
        ("http://127.0.0.1/", "-H", "no colon"),
        ("http://127.0.0.1/", "--body", "@/no/such/file"),
        ("http://127.0.0.1/", "--max-failed", "few"),
        ("http://127.0.0.1/", "--until-stopped", "--duration", "1s"),
        ("http://127.0.0.1/", "--until-stopped", "--", "true"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1/", "true"),
        ("http://127.0.0.1:port/",),
        ("ws://127.0.0.1/", "--http2"),
        ("https://127.0.0.1/", "--cacert", "/no/such/file"),
        ("https://127.0.0.1/", "--cacert", "/dev/null"),
        ("https://127.0.0.1/", "--cert", "/no/such/file"),
        ("https://127.0.0.1/", "--key", "/no/such/file"),
        ("grpcs://127.0.0.1/", "--insecure"),
        ("http://127.0.0.1/", "--html", "/no/such/directory/report.html"),
        ("http://127.0.0.1/", "--junit", "/no/such/directory/report.xml"),
        ("http://127.0.0.1/", "--", "no-such-program-anywhere"),
        (),
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_code_2_and_one_clear_message(arguments: tuple[str, ...]) -> None:
    done = probe(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_json_is_all_of_stdout(url: str) -> None:
    done = probe(url, "--json", *QUICK, "--", "true")
    data = json.loads(done.stdout)
    (target,) = data["targets"]
    assert (done.returncode, data["ok"], target["target"], target["failed"]) == (0, True, url, 0)
    assert data["command"]["argv"] == ["true"]
    assert target["sent"] >= 10


def test_files_are_written_beside_the_report(url: str, tmp_path: Path) -> None:
    page, junit, lines = tmp_path / "report.html", tmp_path / "report.xml", tmp_path / "requests.jsonl"
    done = probe(url, "--duration", "500ms", "--html", str(page), "--junit", str(junit), "--jsonl", str(lines))
    assert done.returncode == 0
    assert "No request was lost" in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert '<testcase classname="drainproxy.probe"' in junit.read_text()
    requests = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(requests) >= 10
    assert {each["status"] for each in requests} == {200}


def test_several_targets_are_measured_at_once_and_judged_together(url: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{held.getsockname()[1]}/"
        done = probe(url, closed, "-o", "json", "--duration", "500ms")
    data = json.loads(done.stdout)
    assert (done.returncode, data["ok"]) == (1, False)
    assert [(each["target"], bool(each["failed"])) for each in data["targets"]] == [(url, False), (closed, True)]
    assert data["verdict"].startswith(f"{closed}: every request failed")


def test_a_rate_that_this_machine_cannot_send_is_exit_code_2_and_says_so(url: str) -> None:
    done = probe(url, "--rate", "200000", "--timeout", "5s", "--fresh", "0%", "--duration", "300ms", "--ok", "200-599")
    assert done.returncode in (1, 2)  # 1: the little server may drop connections under such a storm
    assert "requests/s could be sent: this machine is too slow for --rate" in done.stdout


def test_limits_decide_what_a_success_is(url: str) -> None:
    done = probe(url, "--duration", "300ms", "--max-p99", "1ms")
    assert done.returncode == 1
    assert "The p99 of whole run was " in done.stdout
    assert probe(url + "missing", "--ok", "404", "--duration", "300ms", "--max-failed", "100%").returncode == 0


def test_posts_with_a_body_and_headers(url: str, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 100_000)
    done = probe(url, "-X", "POST", "-d", f"@{body}", "-H", "Content-Type: text/plain", "--duration", "500ms")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", [("probe", "http://127.0.0.1/"), ("demo",)], ids=["probe", "demo"])
def test_without_rich_both_commands_say_what_to_install(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not here', name='rich')\n")
    path = os.pathsep.join((str(tmp_path), *sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "drainproxy", *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "drainproxy: this command needs the package rich: pip install rich"


def test_on_a_terminal_the_view_is_live_and_ctrl_c_ends_with_the_report(url: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "drainproxy", "probe", url, "--rate", "50"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        start_new_session=True,
    )
    os.close(theirs)
    said, interrupted = b"", False
    try:
        while chunk := _read(ours):
            said += chunk
            if not interrupted and b"in flight" in said and b" ended, 0 failed" in said:
                interrupted = True
                process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = said.decode()
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert "No request was lost" in text
    assert "ended early, on request" in text


def test_until_stopped_runs_on_and_sigterm_tells_what_it_waits_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        with subprocess.Popen(
            [sys.executable, "-m", "drainproxy", "probe", url, "--until-stopped"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                kept, _ = mute.accept()
                process.send_signal(signal.SIGTERM)
                assert process.stderr is not None
                heard = next(line for line in process.stderr if "waiting" in line)
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=20)
            finally:
                process.kill()
                kept.close()
    assert "in flight, 30 s at most; Ctrl-C: do not wait" in heard
    assert process.returncode == 2, err
    assert "Nothing was measured: no request ended." in out
    assert "had not ended at the end of the measurement" in out


def _read(descriptor: int) -> bytes:
    """What the terminal shows next; nothing once the other side is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_help_teaches() -> None:
    done = probe("--help")
    assert done.returncode == 0
    for part in ("kubectl rollout restart", "rollout status", "Exit code", "grpc://", "ws"):
        assert part in done.stdout, part
