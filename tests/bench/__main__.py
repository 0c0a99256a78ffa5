"""How is a benchmark run started? `python -m tests.bench --help`."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.bench.host import BenchError, describe, pick_cores, raise_file_limit
from tests.bench.measurement import Measurement, Result
from tests.bench.measures import MEASUREMENTS
from tests.bench.peers import DIRECT, PEERS, Peer, available, custom
from tests.bench.report import show
from tests.bench.stage import FULL, SHORT, Stage, set_up

if TYPE_CHECKING:
    from collections.abc import Sequence


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="What drainproxy costs, next to its peers."
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
        "--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="where all samples go"
    )
    given = parser.parse_args(argv)
    unknown = set(given.only or ()) - {each.name for each in MEASUREMENTS}
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {names}")
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


def select_peers(given: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    also = tuple(custom(name, command) for name, _, command in (each.partition("=") for each in given.also))
    wanted = given.peers.split(",") if given.peers else None
    return available(tuple(peer for peer in (*PEERS, *also) if wanted is None or peer.name in wanted or peer in also))


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` runs
    raise_file_limit()
    cores = pick_cores()
    peers, missing = select_peers(given)
    for name, why in missing.items():
        print(f"{name} is left out: {why}")
    results: list[Result] = []
    started = time.monotonic()
    with set_up(cores, SHORT if given.short else FULL) as stage:
        for measurement in chosen(given):
            also = [peer for peer in peers if peer.name in measurement.peers or peer not in PEERS]
            here = also + ([DIRECT] if "direct" in measurement.peers else [])
            if not here:
                continue
            results.append(measure(stage, measurement, here, given.rounds))
            print(show(measurement, results[-1]), end="\n\n", flush=True)
        others = stage.disturbed or [0.0]
    facts = {
        **describe(),
        "proxy on core": str(cores.proxy),
        "load and upstream on core": str(cores.load),
        "most of the proxy's core taken by others": f"{max(others):.0%}, median {median(others):.0%}",
        "command": shlex.join(["python", "-m", "tests.bench", *argv]),
        "took": f"{time.monotonic() - started:.0f} s",
        **{peer.name: peer.version() for peer in peers},
    }
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"facts": facts, "results": [asdict(each) for each in results]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
