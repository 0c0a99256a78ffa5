"""What does a manifest's text say, and at which characters? Nodes with positions, from the events of a YAML parser.

Everything that changes or judges a manifest works on these nodes: a change is a splice of the text at a node's place,
so whatever is not changed keeps its bytes. JSON is read by the same parser (it is YAML's flow style).

Most of a large input is of no interest (CustomResourceDefinitions, dashboards in ConfigMaps), and parsing is what takes
time. So the text is split at its document markers, the kind of each document is read off its lines where that is
certain, and a document is parsed when somebody first asks for its `root`. The parser is libyaml, of which kubectl's is
a port; ruamel.yaml reads what libyaml refuses (a byte order mark, surrogate pairs in JSON), and words the errors.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from drainproxy.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@dataclass(frozen=True, eq=False)
class Document:
    """One document of a stream. `index` counts from 0. `kind`: of its object, where its lines tell; else empty.

    `text` is the document's own, its marker included (of a stream that cannot be split, the whole).
    """

    index: int
    text: str
    kind: str
    parse: Callable[[], Node | None]

    @cached_property
    def root(self) -> Node | None:
        """Its value; None if it is empty. Raises ManifestError with file and line if it cannot be read."""
        return self.parse()


@dataclass(frozen=True, slots=True)
class File:
    """A file's name and text, before or after."""

    name: str
    text: str


@dataclass(frozen=True, eq=False)
class Source:
    """One file: its name as the user knows it, its text, its documents."""

    name: str
    text: str
    documents: tuple[Document, ...]

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    def line_of(self, position: int) -> int:
        """The line of a position, counted from 1."""
        return bisect_right(self._line_starts, position)

    def column_of(self, position: int) -> int:
        """The column of a position, counted from 1."""
        return position - self._line_starts[self.line_of(position) - 1] + 1

    def lines(self, first: int, last: int) -> list[str]:
        """The text of these lines, counted from 1, as far as there are any."""
        starts = [*self._line_starts[max(1, first) - 1 : last + 1], len(self.text)]
        return [self.text[start:end].rstrip("\r\n") for start, end in pairwise(starts)][: last - max(1, first) + 1]


def parse(name: str, text: str) -> Source:
    """A YAML stream or a JSON document, split into its documents.

    Each is parsed when its `root` is first asked for; a stream that cannot be split, here. Raises ManifestError then.
    """
    file = File(name, text)
    if not _can_be_split(text):
        roots = _roots(file, 0, text)
        return Source(name, text, tuple(Document(i, text, "", partial(_same, root)) for i, root in enumerate(roots)))
    documents: list[Document] = []
    for start, piece in _pieces(text):
        read = partial(_only_root, file, start, piece)
        documents.append(Document(len(documents), piece, _kind_of(piece), read))
    return Source(name, text, tuple(documents))


def _same(root: Node | None) -> Node | None:
    return root


def _only_root(file: File, start: int, piece: str) -> Node | None:
    roots = _roots(file, start, piece)
    assert len(roots) <= 1, "a piece between two markers holds one document"
    return roots[0] if roots else None


_MARKER = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_SOME_CONTENT = re.compile(r"^[ \t]*[^\s#]", re.MULTILINE)


