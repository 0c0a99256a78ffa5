"""Can a release be built, and twice the same? What it holds, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from drainproxy import __version__
from release import changelog
from release.sbom import image_sbom

ROOT = Path(__file__).parents[2]
LOG = """# Changelog

## Unreleased

### Added

- A thing.

## 0.1.0 - 2026-01-02

- The first.
"""


def test_a_release_takes_what_was_unreleased_and_leaves_an_empty_section() -> None:
    log = changelog.released(LOG, "0.2.0", "2026-03-04")
    assert changelog.notes(log, "0.2.0") == "### Added\n\n- A thing.\n"
    assert changelog.notes(log, "0.1.0") == "- The first.\n"
    assert "## Unreleased\n\n## 0.2.0 - 2026-03-04\n" in log


def test_a_version_without_a_dated_section_has_no_notes() -> None:
    with pytest.raises(LookupError, match=r"no section 0\.3\.0"):
        changelog.notes(LOG, "0.3.0")
    with pytest.raises(LookupError, match="no date"):
        changelog.notes(LOG, "Unreleased")


def test_the_bill_of_an_image_names_debian_and_python_packages(tmp_path: Path) -> None:
    dpkg = tmp_path / "var/lib/dpkg"
    dpkg.mkdir(parents=True)
    (dpkg / "status").write_text("Package: libc6\nVersion: 2.41-12\nArchitecture: amd64\n\nPackage: half\n")
    info = tmp_path / "opt/drainproxy/lib/python3.13/site-packages/Some_Thing-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: Some_Thing\nVersion: 1.2\n\nText\n")
    bill = json.loads(image_sbom(tmp_path, "9.9.9", 1_700_000_000))
    assert bill["metadata"]["component"]["version"] == "9.9.9"
    assert [each["purl"] for each in bill["components"]] == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:pypi/some-thing@1.2",
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as it is, committed in a repository of its own, as version 9.8.7."""
    if shutil.which("git") is None:
        pytest.skip("git is missing")
    folder = tmp_path_factory.mktemp("checkout")
    argv = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    log = folder / "CHANGELOG.md"
    log.write_text(log.read_text().replace(f"## {__version__} - ", "## 0.0.1 - "))  # as before its release
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    who = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e"}
    subprocess.run(["git", *words], cwd=folder, env={**os.environ, **who}, check=True, capture_output=True)


def files_with(folder: Path, pattern: str) -> list[str]:
    """The files in which it stands."""
    argv = ["git", "grep", "-lE", pattern]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False).stdout.split()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")


def release(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "release", *words]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    env.pop("KEY", None)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_release_is_refused_then_prepared_then_built_twice_the_same(checkout: Path, tmp_path: Path) -> None:
    refused = release(checkout, "build", "--no-image")
    assert refused.returncode == 1
    assert "has no section" in refused.stderr
    assert release(checkout, "prepare", "9.8.7").returncode == 0
    assert "\nversion: 9.8.7\nappVersion: 9.8.7\n" in (checkout / "deploy/chart/Chart.yaml").read_text()
    images = {name for name in ("", "-webhook", "-peers") if files_with(checkout, f"drainproxy{name}:9.8.7")}
    assert images == {"", "-webhook", "-peers"}
    assert not files_with(checkout, f"drainproxy(-[a-z]+)?:{re.escape(__version__)}")
    assert "not released yet" not in (checkout / "docs/upgrade-notes.md").read_text()
    assert "rev: v9.8.7" in (checkout / "docs/ci.md").read_text()
    assert "OWNER/drainproxy@v9.8.7" in (checkout / "docs/ci.md").read_text()
    assert "drainproxy 9.8.7 (compiled)" in (checkout / "docs/compiled.md").read_text()
    dirty = release(checkout, "build", "--no-image")
    assert "files differ from the commit" in dirty.stderr
    commit(checkout)
    out = [tmp_path / name for name in ("once", "again")]
    for folder in out:
        done = release(checkout, "build", "--no-image", "--no-compiled", "--out", str(folder))
        assert done.returncode == 0, done.stderr
    sums = [(folder / "SHA256SUMS").read_text() for folder in out]
    assert sums[0] == sums[1]
    holds(out[0])


def holds(out: Path) -> None:
    """License and version in wheel and sdist, a page for each command, notes of this version."""
    names = {each.name for each in out.iterdir()}
    assert {"NOTES.md", "SHA256SUMS", "drainproxy-9.8.7-man.tar.gz", "drainproxy-9.8.7-python.cdx.json"} < names
    with zipfile.ZipFile(out / "drainproxy-9.8.7-py3-none-any.whl") as wheel:
        files = wheel.namelist()
        assert "drainproxy-9.8.7.dist-info/licenses/LICENSE" in files
        assert not any(name.startswith(("tests/", "release/", "image/")) for name in files)
        metadata = wheel.read("drainproxy-9.8.7.dist-info/METADATA").decode()
        assert "License-Expression: Apache-2.0" in metadata
        assert "Provides-Extra: dev" not in metadata
    with tarfile.open(out / "drainproxy-9.8.7.tar.gz") as sdist:
        assert "drainproxy-9.8.7/LICENSE" in sdist.getnames()
    with tarfile.open(out / "drainproxy-9.8.7-man.tar.gz") as pages:
        assert {"man1/drainproxy.1", "man1/drainproxy-probe.1"} < set(pages.getnames())
    bill = json.loads((out / "drainproxy-9.8.7-python.cdx.json").read_text())
    assert {"uvloop", "aiohttp"} < {each["name"] for each in bill["components"]}
