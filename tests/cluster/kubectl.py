"""How is the cluster asked? kubectl, as its users do, with a kubeconfig whose namespace is the test's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 180.0
"""For one command: images may have to be pulled, and the machine may be busy."""


class KubectlError(AssertionError):
    """The command failed; the message is its own."""


class Kubectl:
    """One namespace of one cluster."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace

    def argv(self, *arguments: str) -> list[str]:
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]

    async def __call__(self, *arguments: str, stdin: str | None = None, within_s: float = PATIENCE_S) -> str:
        """stdout of the command. Raises KubectlError."""
        return (await self.said(*arguments, stdin=stdin, within_s=within_s))[0]

    async def said(
        self, *arguments: str, stdin: str | None = None, within_s: float = PATIENCE_S, may_fail: bool = False
    ) -> tuple[str, str]:
        """stdout and stderr. Raises KubectlError unless it `may_fail`."""
        process = await asyncio.create_subprocess_exec(
            *self.argv(*arguments),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(within_s):
                out, error = await process.communicate(None if stdin is None else stdin.encode())
        except TimeoutError:
            raise KubectlError(f"kubectl {' '.join(arguments)}: no end after {within_s:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode and not may_fail:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {error.decode().strip()}")
        return out.decode(), error.decode()

    async def get(self, *what: str) -> Any:
        return json.loads(await self("get", *what, "--output=json"))

    async def raw(self, verb: str, path: str, body: Any = None) -> Any:
        """One call of the API, for what kubectl has no word for. `verb`: get, create."""
        stdin = None if body is None else json.dumps(body)
        given = [] if body is None else ["--filename=-"]
        return json.loads(await self(verb, f"--raw={path}", *given, stdin=stdin))

    async def patch(self, what: str, change: Any) -> None:
        """Merge it in; lists of things with names are merged by name."""
        await self("patch", what, "--patch", json.dumps(change))

    def now(self, *arguments: str, stdin: str | None = None, and_warnings: bool = False) -> str:
        """As a call, for fixtures that have no event loop. `and_warnings`: stderr too."""
        done = subprocess.run(
            self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout + (done.stderr if and_warnings else "")
