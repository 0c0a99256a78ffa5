"""How is a benchmark run started? `python -m tests.bench --help`, and `python -m tests.bench history --help`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from drainproxy.tools.docs.contents import with_contents
from tests.bench import history
from tests.bench.history import STORE
from tests.bench.host import BenchError, describe, pick_cores, raise_file_limit
from tests.bench.install import NEEDED, install_missing, still_missing
from tests.bench.measurement import Measurement, Result
from tests.bench.measures import MEASUREMENTS
from tests.bench.page import page, section
from tests.bench.peers import (
    DRAINPROXY,
    PEERS,
    RUN,
    SIDE,
    Peer,
    available,
    commit,
    compiled,
    custom,
    revision,
    version_of,
)
from tests.bench.plots import draw
from tests.bench.report import show
from tests.bench.stage import FULL, SHORT, Pace, Stage, set_up, within

if TYPE_CHECKING:
    from collections.abc import Sequence


SHORT_RUN = Path("build/bench-short.json")
BY_HAND = "\n## Compiled against pure\n"
"""What stands on the page from here on is kept when it is written anew."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What drainproxy costs, next to its peers.",
        epilog="`python -m tests.bench history DIR|FILE...` makes a page of stored runs, by commit.",
    )
    names = ", ".join(each.name for each in MEASUREMENTS)
    parser.add_argument("--only", action="append", metavar="NAME", help=f"only this measurement (repeatable): {names}")
    parser.add_argument("--peers", metavar="A,B", help="only these proxies, such as drainproxy,envoy")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each proxy is measured, in turn (5; short: 1)"
    )
    parser.add_argument("--short", action="store_true", help="small and quick: proves that it runs, measures little")
    parser.add_argument("--long", action="store_true", help="with the measurements that take minutes")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more proxy to measure; COMMAND has {listen}, {admin} and {upstream} in place of the ports",
    )
    parser.add_argument(
        "--revision", action="append", default=[], metavar="REV", help="drainproxy as of a commit as one more proxy"
    )
    parser.add_argument("--compiled", action="store_true", help="drainproxy, compiled, as one more proxy")
    parser.add_argument("--markdown", action="store_true", help="print the sections of docs/benchmarks.md, not tables")
    parser.add_argument("--no-install", action="store_true", help="install nothing; leave out what is missing")
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), metavar="DIR", help="where a full run writes its page"
    )
    parser.add_argument(
        "--render", type=Path, metavar="FILE", help="measure nothing: write the page from stored samples"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"where all samples go (a file of its own in {STORE}; short: {SHORT_RUN})",
    )
    given = parser.parse_args(argv)
    unknown = set(given.only or ()) - {each.name for each in MEASUREMENTS}
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {names}")
    known = [peer.name for peer in (*PEERS, *SIDE)]
    strangers = set((given.peers or "").split(",")) - {"", *known}
    if strangers:
        parser.error(f"no such proxy: {', '.join(sorted(strangers))}; there are {', '.join(known)}")
    given.rounds = given.rounds or (1 if given.short else 5)
    return given


def chosen(given: argparse.Namespace) -> list[Measurement]:
    if given.only:
        return [each for each in MEASUREMENTS if each.name in given.only]
    return [each for each in MEASUREMENTS if given.long or not each.only_long]


def measure(stage: Stage, measurement: Measurement, peers: list[Peer], rounds: int) -> Result:
    """Every peer once a round, each round begun by another one, so that no place in the order is an advantage."""
    result = Result(measurement.name)
    for number in range(rounds):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            if peer.name in result.left_out:
                continue
            progress(f"{measurement.name}: round {number + 1} of {rounds}, {peer.name}")
            try:
                result.add(peer.name, measurement.run(stage, peer))
            except BenchError as why:
                result.leave_out(peer.name, str(why))
    progress("")
    result.samples = {peer.name: result.samples[peer.name] for peer in peers if peer.name in result.samples}
    return result


