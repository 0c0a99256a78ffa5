"""Do the ways into CI work? The pre-commit hook, the GitHub Action's steps, the kubectl plugin, krew's manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.krew.build import build
from drainproxy import __version__
from drainproxy.tools.manifest.source import data_of, parse
from tests.unit.tools.manifest.test_rules import BARE, SERVICE, UNREADY

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FAULTY = UNREADY + SERVICE.replace("PORT", "http")


def read(name: str) -> Any:
    return data_of(parse(name, (ROOT / name).read_text()).documents[0].root)


def run(words: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        words, cwd=directory, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "faulty.yaml").write_text(FAULTY)
    (tmp_path / "good.yaml").write_text(BARE)
    return tmp_path


def test_the_pre_commit_hook_takes_file_names(manifests: Path) -> None:
    (hook,) = read(".pre-commit-hooks.yaml")
    words = shlex.split(hook["entry"])
    assert hook["require_serial"] is True
    assert run([str(BIN / words[0]), *words[1:], "good.yaml"], manifests)[0] == 0
    code, told = run([str(BIN / words[0]), *words[1:], "good.yaml", "deploy/faulty.yaml"], manifests)
    assert (code, "DP301" in told) == (1, True)


def action(directory: Path, **inputs: str) -> tuple[int, str]:
    """Runs the check step as a runner does: inputs put into the environment, bash with -e and pipefail."""
    described = read("action.yml")
    values = {name: str(each["default"] or "") for name, each in described["inputs"].items()} | inputs
    step = described["runs"]["steps"][1]
    environment = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: values[found[1]], text)
        for name, text in step["env"].items()
    }
    assert "${{" not in step["run"], "an input in a script is an injection"
    installed = directory / "drainproxy" / "bin"
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "drainproxy").unlink(missing_ok=True)
    (installed / "drainproxy").symlink_to(BIN / "drainproxy")
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return run(words, directory, {**environment, "RUNNER_TEMP": str(directory)})


def test_the_action_shows_findings_at_their_lines_and_fails(manifests: Path) -> None:
    code, told = action(manifests)
    assert code == 1
    assert "::error file=deploy/faulty.yaml,line=" in told


def test_the_action_takes_paths_and_options(manifests: Path) -> None:
    assert action(manifests, paths="good.yaml")[0] == 0
    code, told = action(manifests, paths="good.yaml\ndeploy\n", args="--skip=no-readiness\n--min-severity\nerror")
    assert (code, told) == (0, "")
    assert action(manifests, paths="no such file; rm -rf x")[0] == 2


def test_the_action_writes_sarif(manifests: Path) -> None:
    code, _ = action(manifests, sarif="out.sarif")
    assert code == 1
    results = json.loads((manifests / "out.sarif").read_text())["runs"][0]["results"]
    assert "DP301" in {each["ruleId"] for each in results}


def test_the_action_installs_from_its_own_checkout() -> None:
    step = read("action.yml")["runs"]["steps"][0]
    assert step["env"]["ACTION"] == "${{ github.action_path }}"
    assert '"$ACTION[tools]"' in step["run"]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("krew")
    archive, _ = build(directory)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(directory)], check=True)
    return directory


def test_the_plugin_runs_with_nothing_installed(plugin: Path, manifests: Path) -> None:
    alone = [sys.executable, "-I", "-S", str(plugin / "kubectl-drainproxy")]
    code, told = run([*alone, "check", "deploy"], manifests)
    assert (code, "DP301" in told) == (1, True)
    code, told = run([*alone, "--help"], manifests)
    assert "Usage: kubectl drainproxy [" in told
    assert re.findall(r"^  (\w+)  ", told, re.MULTILINE) == ["inject", "check"]


def test_the_krew_manifest_names_the_archive(plugin: Path, tmp_path: Path) -> None:
    manifest = data_of(parse("m", (plugin / "drainproxy.yaml").read_text()).documents[0].root)
    (platform,) = manifest["spec"]["platforms"]
    archive = plugin / platform["uri"].rsplit("/", 1)[-1]
    assert manifest["spec"]["version"] == f"v{__version__}"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == platform["sha256"]
    assert (plugin / platform["bin"]).stat().st_mode & 0o111
    again, _ = build(tmp_path)
    assert again.read_bytes() == archive.read_bytes()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_finds_the_plugin(plugin: Path, manifests: Path) -> None:
    path = {"PATH": f"{plugin}:{os.environ['PATH']}"}
    assert "kubectl-drainproxy" in run(["kubectl", "plugin", "list"], manifests, path)[1]
    code, told = run(["kubectl", "drainproxy", "check", "deploy"], manifests, path)
    assert (code, "DP301" in told) == (1, True)
