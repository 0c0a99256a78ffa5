"""Would the modules that can be compiled behave the same then? What mypyc forbids or changes is kept out of them.

docs/compiled.md has the list with its reasons. What cannot be seen in the source, `make compiled` holds: the tests of
these modules on what was compiled.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import drainproxy

PACKAGE = Path(drainproxy.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
if not PROJECT.exists():
    pytest.skip("needs a checkout", allow_module_level=True)
COMPILED = tomllib.loads(PROJECT.read_text())["tool"]["drainproxy"]["compiled"]
BASES = {"Enum", "IntEnum", "Protocol", "NamedTuple", "DrainproxyError"}
EAGER = {"any", "all", "sum"}
"""What stops a generator early, or takes it as it comes, in compiled code, too."""
REPLACED = {"_PLAIN_REQUEST", "_PLAIN_RESPONSE"}
"""Constants that tests replace: heads are read without them, too."""
DYNAMIC = {"setattr", "delattr", "globals", "locals", "vars", "super"}


def faults(source: str) -> set[str]:
    """What the source has that does not work, or works in another way, once compiled."""
    found: set[str] = set()
    tree = ast.parse(source)
    taken = {
        call.args[0]
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in EAGER and call.args
    }
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                found |= set(_of_class(node))
            case ast.Module(body):
                found |= {fault for each in body for fault in _of_constant(each)}
            case ast.GeneratorExp() if node not in taken:
                found.add("a generator expression becomes a list")
            case ast.Constant("__weakref__" | "__dict__") | ast.Attribute(attr="__dict__" | "__class__"):
                found.add("instances have neither __dict__ nor weak references")
            case ast.Import([ast.alias("weakref"), *_]) | ast.ImportFrom("weakref"):
                found.add("instances have neither __dict__ nor weak references")
            case ast.Name(name) if name in DYNAMIC:
                found.add(f"{name}() does not see compiled names")
    return found


def _of_constant(node: ast.stmt) -> list[str]:
    """Compiled, what is Final is known where it is used; anything else is looked up in the module, each time."""
    match node:
        case ast.Assign([ast.Name(name)], value) if name.isupper() and name not in REPLACED:
            kind = value.func if isinstance(value, ast.Call) else value
            return (
                [] if isinstance(kind, ast.Name) and kind.id in ("TypeVar", "ParamSpec") else [f"{name} is not Final"]
            )
        case ast.Assign([ast.Tuple()]):
            return ["what is unpacked in a module cannot be Final"]
    return []


def _of_class(node: ast.ClassDef) -> list[str]:
    bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
    found = [f"{base} is no base of a compiled class" for base in bases - BASES]
    if bases & {"Enum", "IntEnum"}:
        members = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
        if members & used:
            found.append("a member of an enum cannot be made of others")
    return found


@pytest.mark.parametrize("name", COMPILED)
def test_a_module_that_can_be_compiled_has_nothing_that_would_differ(name: str) -> None:
    assert faults((PACKAGE.parent / name).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("name", COMPILED)
def test_either_all_of_them_are_compiled_or_none(name: str) -> None:
    module = name.removesuffix(".py").replace("/", ".")
    __import__(module)
    origin = sys.modules[module].__file__
    assert origin is not None
    assert origin.endswith(".py") is not drainproxy.compiled()


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("class A(asyncio.Protocol): pass", "asyncio.Protocol is no base of a compiled class"),
        ("class A(B): pass", "B is no base of a compiled class"),
        ("class A(Flag):\n    X = 1", "Flag is no base of a compiled class"),
        ("class A(Enum):\n    X = 1\n    Y = X", "a member of an enum cannot be made of others"),
        ("x = Counter(each for each in y)", "a generator expression becomes a list"),
        ("class A:\n    __slots__ = ('__weakref__',)", "instances have neither __dict__ nor weak references"),
        ("import weakref", "instances have neither __dict__ nor weak references"),
        ("setattr(a, 'b', 1)", "setattr() does not see compiled names"),
        ("_SIZE = 1", "_SIZE is not Final"),
        ("_A, _B = Wait", "what is unpacked in a module cannot be Final"),
    ],
)
def test_each_fault_is_seen(source: str, fault: str) -> None:
    assert faults(source) == {fault}


@pytest.mark.parametrize(
    "source",
    [
        "class A(Protocol): pass",
        "class A(Enum):\n    X = 1\n    Y = 2",
        "x = any(each for each in y)",
        "_SIZE: Final = 1",
        "P = ParamSpec('P')",
        "x = [each for each in y]",
    ],
)
def test_what_works_is_let_through(source: str) -> None:
    assert faults(source) == set()
