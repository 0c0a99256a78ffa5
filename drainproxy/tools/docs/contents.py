"""What is where on a long page? A list of its sections under the title, which `make docs` keeps true.

Sites and code hosts show an outline beside a page, but a reader of the file has none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONG = 1500
"""A page with more words than this gets a list."""
BEGIN, END = "<!-- Sections, written by `make docs`. -->\n\n", "\n<!-- End of sections. -->\n\n"
_LIST = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
_CODE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_FIRST_PARAGRAPH = re.compile(r"^# .*\n\n(?:[^#\n].*\n)*(?:\n|\Z)", re.MULTILINE)


def with_contents(text: str) -> str:
    """The page with a list of its sections behind the first paragraph if it is long, else without one."""
    bare = _LIST.sub("", text)
    sections = re.findall(r"^## (.+)$", _CODE.sub("", bare), re.MULTILINE)
    title = _FIRST_PARAGRAPH.search(bare)
    if len(bare.split()) <= LONG or title is None:
        return bare
    listed = "".join(f"- [{each}](#{anchor(each)})\n" for each in sections)
    return f"{bare[: title.end()]}{BEGIN}{listed}{END}{bare[title.end() :]}"


def anchor(heading: str) -> str:
    """The name under which sites and code hosts link to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def write(folder: Path) -> None:
    """Bring the lists of all pages up to date."""
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := with_contents(text)) != text:
            page.write_text(new, encoding="utf-8")
