"""Is docs/quickstart.md true? Every command of it is run, but for those that need kind itself.

A block is left out if `<!-- not run: WHY -->` stands before it, and its last command fails as it should if it is
`<!-- exits CODE -->`. What is shown must come, line by line, but for numbers, names and times.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.table import MANIFESTS
from tests.cluster.traffic import ROOT

if TYPE_CHECKING:
    from tests.cluster.stage import Stage

PAGE = ROOT / "docs" / "quickstart.md"
TRANSCRIPT = ROOT / "build" / "cluster" / "quickstart.txt"
"""What came, for the page: its output is copied from there."""
BLOCK = re.compile(r"(?:<!-- (?P<remark>[^\n]*) -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
WITHIN_S = 240


@dataclass(frozen=True, slots=True)
class Step:
    """A command, the lines that are shown under it, and how it exits."""

    command: str
    shown: tuple[str, ...]
    code: int = 0


def steps(page: str) -> list[Step]:
    found = []
    for block in BLOCK.finditer(page):
        remark = block["remark"] or ""
        if remark.startswith("not run"):
            continue
        exits = re.match(r"exits (\d+)", remark)
        parts = [part.splitlines() for part in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]]
        codes = [0] * (len(parts) - 1) + [int(exits[1]) if exits else 0]
        found += [Step(command, tuple(shown), code) for (command, *shown), code in zip(parts, codes, strict=True)]
    return found


@pytest.mark.case(MANIFESTS, "every command of docs/quickstart.md")
async def test_every_command_of_the_quick_start_does_what_the_page_shows(stage: Stage) -> None:
    node = (await stage.kubectl.get("nodes"))["items"][0]["status"]["addresses"]
    address = next(each["address"] for each in node if each["type"] == "InternalIP")
    own = stage.kubectl.kubeconfig.with_name("quickstart")
    own.write_text(stage.kubectl.kubeconfig.read_text())
    own.chmod(0o600)
    # The page's user has a cluster of his own; here its commands must meet the case's namespace.
    await stage.kubectl(
        "config", f"--kubeconfig={own}", "set-context", "--current", f"--namespace={stage.kubectl.namespace}"
    )
    env = {
        **os.environ,
        "KUBECONFIG": str(own),
        "APP": f"http://{address}:30080",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    TRANSCRIPT.unlink(missing_ok=True)
    TRANSCRIPT.parent.mkdir(parents=True, exist_ok=True)
    for step in steps(PAGE.read_text()):
        # The image may have been built under another name here.
        command = step.command.replace("drainproxy inject", f"drainproxy inject --image {stage.images.drainproxy}")
        process = await asyncio.create_subprocess_shell(
            command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out = (await asyncio.wait_for(process.communicate(), WITHIN_S))[0].decode()
        with TRANSCRIPT.open("a") as file:
            file.write(f"$ {step.command}\n{out}\n")
        assert process.returncode == step.code, (step.command, out)
        came = [shape(line) for line in out.splitlines()]
        missing = [line for line in step.shown if shape(line) not in came]
        assert not missing, (step.command, missing, out)
    stage.row("each does what the page shows")


def shape(line: str) -> str:
    """What stays the same from run to run: words, without numbers, Pods' hashes, and which failures there were."""
    return " ".join(re.sub(r"\S*\d\S*|[^\w\s]", " ", line.partition("): ")[0]).split())


SAMPLE = """
<!-- not run: needs kind -->
```console
$ kind create cluster
```
<!-- exits 1 -->
```console
$ kubectl apply -f web.yaml
service/web created
$ drainproxy probe $APP
```
"""


def test_steps_are_all_commands_but_those_that_need_what_is_not_here() -> None:
    assert steps(SAMPLE) == [
        Step("kubectl apply -f web.yaml", ("service/web created",)),
        Step("drainproxy probe $APP", (), 1),
    ]


def test_shown_lines_are_compared_without_numbers_and_names() -> None:
    assert shape("web-7b9f4-x2kd  2/2  Running  12s") == shape("web-66d5-8zzq9 2/2 Running   9s")
    assert shape("19 of 521 requests failed (3.6%): 8 reset") == shape("2 of 90 requests failed (2.2%): 2 refused")
    assert shape("No request was lost: 9 sent") != shape("1 of 9 requests failed")
