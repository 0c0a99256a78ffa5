"""Search for drains that break a promise: `python -m tests.search [--cases N] [--seed FIRST] [--jobs N]`.

Prints what it finds with the seed that plays the same case again. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter

from tests.search.case import Case, play


async def _search(first: int, cases: int, jobs: int) -> int:
    slots = asyncio.Semaphore(jobs)
    seen: Counter[str] = Counter()
    found = 0

    async def one(seed: int) -> None:
        nonlocal found
        async with slots:
            case, broken = await play(seed)
        seen.update(record.saw.name for record in case.records)
        seen["cases"] += 1
        if broken:
            found += 1
            _tell(seed, case, broken)
        if seen["cases"] % 50 == 0:
            print(f"{seen['cases']} of {cases} cases, {found} broken, {sum(seen.values())} requests", flush=True)

    began = time.monotonic()
    await asyncio.gather(*(one(seed) for seed in range(first, first + cases)))
    counted = ", ".join(f"{name.lower()} {count}" for name, count in seen.most_common() if name != "cases")
    print(f"{cases} cases from seed {first} in {time.monotonic() - began:.0f} s: {found} broken; requests: {counted}")
    return 1 if found else 0


def _tell(seed: int, case: Case, broken: list[str]) -> None:
    shown = " ".join(f"--{name}={value}" for name, value in case.options.items())
    print(f"seed {seed}: {shown}")
    for step in case.facts.steps:
        print(f"    {step}")
    for line in broken[:12]:
        print(f"  * {line}")
    if len(broken) > 12:
        print(f"  * and {len(broken) - 12} more")
    print(f"  again: python -m tests.search --seed {seed} --cases 1", flush=True)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="of the first case; the next ones count up")
    parser.add_argument("--jobs", type=int, default=6, help="cases at a time")
    asked = parser.parse_args()
    first = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    return asyncio.run(_search(first, asked.cases, asked.jobs))


if __name__ == "__main__":
    sys.exit(main())