def _can_be_split(text: str) -> bool:
    """Whether every document begins at a line `---`: no directive, no `...`, and only line ends that we know.

    At the start of a line `---` is a marker wherever it stands, in quoted and block scalars too (YAML 1.2 §9.1.2).
    """
    odd = text.startswith(("%", "...", "\ufeff")) or "\n%" in text or "\n..." in text
    return not odd and text.count("\r") == text.count("\r\n") and not any(each in text for each in "\x85\u2028\u2029")


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text between the markers, each with its place. Comments before the first marker are no document."""
    starts = [found.start() for found in _MARKER.finditer(text)]
    if _SOME_CONTENT.search(text, 0, starts[0] if starts else len(text)):
        starts.insert(0, 0)
    for start, end in pairwise([*starts, len(text)]):
        yield start, text[start:end]


_PLAIN_KIND = re.compile(r"^kind[ ]*:[ ]+([A-Za-z]+)[ \t\r]*(?:#.*)?$", re.MULTILINE)
_ANY_KIND = re.compile(r"^kind\b", re.MULTILINE)
_UNSURE = re.compile(r"^[^\w\s#-]", re.MULTILINE)
_ROOT_KEY = re.compile(r"(?:---[ \t]*\r?\n)?(?:[ \t]*(?:#.*)?\r?\n)*[A-Za-z]+[ ]*:\s")


def _kind_of(piece: str) -> str:
    """The kind of the object in a document, if its lines tell it for certain.

    They do if the first line with content is a key at the margin (so the root is a block map there, and whatever is
    deeper is indented), no line at the margin begins with a sign (a quote, `?`, a tag, `<<`, a bracket), and `kind:`
    stands at the margin once. The rest of a quoted text may stand at the margin too: that would be a second `kind:`.
    """
    found = _PLAIN_KIND.search(piece)
    if found is None or not _ROOT_KEY.match(piece) or _UNSURE.search(piece):
        return ""
    return found[1] if len(_ANY_KIND.findall(piece)) == 1 else ""


def _roots(file: File, start: int, piece: str) -> list[Node | None]:
    """The value of each document in a piece of a file that begins at `start`."""
    try:
        events = _events(piece)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = file.text.count("\n", 0, start) + 1
        place = f"{file.name}:{line + mark.line}" if mark is not None else file.name
        hint = " (a template? render it first)" if "{{" in piece else ""
        raise ManifestError(f"{place}: not YAML: {error.problem or error.context}{hint}") from error
    except YAMLError as error:
        raise ManifestError(f"{file.name}: not YAML: {str(error).splitlines()[0]}") from error
    roots: list[Node | None] = []
    builder: _Builder | None = None
    for event in events:
        if type(event).__name__ == "DocumentStartEvent":
            builder = _Builder(file.text, start)
        elif type(event).__name__ == "DocumentEndEvent" and builder is not None:
            roots.append(builder.finished())
        elif builder is not None:
            builder.take(event)
    return roots


def _events(text: str) -> list[Any]:
    """The events of a text: libyaml's, or ruamel.yaml's where libyaml is missing or refuses. Theirs are alike."""
    if yaml.__with_libyaml__ and not text.startswith("\ufeff"):
        try:
            return list(yaml.parse(text, yaml.CSafeLoader))
        except yaml.YAMLError:
            pass
    return list(YAML(typ="safe", pure=True).parse(text))


@dataclass(slots=True)
class _Builder:
    """Nodes of one document, from its events. `keys` holds, for each open map, the key that waits for its value.

    `offset` is where the text that the events count from begins in `text`.
    """

    text: str
    offset: int
    root: Node | None = None
    open: list[Node] = field(default_factory=list)
    keys: list[Node | None] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)

    def take(self, event: Any) -> None:
        start, end = event.start_mark.index + self.offset, event.end_mark.index + self.offset
        match type(event).__name__:
            case "ScalarEvent":
                node = _scalar(event, start, end, self.text, self.keys[-1] if self.keys else None)
                if event.anchor:
                    self.anchors[event.anchor] = node
                self._place(node)
            case "AliasEvent":
                target = self.anchors.get(event.anchor)
                if target is None:
                    raise ManifestError(f"alias *{event.anchor} stands for nothing")
                self._place(Node("alias", start, end, value=event.anchor, target=target))
            case "MappingStartEvent":
                self._open("map", event, start, end)
            case "SequenceStartEvent":
                self._open("seq", event, start, end)
            case "MappingEndEvent" | "SequenceEndEvent":
                self.keys.pop()
                _close(self.open.pop(), end, self.text)

    def finished(self) -> Node | None:
        """The document's value; None if nothing was written."""
        root = self.root
        if root is not None and root.kind == "scalar" and root.start == root.end and not root.style:
            return None
        return root

    def _open(self, kind: Literal["map", "seq"], event: Any, start: int, inside: int) -> None:
        node = Node(kind, start, inside, flow=bool(event.flow_style), tag=event.tag or "", inside=inside)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._place(node)
        self.open.append(node)
        self.keys.append(None)

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


_NONE: list[Any] = []
"""What is inside every scalar: lists that nobody fills need not be made."""


def _scalar(event: Any, start: int, end: int, text: str, key: Node | None) -> Node:
    style = event.style or ""
    if style in ("|", ">"):
        header = text[start : text.find("\n", start)].split("#", maxsplit=1)[0]
        end = end - 1 if "+" in header and text[end - 1 : end] == "\n" else start + len(text[start:end].rstrip())
    elif start == end and not style and key is not None:
        # The parser puts a missing value at the next token; for us it is right behind the key's colon.
        colon = text.find(":", key.end)
        start = end = colon + 1 if colon >= 0 else key.end
    value = event.value if event.value.isascii() else _joined(event.value)
    return Node("scalar", start, end, value, style, tag=event.tag or "", items=_NONE, pairs=_NONE)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _joined(value: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes (RFC 8259 §7); the YAML parser leaves them two."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATE.search(value) else value


def _close(node: Node, end: int, text: str) -> None:
    if node.flow:
        node.end = end
        return
    first = node.start
    if node.pairs:
        node.end = node.pairs[-1][1].end
        first = node.pairs[0][0].start
    elif node.items:
        node.end = node.items[-1].end
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
