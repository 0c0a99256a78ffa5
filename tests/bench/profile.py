"""Where do the microseconds go? `python -m tests.bench.profile`: a flame graph, and the functions that take the time.

py-spy looks at the proxy from outside while wrk or h2load works. `--native` shows the loop's C code, too, but makes
system calls look dearer than they are; `--perf` counts in the kernel and in C libraries, where all Python code is one
name: the interpreter's.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import flame
from tests.bench.host import BenchError, pick_cores, raise_file_limit
from tests.bench.load import h2load, small_gets, wrk
from tests.bench.peers import DRAINPROXY, Job
from tests.bench.stage import FULL, Stage, set_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.peers import Mode, Running

TOP = 40


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.profile", description="Where drainproxy's CPU time goes."
    )
    parser.add_argument("--work", choices=("http1", "connect", "http2"), default="http1", help="what it does meanwhile")
    parser.add_argument("--seconds", type=int, default=10, help="how long to look (10)")
    parser.add_argument(
        "--native", action="store_true", help="with the frames of C code: uvloop, libuv, the interpreter"
    )
    parser.add_argument(
        "--perf", action="store_true", help="perf instead of py-spy: kernel and C code, no Python frames"
    )
    parser.add_argument("--lines", action="store_true", help="the table by line of code instead of by function")
    parser.add_argument("--output", type=Path, default=Path("build/profile"), metavar="DIR", help="where files go")
    return parser.parse_args(argv)


def load(stage: Stage, proxy: Running, work: str, seconds: int) -> int:
    if work == "http2":
        return h2load(stage, small_gets(stage, proxy.port), seconds=seconds)
    return wrk(stage, proxy.port, seconds=seconds, close=work == "connect")


def watch(given: argparse.Namespace, pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Start the profiler; it ends by itself, a second before the load does."""
    if given.perf:
        argv = [
            "perf",
            "record",
            "-q",
            "-F",
            "999",
            "-g",
            "-o",
            str(file),
            "-p",
            str(pid),
            "--",
            "sleep",
            str(given.seconds),
        ]
    else:
        py_spy = Path(sys.executable).parent / "py-spy"
        program = str(py_spy) if py_spy.exists() else shutil.which("py-spy")
        if program is None:
            raise BenchError("py-spy is missing: pip install py-spy")
        argv = [
            program,
            "record",
            "--pid",
            str(pid),
            "--duration",
            str(given.seconds),
            "--rate",
            "500",
            "--format",
            "raw",
        ]
        # Pausing the process for each sample would find it in system calls twice as often as it is: a stop takes effect
        # on the way out of one. Without pausing some stacks are read while they change, and dropped; that has no side.
        argv += ["--output", str(file), "--native" if given.native else "--nonblocking"]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def frame_name(frame: str, *, lines: bool) -> str:
    """`function (file:line)` as it is, or without the line."""
    if lines or not frame.endswith(")"):
        return frame
    return frame.rpartition(":")[0] + ")" if ":" in frame else frame


def tables(stacks: str, *, lines: bool) -> str:
    """Self and total time of the functions that take the most, from folded stacks (`a;b;c COUNT` a line)."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame_name(frame, lines=lines) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = own.total()
    if not samples:
        raise BenchError("the profile is empty")
    rows = [
        f"{100 * n / samples:6.1f} %  {100 * total[name] / samples:6.1f} %  {name}" for name, n in own.most_common(TOP)
    ]
    return "\n".join([f"{samples} samples", "    self     total  where", *rows])


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    raise_file_limit()
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / ("perf.data" if given.perf else f"{given.work}.folded")
    mode: Mode = "http2" if given.work == "http2" else "http1"
    with set_up(pick_cores(), FULL) as stage, stage.proxy(DRAINPROXY, mode, Job(mode)) as proxy:
        load(stage, proxy, given.work, 1)
        watcher = watch(given, proxy.measured.pid, file)
        with stage.spending(proxy) as spent:
            requests = load(stage, proxy, given.work, given.seconds + 1)
        _, said = watcher.communicate(timeout=60)
        if watcher.returncode:
            raise BenchError(f"the profiler failed: {said.decode().strip()[-300:]}")
    cost = f"{given.work}: {spent.cpu_s / requests * 1e6:.1f} µs of CPU per request, profiler watching"
    print(cost)
    if given.perf:
        report = ["perf", "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.5", "-i", str(file)]
        print(subprocess.run(report, capture_output=True, text=True, check=True).stdout)
        return 0
    stacks = file.read_text()
    table = tables(stacks, lines=given.lines)
    picture = file.with_suffix(".svg")
    picture.write_text(flame.draw(stacks, f"drainproxy, {cost}"))
    file.with_suffix(".txt").write_text(table + "\n")
    print(f"{table}\n\nflame graph: {picture}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchError as why:
        sys.exit(f"profile: {why}")
