"""How is load made? wrk and h2load as child processes on the load core, our own clients where those cannot do it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.host import BenchError

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
    said = on_load_core(
        stage, ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", *script], seconds + 20
    )
    line = next((line for line in said.splitlines() if line.startswith("JSON ")), "")
    if not line:
        raise BenchError(f"wrk gave no figures: {said.strip()[-200:]}")
    result = json.loads(line.removeprefix("JSON "))
    requests, errors = int(result["requests"]), int(result["errors"])
    if not requests or errors > ERRORS_ALLOWED * requests:
        raise BenchError(f"wrk: {errors} errors, {requests} answers")
    return requests


def on_load_core(stage: Stage, argv: Sequence[str], timeout_s: float) -> str:
    """Run a program on the load core and return its output. Raises BenchError if it fails or takes too long."""
    core = stage.cores.load
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads here
        )
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"{argv[0]} did not end within {timeout_s:g} s") from late
    if done.returncode:
        raise BenchError(f"{Path(argv[0]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
