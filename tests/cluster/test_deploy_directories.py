"""Does the API server accept deploy/? Every directory, strictly validated, nothing kept, and without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.table import MANIFESTS
from tests.cluster.traffic import ROOT

if TYPE_CHECKING:
    from tests.cluster.stage import Stage

DEPLOY = ROOT / "deploy"
DIRECTORIES = sorted(
    path.parent.name
    for path in DEPLOY.glob("*/kustomization.yaml")
    if "kind: Component" not in path.read_text() and "namespace: " not in path.read_text()
)
"""What brings a namespace of its own (the webhook) is applied for real, by the cases that are about it."""


@pytest.mark.case(MANIFESTS, "the server accepts it")
@pytest.mark.parametrize("directory", DIRECTORIES)
async def test_the_server_accepts_every_directory_without_a_warning(stage: Stage, directory: str) -> None:
    path = Path("deploy") / directory
    argv = ("apply", "--kustomize", str(ROOT / path), "--dry-run=server", "--validate=strict")
    _, said = await stage.kubectl.said(*argv, may_fail=True)
    if "no matches for kind" in said:
        why = "the cluster does not have its custom resource definition"
        stage.table.skipped.append((str(path), why))
        pytest.skip(why)
    stage.row("accepted, no warning", case=f"`{path}`")
    assert said == ""
