"""How is a manifest's text changed so that everything else keeps its bytes? Splices at nodes, in the file's own style.

A change is described by an *overlay*: plain dicts mirror the maps on the way down, and at the ends stand values or one
of the four words below. `merge` turns overlay and node into splices and says what it did (`Undo`); `revert` turns an
`Undo` back into splices. What a merge inserts are whole lines (block style) or whole entries (flow style), so taking
them out again restores the input byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.source import Node, data_of, parse, scalar_value

# --- overlays ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Own:
    """This value as a whole: what stands there is replaced unless it means the same."""

    value: Any


@dataclass(frozen=True, slots=True)
class Default:
    """This value where there is none; never replaces."""

    value: Any


@dataclass(frozen=True, slots=True)
class Named:
    """A list whose items are told apart by `key`: each of `items` is merged into its namesake, or appended."""

    key: str
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class At:
    """Changes to existing list items, by index."""

    items: dict[int, Any]


def plain(overlay: Any) -> Any:
    """What an overlay is where nothing was."""
    if isinstance(overlay, Own | Default):
        return overlay.value
    if isinstance(overlay, Named):
        return [plain(item) for item in overlay.items]
    if isinstance(overlay, dict):
        return {key: plain(value) for key, value in overlay.items()}
    assert not isinstance(overlay, At), "an index into a list that does not exist"
    return overlay


def applied(data: Any, overlay: Any) -> Any:
    """The data a merge must lead to: the meaning that the text is checked against."""
    if isinstance(overlay, Default):
        return plain(overlay) if data is None else data
    if data is None or isinstance(overlay, Own):
        return plain(overlay)
    if isinstance(overlay, Named | At) and not isinstance(data, list):
        raise ManifestError(f"a list was expected where the manifest has {data!r}")
    if isinstance(overlay, Named):
        result = list(data)
        for item in overlay.items:
            index = _find(result, overlay.key, item[overlay.key])
            if index is None:
                result.append(plain(item))
            else:
                result[index] = applied(result[index], item)
        return result
    if isinstance(overlay, At):
        return [applied(item, overlay.items[i]) if i in overlay.items else item for i, item in enumerate(data)]
    if isinstance(overlay, dict):
        if not isinstance(data, dict):
            raise ManifestError(f"a map was expected where the manifest has {data!r}")
        return data | {key: applied(data.get(key), value) for key, value in overlay.items()}
    return overlay


def _find(items: list[Any], key: str, value: Any) -> int | None:
    return next((i for i, item in enumerate(items) if isinstance(item, dict) and item.get(key) == value), None)


# --- what was done ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Undo:
    """What a merge did, by pointer: what it added (collections made on the way included), what it replaced.

    A pointer is the steps joined by `/` (`~1` for a slash in a step); a list item is `key=value` or its index.
    `replaced` holds the text that stood there (indented as it was) and the value that took its place (its `mark`; None
    where a collection took the place of nothing: it goes when it is empty again).
    """

    added: list[str] = field(default_factory=list)
    replaced: dict[str, tuple[str, Any]] = field(default_factory=dict)


Splice = tuple[int, int, str]


def mark(value: Any) -> Any:
    """A scalar as it is, a collection as a digest: tells whether somebody changed it, and holds no secret."""
    if not isinstance(value, dict | list):
        return value
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]


def join(pointer: str, step: str) -> str:
    """The pointer one step further down."""
    return f"{pointer}/{step.replace('~', '~0').replace('/', '~1')}"


def splice(text: str, splices: list[Splice]) -> str:
    """The text with every splice done. Splices at one place stand in the order in which they came."""
    parts: list[str] = []
    at = 0
    for start, end, new in sorted(splices, key=lambda each: (each[0], each[1])):
        assert start >= at, "splices that overlap"
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


# --- style ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Style:
    """How this document is written: steps of indentation, where a list's dashes stand, line ends, JSON or not.

    JSON may be indented with tabs (`pad`), and written without spaces (`tight`).
    """

    indent: int = 2
    dash: int = 0
    gap: int = 2
    newline: str = "\n"
    is_json: bool = False
    pad: str = " "
    tight: bool = False


def style_of(root: Node, text: str) -> Style:
    """The prevailing style of a document; where it shows none, two spaces and dashes under their key."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if root.flow and root.pairs and root.pairs[0][0].style == '"':
        return _json_style(root.pairs[0][0], text, newline)
    indents: list[int] = []
    dashes: list[int] = []
    gaps: list[int] = []
    _measure(root, indents, dashes, gaps)
    return Style(indent=_most(indents, 2), dash=_most(dashes, 0), gap=_most(gaps, 2), newline=newline)


