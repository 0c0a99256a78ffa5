"""How does the kubectl plugin get into krew? `python deploy/krew/build.py [DIRECTORY]` makes archive and manifest.

The archive holds one file, `kubectl-drainproxy`: a zip that Python 3.11 or newer runs, with check and inject and the
libraries that they need, in pure Python. It is made from what is installed where this runs (`make setup`), without a
network. The manifest names the release of the version that `drainproxy.__version__` says, at the project's own address.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from drainproxy import __version__

ROOT = Path(__file__).parents[2]
PROGRAM = "kubectl-drainproxy"
LIBRARIES = ("click", "pyyaml", "ruamel.yaml")
RUNTIME = ("cli", "config", "tools/cli", "tools/live", "tools/manifest")
"""The parts of the package that the two verbs import; `__init__` and `errors` beside them."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same input makes the same archive, byte for byte."""

MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("kubectl drainproxy needs Python 3.11 or newer")

from drainproxy.cli import VERBS, main

for verb in VERBS.keys() - {"check", "inject"}:
    del VERBS[verb]
main()
"""

MANIFEST = """\
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: drainproxy
spec:
  version: v{version}
  homepage: {home}
  shortDescription: Find and fix what loses requests in a rollout
  description: |
    Reads manifests or the cluster. `kubectl drainproxy check --live -n shop` finds the mistakes that lose requests in a
    rollout; `kubectl drainproxy inject --live -n shop -l app=web | kubectl apply -f -` adds a sidecar that drains.
  caveats: |
    Needs Python 3.11 or newer as python3.
  platforms:
  - selector:
      matchExpressions:
      - {{key: os, operator: In, values: [linux, darwin]}}
    uri: {home}/releases/download/v{version}/{archive}
    sha256: {digest}
    bin: {program}
    files:
    - {{from: {program}, to: .}}
    - {{from: LICENSE, to: .}}
"""


def program() -> bytes:
    """The zip, with a line in front that runs it."""
    packed = io.BytesIO()
    packed.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted({**_own(), **_libraries(), "__main__.py": MAIN.encode()}.items()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _own() -> dict[str, bytes]:
    package = ROOT / "drainproxy"
    files = [package / "__init__.py", package / "errors.py", package / "tools" / "__init__.py"]
    for part in RUNTIME:
        files += (package / part).rglob("*.py")
    return {str(each.relative_to(ROOT)): each.read_bytes() for each in files}


def _libraries() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for library in LIBRARIES:
        for file in distribution(library).files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                found[str(file)] = file.read_binary()
    found["ruamel/__init__.py"] = b""  # a zip knows no namespace packages
    return found


def build(directory: Path) -> tuple[Path, Path]:
    """Writes archive and manifest; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / f"{PROGRAM}-{__version__}.tar.gz"
    with gzip.GzipFile(archive, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content, mode in (
            (PROGRAM, program(), 0o755),
            ("LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    manifest = directory / "drainproxy.yaml"
    manifest.write_text(
        MANIFEST.format(
            version=__version__,
            home=project["urls"]["Source"],
            archive=archive.name,
            digest=hashlib.sha256(archive.read_bytes()).hexdigest(),
            program=PROGRAM,
        )
    )
    return archive, manifest


if __name__ == "__main__":
    for written in build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")):
        sys.stdout.write(f"{written}\n")
