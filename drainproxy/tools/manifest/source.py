"""What does a manifest's text say, and at which characters? Nodes with positions, from the events of a YAML parser.

Everything that changes or judges a manifest works on these nodes: a change is a splice of the text at a node's place,
so whatever is not changed keeps its bytes. JSON is read by the same parser (it is YAML's flow style).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from drainproxy.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator


_DASH = re.compile(r"^[ ]*(-)(?=\s)", re.MULTILINE)


@dataclass(slots=True, eq=False)
class Node:
    """One value in the text. `text[start:end]` is what was written, its anchor and tag included.

    `end` is the end of the content: of a block collection, the end of its last child, not of the comments behind it.
    `column` is where a block collection's entries stand. `target` is what an alias stands for.
    """

    kind: Literal["map", "seq", "scalar", "alias"]
    start: int
    end: int
    value: str = ""
    style: str = ""
    column: int = 0
    flow: bool = False
    tag: str = ""
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    target: Node | None = None
    inside: int = 0
    """Of a flow collection: the position behind its opening bracket."""

    @property
    def resolved(self) -> Node:
        """The node itself, or what the alias stands for."""
        return self.target.resolved if self.target is not None else self

    def get(self, key: str) -> Node | None:
        """The value written under `key` in this very map (not one that a merge key brings)."""
        for name, value in self.pairs:
            if name.kind == "scalar" and name.value == key:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a stream. `index` counts from 0; empty documents have no `root`."""

    index: int
    root: Node | None


@dataclass(frozen=True, slots=True)
class File:
    """A file's name and text, before or after."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name as the user knows it, its text, its documents."""

    name: str
    text: str
    documents: tuple[Document, ...]

    def line_of(self, position: int) -> int:
        """The line of a position, counted from 1."""
        return self.text.count("\n", 0, position) + 1

    def column_of(self, position: int) -> int:
        """The column of a position, counted from 1."""
        return position - (self.text.rfind("\n", 0, position) + 1) + 1


def parse(name: str, text: str) -> Source:
    """Read a YAML stream or a JSON document. Raises ManifestError with file and line if it cannot be read."""
    try:
        documents = tuple(_documents(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        hint = " (a template? render it first)" if "{{" in text else ""
        raise ManifestError(f"{place}: not YAML: {error.problem or error.context}{hint}") from error
    except YAMLError as error:
        raise ManifestError(f"{name}: not YAML: {str(error).splitlines()[0]}") from error
    return Source(name, text, documents)


def _documents(text: str) -> Iterator[Document]:
    index = -1
    builder = _Builder(text)
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, DocumentStartEvent):
            if index >= 0:
                yield Document(index, builder.finished())
            index += 1
            builder = _Builder(text)
        else:
            builder.take(event)
    if index >= 0:
        yield Document(index, builder.finished())


@dataclass(slots=True)
class _Builder:
    """Nodes of one document, from its events. `keys` holds, for each open map, the key that waits for its value."""

    text: str
    root: Node | None = None
    open: list[Node] = field(default_factory=list)
    keys: list[Node | None] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)

    def take(self, event: Any) -> None:
        if isinstance(event, ScalarEvent):
            node = _scalar(event, self.text, self.keys[-1] if self.keys else None)
            self._remember(event, node)
            self._place(node)
        elif isinstance(event, AliasEvent):
            target = self.anchors.get(event.anchor)
            if target is None:
                raise ManifestError(f"alias *{event.anchor} stands for nothing")
            start, end = event.start_mark.index, event.end_mark.index
            self._place(Node("alias", start, end, value=event.anchor, target=target))
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            kind: Literal["map", "seq"] = "map" if isinstance(event, MappingStartEvent) else "seq"
            start, inside = event.start_mark.index, event.end_mark.index
            node = Node(kind, start, inside, flow=bool(event.flow_style), tag=_tag(event), inside=inside)
            self._remember(event, node)
            self._place(node)
            self.open.append(node)
            self.keys.append(None)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self.keys.pop()
            _close(self.open.pop(), event.end_mark.index, self.text)

    def finished(self) -> Node | None:
        """The document's value; None if nothing was written."""
        root = self.root
        if root is not None and root.kind == "scalar" and root.start == root.end and not root.style:
            return None
        return root

    def _remember(self, event: Any, node: Node) -> None:
        if event.anchor:
            self.anchors[event.anchor] = node

    def _place(self, node: Node) -> None:
        if not self.open:
            self.root = node
        elif self.open[-1].kind == "seq":
            self.open[-1].items.append(node)
        elif self.keys[-1] is None:
            self.keys[-1] = node
        else:
            self.open[-1].pairs.append((self.keys[-1], node))
            self.keys[-1] = None


def _tag(event: Any) -> str:
    return str(event.tag) if event.tag is not None else ""


def _scalar(event: ScalarEvent, text: str, key: Node | None) -> Node:
    start, end, style = event.start_mark.index, event.end_mark.index, event.style or ""
    if style in ("|", ">"):
        header = text[start : text.find("\n", start)].split("#", maxsplit=1)[0]
        end = end - 1 if "+" in header and text[end - 1 : end] == "\n" else start + len(text[start:end].rstrip())
    elif start == end and not style and key is not None:
        # The parser puts a missing value at the next token; for us it is right behind the key's colon.
        colon = text.find(":", key.end)
        start = end = colon + 1 if colon >= 0 else key.end
    return Node("scalar", start, end, value=_joined(str(event.value)), style=style, tag=_tag(event))


def _joined(value: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes (RFC 8259 §7); the YAML parser leaves them two."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _close(node: Node, end: int, text: str) -> None:
    if node.flow:
        node.end = end
        return
    children = node.items if node.kind == "seq" else [child for pair in node.pairs for child in pair]
    if children:
        node.end = max(child.end for child in children)
    first = node.start
    if node.kind == "map" and node.pairs:
        first = node.pairs[0][0].start
    elif node.kind == "seq" and node.items:
        dash = _DASH.search(text, node.start)
        first = dash.start(1) if text[node.start] != "-" and dash is not None else node.start
    node.column = first - (text.rfind("\n", 0, first) + 1)
    if text.startswith("\ufeff") and "\n" not in text[:first]:
        node.column -= 1


# --- plain data -------------------------------------------------------------------------------------------------------

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OTHER_INT = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: True for low in ("true", "yes", "on") for word in (low, low.title(), low.upper())}
_WORDS |= {word: False for low in ("false", "no", "off") for word in (low, low.title(), low.upper())}


def scalar_value(text: str) -> object:
    """What kubectl makes of a plain scalar: YAML 1.1 words for true and false, numbers, null, else the text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def data_of(node: Node | None) -> Any:
    """Plain dicts, lists and scalars: aliases resolved, merge keys merged. None for an empty document."""
    if node is None:
        return None
    node = node.resolved
    if node.kind == "seq":
        return [data_of(item) for item in node.items]
    if node.kind == "map":
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        for key, value in node.pairs:
            if key.kind == "scalar" and key.value == "<<" and not key.style:
                for each in reversed(value.resolved.items) if value.resolved.kind == "seq" else [value]:
                    brought = data_of(each)
                    merged |= brought if isinstance(brought, dict) else {}
            else:
                own[key.resolved.value] = data_of(value)
        return merged | own
    if node.style or node.tag.endswith(":str"):
        return node.value
    return scalar_value(node.value)
