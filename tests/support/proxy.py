"""A real `drainproxy serve` in a process of its own, for tests that must see what a user sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 20.0
"""How long a condition is awaited before a test gives up. Never a sleep: a passing test does not notice it."""


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until `condition` gives something true, and return that."""
    end = time.monotonic() + patience_s
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience_s} s for {what}")
        time.sleep(0.01)
    return result


@dataclass
class Answer:
    """What the admin port said."""

    status: int
    body: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Proxy:
    """A running drainproxy. `log` grows as it writes; `address` and `admin` are where it listens."""

    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text.append(line)
            try:
                self.log.append(json.loads(line))
            except ValueError:
                continue

    def logged(self, message: str) -> dict[str, Any] | None:
        """The first log line with this message."""
        return next((line for line in list(self.log) if line.get("msg") == message), None)

    def await_log(self, message: str) -> dict[str, Any]:
        """Wait for a log line."""

        def there() -> dict[str, Any] | None:
            if self.process.poll() is not None and self.logged(message) is None:
                self._reader.join(2)
                if self.logged(message) is None:
                    raise AssertionError(
                        f"ended with {self.process.returncode} before {message!r}: {''.join(self.text)}"
                    )
            return self.logged(message)

        found: dict[str, Any] = wait_for(there, f"log line {message!r}")
        return found

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        host, _, port = str(self.await_log("listening")["address"]).rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where clients connect, a route each."""
        self.await_log("started")
        found = [str(line["address"]).rpartition(":") for line in self.log if line.get("msg") == "listening"]
        return [(host.strip("[]"), int(port)) for host, _, port in found]

    @property
    def url(self) -> str:
        """Where clients connect, as a URL."""
        return "http://{}:{}".format(*self.address)

    @property
    def admin(self) -> str:
        """The admin port, as a URL."""
        return f"http://{self.await_log('admin listening')['address']}"

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, timeout_s: float = 60
    ) -> Answer:
        """Ask the admin port."""
        request = urllib.request.Request(self.admin + path, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), dict(error.headers))

    def status(self) -> Any:
        """`/status`."""
        return self.ask("/status").json

    def await_state(self, state: str) -> None:
        """Wait until `/status` names this state."""
        wait_for(lambda: self.status()["state"] == state, f"state {state}")

    def await_ready(self) -> Proxy:
        """Wait until `/readyz` is 200."""
        wait_for(lambda: self.ask("/readyz").status == 200, "readiness")
        return self

    def metric(self, name: str, **labels: str) -> float:
        """One sample of `/metrics`, 0 if there is none."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - only some tests need it

        for family in text_string_to_metric_families(self.ask("/metrics").body):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(2)
        return code

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def is_accepting(self) -> bool:
        """While it does, its listening socket has copies, as the admin port's has: several descriptors of one inode."""
        sockets: Counter[str] = Counter()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                what = str(descriptor.readlink())
                sockets[what] += what.startswith("socket:")
        return sum(copies > 1 for copies in sockets.values()) > 1

    def resident_kib(self) -> int:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


QUICK = {
    "grace-period": "20s",
    "app-stop-time": "1s",
    "propagation-delay": "300ms",
    "quiet-period": "200ms",
    "quiet-limit": "2s",
    "close-spread": "200ms",
}
"""A drain that takes half a second when nothing is in flight."""

WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from drainproxy.cli import main; main()"


@contextmanager
def serve(upstream: str, *flags: str, stock_loop: bool = False, program: str = "", **options: str) -> Iterator[Proxy]:
    """drainproxy in front of `upstream`, on free ports of its choice; killed at the end if it has not ended.

    `program`: Python text to start instead of `drainproxy`, with the same arguments. With the option `config`, that
    file says what the routes are.
    """
    settings = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "upstream": upstream, "log-format": "json", **QUICK}
    settings |= {key.replace("_", "-"): value for key, value in options.items()}
    if "--route" in flags or "config" in options:
        del settings["listen"], settings["upstream"]
    arguments = [item for key, value in settings.items() for item in (f"--{key}", value)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DRAINPROXY_")}
    program = program or (WITHOUT_UVLOOP if stock_loop else "")
    start = ["-c", program] if program else ["-m", "drainproxy"]
    process = subprocess.Popen(
        [sys.executable, *start, "serve", *arguments, *flags], stderr=subprocess.PIPE, text=True, env=environ
    )
    proxy = Proxy(process)
    try:
        proxy.await_log("admin listening")
        yield proxy
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        proxy._reader.join(5)
        process.stderr.close()


def start_around(command: list[str], port: int, *flags: str, **options: str) -> Proxy:
    """`drainproxy run` of a command that listens on `port`. The caller ends it."""
    settings = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}", "log-format": "json"}
    settings |= QUICK | {key.replace("_", "-"): value for key, value in options.items()}
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "drainproxy", "run", *arguments, *flags, "--", *command],
        stderr=subprocess.PIPE,
        text=True,
    )
    return Proxy(process)


@contextmanager
def run_around(command: list[str], port: int, *flags: str, **options: str) -> Iterator[Proxy]:
    """The same; if it has not ended by itself it is quit, with all that it has started."""
    proxy = start_around(command, port, *flags, **options)
    try:
        yield proxy
    finally:
        if proxy.alive:
            proxy.signal(signal.SIGQUIT)
        proxy.wait()
        assert proxy.process.stderr is not None
        proxy.process.stderr.close()
