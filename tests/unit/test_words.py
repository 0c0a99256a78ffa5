"""Is everything that people read in our house style? Pages, help texts, messages, alerts: words that are read once."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import drainproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(drainproxy.__file__).parent.parent
HOUSE_STYLE = {
    r"(?:any|no|some)body|whoever|whomever": "say who: no client, the sender, everyone who can reach the port",
    r"(?:CPU|µs|ms|[KM]iB|bytes?|lines?|once|twice|times|requests|calls|questions) an? "
    r"(?:request|second|minute|day|Pod|connection|drain|line|change|call|message|workload|MiB|release)": "per request",
    r"mend(?:s|ed|ing)?": "fix, correct",
    r"anew": "again",
    r"learnt": "learned",
    r"for ever": "always",
    r"as ever": "as usual",
    r"at no point": "never",
    r"(?:has|have) to be there": "must exist",
    r"told to fit": "checked",
    r"the world": "the cluster",
    r"(?:asked|told) to go": "asked to leave",
    r"in force": "in use, in effect",
    r"in its hands?": "in progress",
    r"(?:is|are|not) well": "healthy",
    r"of (?:yours|theirs)": "your own",
    r"in silence": "without a message",
    r"beside": "next to, together with",
    r"in vain": "without success",
    r"\w+ modifies": "is not changed",
    r"hinders?": "prevents",
    r"thereof|therein|whereof|whence|hence": "say it with a verb",
}
"""Idioms that a reader whose English is plain reads twice, and what to write instead."""
_IDIOM = re.compile(rf"(?<![\w-])(?:{'|'.join(HOUSE_STYLE)})(?![\w-])", re.IGNORECASE)
PAGES = sorted(
    chain.from_iterable(
        ROOT.glob(pattern)
        for pattern in (
            *("*.md", "docs/**/*.md", "docs/quickstart/*.yaml", "tests/**/*.md", "deploy/**/*.md", "deploy/**/*.*ml"),
            *("Dockerfile", "Makefile", "action.yml", ".pre-commit-hooks.yaml"),
        )
    )
)
"""What people read or copy."""
MODULES = sorted(ROOT.glob("drainproxy/**/*.py"))


def in_page(text: str) -> Iterator[tuple[int, str]]:
    """Each line of a page that is prose, with its number: no code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, re.sub(r"`[^`]*`", "`…`", line)


def in_module(source: str) -> Iterator[tuple[int, str]]:
    """Each text of a module that may reach a reader: no docstring, unless it is a command's help."""
    tree = ast.parse(source)
    ours = {id(each) for node in ast.walk(tree) for each in _docstrings(node)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
            and id(node) not in ours
        ):
            yield node.lineno, node.value


def _docstrings(node: ast.AST) -> Iterator[ast.expr]:
    """The texts that only readers of the code see: under a module, a class, a function that is no command, a name."""
    body = getattr(node, "body", None)
    if not isinstance(body, list) or (isinstance(node, ast.FunctionDef) and _is_command(node)):
        return
    yield from (each.value for each in body if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))


def _is_command(function: ast.FunctionDef) -> bool:
    return any("click.command" in ast.unparse(each) for each in function.decorator_list)


@pytest.mark.parametrize("path", [*PAGES, *MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_in_plain_words(path: Path) -> None:
    read = in_module if path.suffix == ".py" else in_page
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r} in {text.strip()[:100]!r}"
        for number, text in read(path.read_text(encoding="utf-8"))
        for match in _IDIOM.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_an_idiom_is_found_in_prose_and_messages_and_not_in_code() -> None:
    assert [number for number, line in in_page("a\n```\nanew\n```\nnot `anew`, but anew") if _IDIOM.search(line)] == [5]
    module = '"""anew"""\ndef f():\n    """anew"""\n    raise ValueError("made anew")\n'
    assert [number for number, text in in_module(module) if _IDIOM.search(text)] == [4]
    command = '@click.command()\ndef f():\n    """made anew"""\n'
    assert [number for number, text in in_module(command) if _IDIOM.search(text)] == [3]
