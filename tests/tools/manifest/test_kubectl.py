"""Does kubectl read what inject writes as we do?"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.tools.manifest.objects import resources
from drainproxy.tools.manifest.source import parse
from tests.unit.tools.manifest.test_inject import MANIFESTS, read, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.debian
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: its reader is NOT asked")
@pytest.mark.parametrize("name", ["deployment.yaml", "flow.yaml", "indented.yaml", "crlf.yaml", "pretty.json"])
def test_kubectl_sees_what_we_see(name: str, tmp_path: Path) -> None:
    injected = run(read(MANIFESTS / name))
    (tmp_path / name).write_bytes(injected.encode())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{name}]\n")
    command = ["kubectl", "kustomize", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    theirs = {str(each): without_nulls(each.data) for each in resources([parse("theirs", built)])}
    assert theirs == {str(each): without_nulls(each.data) for each in resources([parse("ours", injected)])}


def without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    return [without_nulls(item) for item in data] if isinstance(data, list) else data