def _json_style(first: Node, text: str, newline: str) -> Style:
    """JSON shows its style at its first key."""
    line = text.rfind("\n", 0, first.start) + 1
    pad = "\t" if text[line : line + 1] == "\t" else " "
    indent = (first.start - line if line else 2) or 2
    return Style(
        indent=indent, newline=newline, is_json=True, pad=pad, tight=text[first.end + 1 : first.end + 2] != " "
    )


def _measure(node: Node, indents: list[int], dashes: list[int], gaps: list[int]) -> None:
    for _, value in node.pairs:
        if value.kind in ("map", "seq") and not value.flow and not node.flow:
            (indents if value.kind == "map" else dashes).append(value.column - node.column)
        _measure(value, indents, dashes, gaps)
    for item in node.items:
        if item.kind == "map" and not item.flow and not node.flow:
            gaps.append(item.column - node.column)
        _measure(item, indents, dashes, gaps)


def _most(numbers: list[int], default: int) -> int:
    return max(sorted(set(numbers)), key=numbers.count) if numbers else default


# --- values as text ---------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z/](?:[\w./@+?=-]|:(?=[\w/]))*|\d+(?:ms|s|m|h|Ki|Mi|Gi)", re.ASCII)


def scalar_text(value: Any, *, is_json: bool = False) -> str:
    """One scalar, quoted where YAML 1.1 or 1.2 could read something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    safe = _PLAIN.fullmatch(value) and isinstance(scalar_value(value), str) and value.lower() not in ("y", "n")
    if safe and not is_json:
        return value
    if '"' in value and "'" not in value and value.isprintable() and not is_json:
        return f"'{value}'"
    return json.dumps(value) if is_json else _double_quoted(value)


def _double_quoted(value: str) -> str:
    """YAML 1.2 §7.3.1: what cannot be printed is escaped by its number."""
    plain_text = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in plain_text) + '"'


def block_text(value: Any, column: int, style: Style) -> str:
    """A value in block style whose first line stands at `column` already; further lines bring their indentation."""
    newline = style.newline + " " * column
    if isinstance(value, dict) and value:
        return newline.join(f"{scalar_text(key)}:{_below(each, column, style)}" for key, each in value.items())
    if isinstance(value, list) and value:
        return newline.join("-" + " " * (style.gap - 1) + block_text(item, column + style.gap, style) for item in value)
    return _leaf(value, style)


def _below(value: Any, column: int, style: Style) -> str:
    if isinstance(value, dict | list) and value:
        column += style.indent if isinstance(value, dict) else style.dash
        return style.newline + " " * column + block_text(value, column, style)
    return " " + _leaf(value, style)


def _leaf(value: Any, style: Style) -> str:
    return flow_text(value, style) if isinstance(value, dict | list) else scalar_text(value)


def flow_text(value: Any, style: Style, column: int | None = None) -> str:
    """A value in flow style, on one line, or (with a column) on lines of its own as pretty JSON has them."""
    if isinstance(value, dict):
        entries = [
            f"{scalar_text(key, is_json=style.is_json)}{_colon(style)}{flow_text(each, style, _deeper(column, style))}"
            for key, each in value.items()
        ]
        return _flow("{", entries, "}", style, column)
    if isinstance(value, list):
        return _flow("[", [flow_text(each, style, _deeper(column, style)) for each in value], "]", style, column)
    return scalar_text(value, is_json=style.is_json) if style.is_json else _flow_scalar(value)


def _colon(style: Style) -> str:
    return ":" if style.tight else ": "


def _deeper(column: int | None, style: Style) -> int | None:
    return None if column is None else column + style.indent


def _flow(opening: str, entries: list[str], closing: str, style: Style, column: int | None) -> str:
    if column is None or not entries:
        return opening + ("," if style.tight else ", ").join(entries) + closing
    outer, inner = style.newline + style.pad * column, style.newline + style.pad * (column + style.indent)
    return opening + inner + f",{inner}".join(entries) + outer + closing


def _flow_scalar(value: Any) -> str:
    text = scalar_text(value)
    return _double_quoted(value) if isinstance(value, str) and text == value and "?" in value else text


# --- merge ------------------------------------------------------------------------------------------------------------


def merge(text: str, root: Node, overlay: dict[str, Any], style: Style) -> tuple[list[Splice], Undo]:
    """The splices that bring `overlay` into the map at `root`, and what they do."""
    merger = _Merge(text, style, [], Undo())
    merger.into(root, overlay, "")
    return merger.splices, merger.undo


@dataclass(slots=True)
class _Merge:
    text: str
    style: Style
    splices: list[Splice]
    undo: Undo

    def into(self, node: Node, overlay: Any, pointer: str) -> None:
        """Bring `overlay` into the value at `node`. What lies deeper is spliced first: at one place it comes first."""
        data = data_of(node)
        if applied(data, overlay) == data:
            return
        if data is None and node.kind != "alias" and isinstance(overlay, dict | Named):
            self._onto_nothing(node, overlay, pointer)
        elif data is None or node.kind in ("alias", "scalar") or not isinstance(overlay, dict | Named | At):
            self._replace(node, applied(data, overlay), pointer)
        elif isinstance(overlay, dict):
            self._into_map(node, overlay, data, pointer)
        elif isinstance(overlay, At):
            for index, item in overlay.items.items():
                self.into(node.items[index], item, join(pointer, str(index)))
        else:
            self._into_list(node, overlay, data, pointer)

    def _onto_nothing(self, node: Node, overlay: dict[str, Any] | Named, pointer: str) -> None:
        """A key without a value, or with null, gets a collection."""
        self.undo.replaced[pointer] = (self.text[node.start : node.end], None)
        self._note_inner(overlay, pointer)
        value = plain(overlay)
        if node.start == node.end and not self.style.is_json:
            self._fill(node, value)
        else:
            self.splices.append((node.start, node.end, flow_text(value, self.style)))

    def _into_map(self, node: Node, overlay: dict[str, Any], data: dict[str, Any], pointer: str) -> None:
        missing: dict[str, Any] = {}
        for key, value in overlay.items():
            existing = node.get(key)
            if existing is not None:
                self.into(existing, value, join(pointer, key))
            elif applied(data.get(key), value) != data.get(key):
                missing[key] = applied(data.get(key), value)
                self._note_added(value, join(pointer, key))
        if missing:
            self._append(node, missing)

    def _into_list(self, node: Node, overlay: Named, data: list[Any], pointer: str) -> None:
        missing: list[Any] = []
        for item in overlay.items:
            step = f"{overlay.key}={item[overlay.key]}"
            index = _find(data, overlay.key, item[overlay.key])
            if index is not None:
                self.into(node.items[index], item, join(pointer, step))
            else:
                missing.append(plain(item))
                self.undo.added.append(join(pointer, step))
        if missing:
            self._append(node, missing)

    def _note_added(self, overlay: Any, pointer: str) -> None:
        """Collections made on the way are noted too: they go when they are empty again."""
        self.undo.added.append(pointer)
        self._note_inner(overlay, pointer)

    def _note_inner(self, overlay: Any, pointer: str) -> None:
        if isinstance(overlay, dict):
            for key, value in overlay.items():
                self._note_added(value, join(pointer, key))
        elif isinstance(overlay, Named):
            for item in overlay.items:
                self.undo.added.append(join(pointer, f"{overlay.key}={item[overlay.key]}"))

    def _append(self, node: Node, value: dict[str, Any] | list[Any]) -> None:
        """Entries behind the last one of a collection."""
        children = [value for _, value in node.pairs] + node.items
        if not node.flow:
            at = _line_end(self.text, node.end)
            lines = self.style.newline + " " * node.column + block_text(value, node.column, self.style)
            self.splices.append((at, at, lines))
            return
        first = node.pairs[0][0] if node.pairs else node.items[0] if node.items else None
        column = _own_line_column(self.text, first.start) if first is not None else None
        entries = flow_text(value, self.style, column - self.style.indent if column is not None else None)
        gap = "" if self.style.tight else " "
        between = (
            "," + (self.style.newline + self.style.pad * column if column is not None else gap) if children else ""
        )
        at = children[-1].end if children else node.inside
        self.splices.append((at, at, between + entries[1:-1].strip()))

    def _replace(self, node: Node, value: Any, pointer: str) -> None:
        before = self.text[node.start : node.end]
        is_block = node.kind in ("map", "seq") and not node.flow
        indented = " " * _column(self.text, node) if is_block else ""
        self.undo.replaced[pointer] = (indented + before, mark(value))
        if isinstance(value, dict | list) and is_block:
            self.splices.append((node.start, node.end, block_text(value, node.column, self.style)))
        elif isinstance(value, dict | list):
            line = self.text.rfind("\n", 0, node.start) + 1
            margin = len(self.text[line : node.start]) - len(self.text[line : node.start].lstrip())
            column = margin if "\n" in before else None
            self.splices.append((node.start, node.end, flow_text(value, self.style, column)))
        else:
            quoted = node.style == '"' and isinstance(value, str) and not self.style.is_json
            new = _double_quoted(str(value)) if quoted else scalar_text(value, is_json=self.style.is_json)
            self.splices.append((node.start, node.end, new if node.start < node.end else " " + new))

    def _fill(self, node: Node, value: Any) -> None:
        """A key that was written without a value gets one, below its line."""
        line_start = self.text.rfind("\n", 0, node.start) + 1
        key_column = len(self.text[line_start : node.start]) - len(self.text[line_start : node.start].lstrip(" -"))
        column = key_column + (self.style.indent if isinstance(value, dict) else self.style.dash)
        at = _line_end(self.text, node.start)
        self.splices.append((at, at, self.style.newline + " " * column + block_text(value, column, self.style)))


def _line_end(text: str, position: int) -> int:
    """The end of the line of a position: before its line end."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" else end


