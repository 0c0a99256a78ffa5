"""Which manifests does a command read? Files, directories, patterns, stdin; and how do several become one stream?"""

from __future__ import annotations

import sys
from glob import glob, has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.errors import ManifestError
from drainproxy.tools.cli._packages import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.manifest.source import File

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


def need_tools() -> None:
    """Raises MissingPackageError where a YAML reader is missing: the sidecar's image goes without them."""
    for module, package in (("yaml", "pyyaml"), ("ruamel", "ruamel.yaml"), ("ruamel.yaml", "ruamel.yaml")):
        if find_spec(module) is None:
            raise MissingPackageError(package)


def read_files(paths: Sequence[str], *, below: bool = True) -> list[File]:
    """The manifests at these paths, in order. `below`: of a directory, those in its directories too.

    A path that is a pattern (`*`, `?`, `[…]`, `**`) stands for what it matches, where the shell has not put that there
    already. Raises ManifestError if there is nothing to read.
    """
    from drainproxy.tools.manifest.source import File  # noqa: PLC0415 - ruamel.yaml is loaded only when it is needed

    found: list[File] = []
    for path in paths:
        if path == STDIN:
            found.append(File("stdin", _decoded("stdin", sys.stdin.buffer.read())))
        else:
            found += [File(str(each), read_text(each)) for each in _matching(path, below=below)]
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"{name}: given twice")
    return found


def _matching(path: str, *, below: bool) -> list[Path]:
    """The files that a path stands for."""
    if has_magic(path) and not Path(path).exists():
        names = sorted(glob(path, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        files = [Path(each) for each in names if _is_manifest(Path(each))]
        if not files:
            raise ManifestError(f"{path}: matches no {', '.join(SUFFIXES)} file")
        return files
    if not Path(path).is_dir():
        return [Path(path)]
    files = sorted(each for each in Path(path).glob("**/*" if below else "*") if _is_manifest(each))
    if not files:
        deeper = "" if below or not manifests_below(path) else "; -R reads the directories in it"
        raise ManifestError(f"{path}: no {', '.join(SUFFIXES)} file in this directory{deeper}")
    return files


def manifests_below(path: str) -> int:
    """How many manifests stand in the directories of a directory: those that are left out without -R."""
    root = Path(path)
    return sum(_is_manifest(each) and each.parent != root for each in root.rglob("*")) if root.is_dir() else 0


def _is_manifest(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file()


def read_text(path: Path) -> str:
    """A file's text. Raises ManifestError."""
    try:
        return _decoded(str(path), path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None


def _decoded(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ManifestError(f"{name}: not UTF-8 text") from None


def joined(files: Sequence[File]) -> str:
    """Several files as one YAML stream; one file as it is."""
    text = files[0].text if files else ""
    for each in files[1:]:
        text += "" if text.endswith("\n") or not text else "\n"
        text += each.text if each.text.startswith("---") else f"---\n{each.text}"
    return text