def progress(text: str) -> None:
    """One line that is written over, for somebody who waits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def select_peers(given: argparse.Namespace) -> list[Peer]:
    """The proxies that were asked for and can run here; says of the others why not."""
    everyone = (*PEERS, *SIDE)
    wanted = given.peers.split(",") if given.peers else [peer.name for peer in everyone]
    here, missing = available(tuple(peer for peer in everyone if peer.name in wanted))
    for name, why in missing.items():
        print(f"{name} is left out: {why}")
    return here


def takes_part(given: argparse.Namespace, measurement: Measurement, peer: Peer, more: list[Peer]) -> bool:
    """A short run of everything has the others in its first measurement only: it proves that all of it runs."""
    if peer in more:
        return True
    if given.short and not (given.only or given.peers) and peer not in (DRAINPROXY, *SIDE):
        return measurement is MEASUREMENTS[0]
    return peer.name in measurement.peers


def pace(given: argparse.Namespace) -> Pace:
    """Who looks at one thing in a hurry still wants it warm."""
    chosen = FULL if not given.short else replace(SHORT, warm_s=1) if given.only else SHORT
    return within(chosen, raise_file_limit())


def run(given: argparse.Namespace, argv: Sequence[str]) -> tuple[list[Result], dict[str, str]]:
    """Measure what was chosen, and print each table as soon as it is there."""
    cores = pick_cores()
    results: list[Result] = []
    started = time.monotonic()
    with set_up(cores, pace(given)) as stage:
        more = [custom(name, command) for name, _, command in (each.partition("=") for each in given.also)]
        more += [revision(name, stage.directory / f"revision-{at}") for at, name in enumerate(given.revision)]
        if given.compiled:
            more.append(compiled(stage.directory / "compiled"))
        peers = select_peers(given) + more
        for measurement in chosen(given):
            here = [peer for peer in peers if takes_part(given, measurement, peer, more)]
            if here:
                results.append(measure(stage, measurement, here, given.rounds))
                print((section if given.markdown else show)(measurement, results[-1]), end="\n\n", flush=True)
        others = stage.disturbed or [0.0]
    facts = {
        "beware": beware(given.rounds, median(others)),
        "command": shlex.join(["python", "-m", "tests.bench", *argv]),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "rounds": str(given.rounds),
        "took": f"{(time.monotonic() - started) / 60:.1f} minutes",
        **describe(),
        "cores": f"the proxy on {cores.proxy}, load and app on {cores.load}" + (" (shared!)" if cores.shared else ""),
        "proxy's core taken by others": f"median {median(others):.0%}, at most {max(others):.0%} of a measured span",
        **{peer.name: peer.version() for peer in peers if any(peer.name in each.samples for each in results)},
        **{
            program: version_of(*words) for program, *words in (("wrk", "wrk", "-v"), ("h2load", "h2load", "--version"))
        },
    }
    return results, facts


def beware(rounds: int, taken: float) -> str:
    """Why the figures of this run are not to be leaned on, if so."""
    few = f"each figure is from {rounds} round{'s' * (rounds > 1)} only" if rounds < 3 else ""
    busy = f"other work took {taken:.0%} of the proxy's core (median of all measured spans)" if taken > 0.05 else ""
    return ", and ".join(filter(None, (few, busy)))


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["history"]:
        return history.main(argv[1:])
    given = arguments(argv)
    if given.render:
        stored = json.loads(given.render.read_text())
        write_page(given.docs, [Result(**each) for each in stored["results"]], stored["facts"])
        return 0
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps nginx and haproxy, and users do not look
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` runs
    for line in still_missing() if given.no_install else install_missing():
        print(line)
    if any(shutil.which(program) is None for program in NEEDED):
        print(f"nothing can be measured without {' and '.join(NEEDED)}", file=sys.stderr)
        return 2
    try:
        results, facts = run(given, argv)
    except BenchError as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1
    print("\n".join(f"{key}: {value}" for key, value in facts.items() if value))
    store(given.json or (SHORT_RUN if given.short else own_file(facts)), results, facts)
    if not (given.short or given.only or given.peers):
        write_page(given.docs, results, facts)
    return 1 if any({DRAINPROXY.name, RUN.name} & each.left_out.keys() for each in results) else 0


def own_file(facts: dict[str, str]) -> Path:
    at = facts["date"].replace(" ", "T").replace(":", "")
    return STORE / f"{at}-{facts['commit'] or 'no-git'}.json"


def store(file: Path, results: list[Result], facts: dict[str, str]) -> None:
    """What --render and history read again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"facts": facts, "results": [asdict(each) for each in results]}, indent=1))
    print(f"stored: {file}")


def write_page(docs: Path, results: list[Result], facts: dict[str, str]) -> None:
    """docs/benchmarks.md and its pictures; without matplotlib, the page alone."""
    by_name = {each.name: each for each in results}
    try:
        plots = draw(docs, MEASUREMENTS, by_name)
    except ImportError:
        print("no pictures: matplotlib is missing (pip install matplotlib)")
        plots = []
    file = docs / "benchmarks.md"
    _, begin, by_hand = file.read_text().partition(BY_HAND) if file.exists() else ("", "", "")
    file.write_text(with_contents(page(MEASUREMENTS, by_name, facts, plots) + begin + by_hand))
    print(f"written: {file}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
