"""How is load made? wrk and h2load as child processes on the load core, our own clients where those cannot do it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.host import BenchError, Process, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.stage import Stage

SCRIPTS = Path(__file__).parent / "wrk"
ERRORS_ALLOWED = 0.001
"""wrk counts a request that its own end cut as an error; more than this share of errors voids a sample."""


def wrk(stage: Stage, port: int, *, seconds: int, connections: int = 32, tls: bool = False, close: bool = False) -> int:
    """Small GETs with varying heads, as many as go. Returns the number of answers. Raises BenchError on errors."""
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    script = ["-s", str(SCRIPTS / "small.lua"), url, "--", "close" if close else "keep"]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", *script]
    return wrk_result(on_load_core(stage, argv, seconds + 20))[0]


def wrk_in_background(stage: Stage, port: int, *, seconds: int, connections: int, path: str) -> Process:
    """As `wrk`, while the caller looks on; it ends by itself. All requests for `path`, if one is given."""
    script = ["-s", str(SCRIPTS / "small.lua"), f"http://127.0.0.1:{port}/", "--", "keep", path]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", *script]
    return Process("wrk", argv, stage.cores.load, stage.directory / f"wrk-{port}.log")


def wrk_on_each(stage: Stage, ports: Sequence[int], *, seconds: int, connections: int = 32) -> int:
    """As `wrk`, on several ports at the same time, the connections shared between them."""
    each = connections // len(ports)
    loads = [wrk_in_background(stage, port, seconds=seconds, connections=each, path="") for port in ports]
    try:
        for load in loads:
            load.child.wait(seconds + 20)
        return sum(wrk_result(load.log.read_text())[0] for load in loads)
    except subprocess.TimeoutExpired as late:
        raise BenchError("wrk did not end") from late
    finally:
        for load in loads:
            load.stop()


def wrk_result(said: str, *, allowed: int = 0) -> tuple[int, int]:
    """The numbers of answers and of errors in wrk's output.

    Raises BenchError if there are no answers, or more errors than `allowed` and one in a thousand.
    """
    line = next((line for line in said.splitlines() if line.startswith("JSON ")), "")
    if not line:
        raise BenchError(f"wrk gave no figures: {said.strip()[-200:]}")
    kinds: dict[str, int] = json.loads(line.removeprefix("JSON "))
    requests = kinds.pop("requests")
    errors = sum(kinds.values())
    if not requests or errors > allowed + ERRORS_ALLOWED * requests:
        shown = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        raise BenchError(f"wrk: {requests} answers, but errors: {shown or 'none'}")
    return requests, errors


def on_load_core(stage: Stage, argv: Sequence[str], timeout_s: float) -> str:
    """Run a program on the load core and return its output. Raises BenchError if it fails or takes too long."""
    core = stage.cores.load

    def on_core() -> None:
        os.sched_setaffinity(0, {core})
        die_with_parent()

    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            preexec_fn=on_core,
        )
    except FileNotFoundError as missing:
        raise BenchError(f"{argv[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"{argv[0]} did not end within {timeout_s:g} s") from late
    if done.returncode:
        raise BenchError(f"{Path(argv[0]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


H2LOAD_HEADERS = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept": "application/json, text/html;q=0.9",
    "accept-language": "de-DE,de;q=0.7,en;q=0.3",
    "accept-encoding": "gzip, br;q=0.5",
    "referer": "https://shop.example.com/list/4711",
    "cookie": "session=0123456789abcdef0123456789abcdef; theme=light",
    "authorization": "Bearer 0123456789abcdef0123456789abcdef01234567",
    "if-none-match": '"4711"',
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


def small_gets(stage: Stage, port: int) -> list[str]:
    """h2load's arguments. The path differs from request to request, other fields do not: h2load cannot vary them."""
    paths = stage.directory / f"paths-{port}"
    paths.write_text("".join(f"http://127.0.0.1:{port}/item/{n}?page={n % 89}\n" for n in range(2000)))
    return [*(part for name, value in H2LOAD_HEADERS.items() for part in ("-H", f"{name}: {value}")), "-i", str(paths)]


def grpc_calls(stage: Stage, port: int) -> list[str]:
    """h2load's arguments for unary calls."""
    message = stage.directory / "message"
    message.write_bytes(b"\0" + (16).to_bytes(4) + b"sixteen bytes...")
    fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return ["-d", str(message), *fields, f"http://127.0.0.1:{port}/bench.Echo/Say"]


def h2load(stage: Stage, what: Sequence[str], *, seconds: int, connections: int = 8, streams: int = 16) -> int:
    """HTTP/2 requests, as many as go. Returns the number of answers. Raises BenchError on errors.

    `what`: h2load's arguments that say which requests.
    """
    said = on_load_core(stage, ["h2load", f"-c{connections}", f"-m{streams}", f"-D{seconds}", *what], seconds + 20)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    statuses = re.search(r"status codes: (\d+) 2xx", said)
    if counts is None or statuses is None:
        raise BenchError(f"h2load gave no figures: {said.strip()[-200:]}")
    answered, failed = int(counts[1]), int(counts[2])
    if not answered or not int(statuses[1]) or failed > ERRORS_ALLOWED * answered:
        raise BenchError(f"h2load: {failed} failed, {statuses[1]} answered with 2xx")
    return answered