def _own_line_column(text: str, position: int) -> int | None:
    """The column of a position if nothing but spaces stands before it on its line."""
    start = text.rfind("\n", 0, position) + 1
    return position - start if start and not text[start:position].strip() else None


def _column(text: str, node: Node) -> int:
    return node.start - (text.rfind("\n", 0, node.start) + 1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# --- revert -----------------------------------------------------------------------------------------------------------


def revert(text: str, root: Node, undo: Undo, style: Style) -> tuple[list[Splice], list[str]]:
    """The splices that take out what `undo` describes, and the pointers of what somebody changed since (left alone)."""
    reverter = _Revert(text, style, undo, set(undo.added), [], [])
    reverter.visit(root, "")
    return reverter.splices, reverter.changed


@dataclass(slots=True)
class _Revert:
    text: str
    style: Style
    undo: Undo
    added: set[str]
    splices: list[Splice]
    changed: list[str]

    def visit(self, node: Node, pointer: str) -> None:
        children = self._children(node, pointer)
        doomed = [self._goes(child, where) for _, child, where in children]
        if any(doomed):
            self._delete(node, [(start, child.end) for start, child, _ in children], doomed)
        for (_, child, where), goes in zip(children, doomed, strict=True):
            if goes:
                continue
            before, wrote = self.undo.replaced.get(where, ("", ""))
            if where in self.undo.replaced and wrote is not None:
                self._restore(child, where)
            elif where in self.undo.replaced and all(self._goes(*each[1:]) for each in self._children(child, where)):
                self._to_nothing(child, before)
            elif child.kind != "alias":
                self.visit(child, where)

    def _children(self, node: Node, pointer: str) -> list[tuple[int, Node, str]]:
        """Each entry: where its text starts, its value, its pointer."""
        if node.kind == "map":
            return [(key.start, value, join(pointer, key.resolved.value)) for key, value in node.pairs]
        found = []
        for index, item in enumerate(node.items):
            where = join(pointer, str(index))
            for key, value in item.resolved.pairs:
                named = join(pointer, f"{key.value}={value.resolved.value}")
                if value.resolved.kind == "scalar" and self._known(named):
                    where = named
            found.append((item.start, item, where))
        return found

    def _known(self, pointer: str) -> bool:
        beneath = pointer + "/"
        return any(each == pointer or each.startswith(beneath) for each in [*self.undo.added, *self.undo.replaced])

    def _goes(self, node: Node, pointer: str) -> bool:
        """Was added, and holds nothing that somebody else put in."""
        if pointer not in self.added:
            return False
        beneath = pointer + "/"
        if not any(each.startswith(beneath) for each in self.undo.added):
            return True
        return all(self._goes(child, where) for _, child, where in self._children(node, pointer))

    def _delete(self, node: Node, entries: list[tuple[int, int]], doomed: list[bool]) -> None:
        if all(doomed) and not node.flow:
            raise ManifestError("nothing would be left of this object: remove drainproxy by hand")
        if not node.flow:
            for (start, end), goes in zip(entries, doomed, strict=True):
                if goes:
                    line = self.text.rfind("\n", 0, start)
                    before = line - 1 if self.text[line - 1 : line] == "\r" else line
                    self.splices.append((before, _line_end(self.text, end), ""))
            return
        kept = [i for i, goes in enumerate(doomed) if not goes]
        for i, goes in enumerate(doomed):
            if not goes:
                continue
            if not kept:
                self.splices.append((node.inside if i == 0 else entries[i - 1][1], entries[i][1], ""))
            elif i < kept[0]:
                self.splices.append((entries[i][0], entries[i + 1][0], ""))
            else:
                self.splices.append((entries[i - 1][1], entries[i][1], ""))

    def _restore(self, node: Node, pointer: str) -> None:
        before, wrote = self.undo.replaced[pointer]
        if mark(data_of(node)) != wrote:
            self.changed.append(pointer)
            return
        new = before.lstrip(" ")
        shift = _column(self.text, node) - (len(before) - len(new))
        if self.style.is_json and not _is_json(before):
            # The manifest was YAML when it was noted, and went through something that made it JSON.
            new = flow_text(data_of(parse("undo", before).documents[0].root), self.style)
        elif before.startswith(" ") and shift:
            new = re.sub(r"(?<=\n)[ ]*(?=\S)", lambda spaces: " " * max(0, len(spaces[0]) + shift), new)
        self.splices.append((node.start, node.end, new))

    def _to_nothing(self, node: Node, before: str) -> None:
        """Back to null, or to a key without a value: what stands below its line, or behind it, goes."""
        if before:
            self.splices.append((node.start, node.end, before))
            return
        line = self.text.rfind("\n", 0, node.start)
        between = self.text[line + 1 : node.start]
        if node.kind in ("map", "seq") and not node.flow and not between.strip():
            line_end = line - 1 if self.text[line - 1 : line] == "\r" else line
            self.splices.append((line_end, _line_end(self.text, node.end), ""))
        else:
            start = len(self.text[: node.start].rstrip(" "))
            self.splices.append((start, node.end, ""))
