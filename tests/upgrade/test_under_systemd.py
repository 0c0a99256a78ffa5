"""Does systemd itself follow an upgrade? As PID 1, with the unit of deploy/systemd."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.apps import HERE, free_port, http_server
from tests.support.pending import Pending
from tests.support.proxy import QUICK, wait_for
from tests.support.systemd import Systemd, systemd
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

UNIT = Path(__file__).parents[2] / "deploy/systemd/drainproxy.service"
NAME = "drainproxy.service"
NOT_HERE = "Requires|After|Wants|DynamicUser|ProtectSystem|ProtectHome|PrivateTmp|PrivateDevices"
"""What would keep the service from this checkout, or from the test's directory."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The running service."""

    manager: Systemd
    port: int
    admin: int
    log: Path

    def upgrade(self, generation: int) -> None:
        """To this generation, which serves then."""
        self.manager.ctl("kill", "--kill-whom=main", "--signal=USR2", NAME)
        wait_for(lambda: self.status()["generation"] == generation, f"generation {generation}")

    def upgrade_and_wait(self, generation: int) -> None:
        """The same, until the one before has ended its connections."""
        self.upgrade(generation)
        ended = "the generation before has ended its connections"
        wait_for(lambda: self.logged(ended) == generation - 1, f"the end of generation {generation - 1}")

    def status(self) -> Any:
        """`/status`."""
        return httpx.get(f"http://127.0.0.1:{self.admin}/status").json()

    @contextmanager
    def pending(self, app: str) -> Iterator[Pending]:
        """A request that the app has."""
        with Wire(("127.0.0.1", self.port)) as wire:
            request = Pending(wire, app)
            wait_for(lambda: self.status()["in_flight"]["http"] == 1, "the request")
            yield request

    def show(self, fact: str) -> str:
        """A property of the unit."""
        return self.manager.show(NAME, fact)

    def logged(self, message: str) -> int:
        """How many times this was logged."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return sum(line["msg"] == message for line in lines)


@contextmanager
def unit(tmp_path: Path, upstream: str, *command: str, **service: str) -> Iterator[Unit]:
    """drainproxy with this command line, once it is ready. `service`: more lines of the section [Service]."""
    port, admin, log = free_port(), free_port(), tmp_path / "drainproxy.log"
    set_here = {"listen": f"127.0.0.1:{port}", "upstream": upstream, "admin": f"127.0.0.1:{admin}", **QUICK}
    environ = [f"Environment=DRAINPROXY_{key.upper().replace('-', '_')}={value}" for key, value in set_here.items()]
    lines = [f"{key}={value}" for key, value in service.items()]
    output = [f"Standard{which}=append:{log}" for which in ("Output", "Error")]
    start = f"ExecStart={sys.executable} -m drainproxy {' '.join(command)}\nWorkingDirectory={Path.cwd()}\n"
    replaced = "|".join(["ExecStart", "Environment", *service])
    text = re.sub(rf"(?m)^({NOT_HERE}|{replaced})=.*\n", "", UNIT.read_text())
    text = text.replace("[Service]\n", "[Service]\n" + start + "\n".join([*environ, *lines, *output]) + "\n")
    text = text.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")
    with systemd(tmp_path) as manager:
        manager.start(NAME, text)
        running = Unit(manager, port, admin, log)
        wait_for(lambda: running.show("StatusText") == "ready", "ready")
        yield running


@contextmanager
def around_an_app(tmp_path: Path) -> Iterator[Unit]:
    """`run`: the app is the first process's child, so that stays the main one."""
    port = free_port()
    app = ("--", sys.executable, str(HERE / "plain_app.py"), str(port))
    with unit(tmp_path, f"127.0.0.1:{port}", "run", *app, NotifyAccess="all") as running:
        yield running


def test_systemd_waits_for_the_drain_of_a_process_that_has_taken_over(tmp_path: Path) -> None:
    with http_server() as app, unit(tmp_path, app, "serve") as running:
        first = running.show("MainPID")
        running.upgrade_and_wait(2)
        running.upgrade_and_wait(3)
        assert running.show("MainPID") != first
        assert running.show("StatusText") == "ready"
        with running.pending(app) as request:
            running.manager.ctl("stop", "--no-block", NAME)
            wait_for(lambda: running.logged("SIGTERM"), "the signal")
            assert request.answer() == 200
        wait_for(lambda: running.show("ActiveState") == "inactive", "the end of the service")
        assert (running.show("Result"), running.show("NRestarts")) == ("success", "0")
        assert running.logged("drain finished") == 3


@pytest.mark.parametrize("kill_mode", ["mixed", "control-group"])
def test_a_stop_while_the_old_process_drains_waits_for_both(tmp_path: Path, kill_mode: str) -> None:
    with http_server() as app, unit(tmp_path, app, "serve", KillMode=kill_mode) as running:
        with running.pending(app) as old:
            running.upgrade(2)
            with running.pending(app) as new:
                running.manager.ctl("stop", "--no-block", NAME)
                assert new.answer() == 200
            assert old.answer() == 200
        wait_for(lambda: running.show("ActiveState") == "inactive", "the end of the service")
        assert running.show("Result") == "success"


def test_systemd_starts_the_service_again_when_a_process_that_has_taken_over_crashes(tmp_path: Path) -> None:
    with http_server() as app, unit(tmp_path, app, "serve") as running:
        running.upgrade_and_wait(2)
        running.manager.ctl("kill", "--kill-whom=main", "--signal=KILL", NAME)
        wait_for(lambda: running.show("NRestarts") == "1" and running.show("StatusText") == "ready", "another start")
        assert httpx.get(f"http://127.0.0.1:{running.port}/").status_code == 200


def test_an_upgrade_to_a_program_that_is_missing_changes_nothing(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with http_server() as app, unit(tmp_path, app, "serve", "--drain-token-file", str(token)) as running:
        main = running.show("MainPID")
        headers = {"Authorization": "Bearer secret"}
        answer = httpx.post(f"http://127.0.0.1:{running.admin}/upgrade?exec=/nowhere", headers=headers)
        assert "cannot run /nowhere: No such file or directory" in answer.text
        assert (running.show("MainPID"), running.show("StatusText")) == (main, "ready")
        running.upgrade(2)


def test_under_run_the_first_process_stays_the_main_one_and_a_stop_waits_for_the_drain(tmp_path: Path) -> None:
    with around_an_app(tmp_path) as running:
        first = running.show("MainPID")
        running.upgrade_and_wait(2)
        assert running.show("MainPID") == first
        with running.pending(running.status()["upstream"]["address"]) as request:
            running.manager.ctl("stop", "--no-block", NAME)
            wait_for(lambda: running.logged("SIGTERM"), "the signal")
            assert request.answer() == 200
        wait_for(lambda: running.show("ActiveState") == "inactive", "the end of the service")
        assert running.show("Result") == "success"
