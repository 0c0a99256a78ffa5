"""As a unit of systemd: sockets that it opened, and what it is told. Its own socket activator, a real notify socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.support.apps import HERE, accepts, free_port, http_server, need
from tests.support.generations import AS_HEIR, upgrade
from tests.support.pids import parent
from tests.support.proxy import QUICK, Proxy, run_around, serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


class Heard:
    """What a service manager has been told."""

    def __init__(self, sock: socket.socket) -> None:
        self.lines: list[str] = []
        self._sock = sock
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._sock.recv(4096):
            self.lines += message.decode().split("\n")

    def await_line(self, start: str) -> str:
        found: str = wait_for(lambda: next((line for line in self.lines if line.startswith(start)), None), start)
        return found

    def close(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", path)
        self._thread.join()


@contextmanager
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        heard = Heard(sock)
        try:
            yield heard
        finally:
            heard.close(path)


def test_the_service_manager_hears_ready_reload_drain_and_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with http_server() as app, service_manager(tmp_path, monkeypatch) as heard, serve(app) as proxy:
        heard.await_line("READY=1")
        heard.await_line("STATUS=ready")
        heard.await_line("WATCHDOG=1")
        proxy.signal(signal.SIGHUP)
        heard.await_line("RELOADING=1")
        wait_for(lambda: heard.lines[heard.lines.index("RELOADING=1") :].count("READY=1") == 1, "the end of the reload")
        with Wire(proxy.address) as wire:
            wire.get("/sleep/2")
            wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
            proxy.signal(signal.SIGTERM)
            heard.await_line("STOPPING=1")
            heard.await_line("STATUS=finishing: in flight 1 http; deadline in ")
            assert 0 < int(heard.await_line("EXTEND_TIMEOUT_USEC=").partition("=")[2]) <= 21_000_000
            assert wire.response()[0] == 200
        assert proxy.wait() == 0


def test_sockets_that_systemd_opened_are_served_by_their_addresses() -> None:
    activate = need("systemd-socket-activate", "systemd")
    data, admin = free_port(), free_port()
    with http_server() as app:
        options = {"listen": f":{data}", "admin": f"127.0.0.1:{admin}", "upstream": app, "log-format": "json", **QUICK}
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        sockets = ["-l", str(data), "-l", f"127.0.0.1:{admin}"]
        command = [activate, *sockets, sys.executable, "-m", "drainproxy", "serve", *flags]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        proxy = Proxy(process)
        try:
            # The first connection starts it, and waits in the queue until it serves.
            wait_for(lambda: _answers(data), "an answer")
            assert proxy.ask("/readyz").status == 200
            proxy.signal(signal.SIGTERM)
            assert proxy.wait() == 0
        finally:
            if proxy.alive:
                process.kill()
                proxy.wait()
            assert process.stderr is not None
            process.stderr.close()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200
    except httpx.ConnectError:  # the activator does not listen yet
        return False


def test_a_socket_without_an_option_ends_the_start_with_what_to_do() -> None:
    activate = need("systemd-socket-activate", "systemd")
    port = free_port()
    command = [activate, "-l", f"127.0.0.1:{port}", sys.executable, "-m", "drainproxy", "serve"]
    free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", f"127.0.0.1:{free_port()}"]
    process = subprocess.Popen([*command, *free], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: accepts(port), "the activator")
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert f"on 127.0.0.1:{port}, which was passed in, belongs to no option: add --route" in said


def test_after_an_upgrade_the_service_manager_is_told_of_the_new_process_and_the_old_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_server() as app, service_manager(tmp_path, monkeypatch) as heard, serve(app) as proxy:
        proxy.await_ready().signal(signal.SIGUSR2)
        new = int(heard.await_line("MAINPID=").partition("=")[2])
        assert proxy.logged("listening")
        assert parent(new) != proxy.process.pid, "systemd waits for its own children only"
        assert (proxy.status()["pid"], proxy.status()["generation"]) == (new, 2)
        assert proxy.wait() == 0, "no keeper is needed"
        assert httpx.get(proxy.url).status_code == 200
        os.kill(new, signal.SIGTERM)
        heard.await_line("STOPPING=1")
        wait_for(lambda: not accepts(proxy.address[1]), "the end of the new process")


def test_an_upgrade_that_fails_tells_the_service_manager_of_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = AS_HEIR.format(does="""os.write(channel, b'{"ready": true}\\n'); os.read(channel, 100); os._exit(0)""")
    with http_server() as app, service_manager(tmp_path, monkeypatch) as heard, serve(app, program=dies) as proxy:
        proxy.await_ready().signal(signal.SIGUSR2)
        proxy.await_log("upgrade failed: this process stays in service")
        assert httpx.get(proxy.url).status_code == 200
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert not [line for line in heard.lines if line.startswith("MAINPID=")]


def test_under_run_the_main_process_stays_for_the_app_is_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with service_manager(tmp_path, monkeypatch) as heard:
        with run_around([sys.executable, str(HERE / "plain_app.py"), str(port)], port) as proxy:
            upgrade(proxy.await_ready(), 2)
            assert proxy.alive
            proxy.signal(signal.SIGTERM)
            heard.await_line("STOPPING=1")
            assert proxy.wait() == 0
        assert not [line for line in heard.lines if line.startswith("MAINPID=")]
