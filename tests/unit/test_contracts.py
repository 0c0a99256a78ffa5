"""What may the pure rooms use from outside? Listed here, room by room; everything else is forbidden.

import-linter holds who imports whom inside the package; it knows lists of what is forbidden only.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import drainproxy

ROOT = Path(drainproxy.__file__).parent
LANGUAGE = {"__future__", "collections", "collections.abc", "dataclasses", "enum", "functools", "itertools", "typing"}
ROOMS = {
    "drain": {"bisect", "math", "string"},
    "protocol": {"hashlib", "http", "re", "struct"},
    "session": {"re"},
    "config": {"re", "shlex"},
    "errors.py": set[str](),
    "tools/manifest": {
        *("base64", "binascii", "bisect", "difflib", "hashlib", "json", "math", "re", "tomllib", "urllib.parse"),
        *("ruamel.yaml", "ruamel.yaml.error", "yaml"),
    },
}
"""What each room may import beside the language's own tools: no clock, socket, file or process."""
EFFECTS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


def foreign(source: str) -> set[str]:
    """Every module from outside the package that the source imports, wherever in it, and every built-in effect."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
            case ast.Name(name, ast.Load()) if name in EFFECTS:
                found.add(f"{name}()")
    return {name for name in found if name.partition(".")[0] != "drainproxy"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_pure_room_uses_only_what_its_list_allows(room: str) -> None:
    path = ROOT / room
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files
    for file in files:
        extra = foreign(file.read_text(encoding="utf-8")) - LANGUAGE - ROOMS[room]
        assert not extra, f"{file.relative_to(ROOT)} uses {', '.join(sorted(extra))}"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_allowed_that_no_file_uses(room: str) -> None:
    path = ROOT / room
    files = [path] if path.is_file() else path.rglob("*.py")
    used = set[str]().union(*(foreign(file.read_text(encoding="utf-8")) for file in files))
    assert used >= ROOMS[room]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import select", {"select"}),
        ("import os.path as where, re", {"os.path", "re"}),
        ("from time import monotonic", {"time"}),
        ("def late():\n    from socket import socket", {"socket"}),
        ("if TYPE_CHECKING:\n    import asyncio", {"asyncio"}),
        ("data = open('/etc/passwd')", {"open()"}),
        ("from drainproxy.drain import phase", set[str]()),
        ("from . import phase", set[str]()),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str]) -> None:
    assert foreign(source) == found
