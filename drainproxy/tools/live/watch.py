"""What becomes of Pods from now on? As `kubectl get pods --watch` tells it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from drainproxy.tools.live.scope import Scope

_END_OF_OBJECT = "}\n"
"""What ends each object: a brace at the beginning of a line."""


def program() -> str:
    """kubectl. Raises ManifestError where it is missing."""
    found = shutil.which("kubectl")
    if found is None:
        raise ManifestError("kubectl is not on the PATH: --live reads the cluster with it")
    return found


def watch_pods(scope: Scope) -> Iterator[dict[str, Any]]:
    """Every Pod that is there, then each one anew when it changes or goes; ends when kubectl does."""
    chosen = ["--selector", scope.selector] if scope.selector else []
    command = [program(), "get", "pods", "--watch", "--output=json", *scope.words(), *chosen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kubectl:  # noqa: S603 - the user's own scope
        assert kubectl.stdout is not None
        try:
            yield from _objects(kubectl.stdout)
        finally:
            kubectl.terminate()


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    text = ""
    for line in lines:
        text += line
        if line == _END_OF_OBJECT:
            yield json.loads(text)
            text = ""
