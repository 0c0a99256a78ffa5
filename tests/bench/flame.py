"""How is a profile drawn? As a flame graph in one SVG file: width is time, a callee stands below its caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from zlib import crc32

WIDTH, ROW, MARGIN = 1600, 17, 34
NARROWEST = 0.3
"""Pixels; what is narrower is left out."""
LETTER = 6.6


@dataclass(slots=True)
class Frame:
    """A function as called from its parents; `count` of the samples were in it or below it."""

    name: str
    count: int = 0
    callees: dict[str, Frame] = field(default_factory=dict)


def tree(stacks: str) -> Frame:
    """From folded stacks: `a;b;c COUNT` a line."""
    root = Frame("all")
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        root.count += int(count)
        frame = root
        for name in stack.split(";"):
            frame = frame.callees.setdefault(name, Frame(name))
            frame.count += int(count)
    return root


def depth(frame: Frame) -> int:
    return 1 + max(map(depth, frame.callees.values()), default=0)


def draw(stacks: str, title: str) -> str:
    """The picture. A box's tooltip says the function and its share."""
    root = tree(stacks)
    height = MARGIN + ROW * depth(root) + 8
    boxes: list[str] = []
    _place(root, 0.0, 0, root.count, boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        'font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="20" font-size="14">{escape(title)}</text>\n'
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _place(frame: Frame, left: float, level: int, total: int, boxes: list[str]) -> None:
    width = WIDTH * frame.count / total
    if width < NARROWEST:
        return
    top = MARGIN + ROW * level
    letters = int((width - 4) / LETTER)
    text = frame.name if len(frame.name) <= letters else frame.name[: letters - 1] + "…" if letters > 3 else ""
    label = f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(text)}</text>' if text else ""
    boxes.append(
        f"<g><title>{escape(frame.name)}: {100 * frame.count / total:.1f} %</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{max(width - 0.5, 0.2):.1f}" height="{ROW - 1}" '
        f'fill="{_colour(frame.name)}"/>'
        f"{label}</g>"
    )
    for callee in sorted(frame.callees.values(), key=lambda each: -each.count):
        _place(callee, left, level + 1, total, boxes)
        left += WIDTH * callee.count / total


def _colour(name: str) -> str:
    """The same for a file wherever it stands."""
    return f"hsl({crc32(name.rpartition('(')[2].partition(':')[0].encode()) % 360}, 60%, 75%)"
