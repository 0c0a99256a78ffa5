"""`make oncall`: all stories before a real Prometheus; the table of alerts against stories; pictures of the boards.

Exit code 1 if an alert fired that should not, or stayed silent that should have fired, or a query returned nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from drainproxy.tools.monitoring.boards import BOARDS
from drainproxy.tools.monitoring.rules import ALERTS
from tests.oncall.panels import QUERIES
from tests.oncall.pictures import draw
from tests.oncall.stories import STORIES, expected, told


def main() -> int:
    """The exit code."""
    arguments = argparse.ArgumentParser(prog="make oncall ARGS=")
    arguments.add_argument("--pictures", type=Path, help="draw each board into this folder")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, told(Path(folder), STORIES) as watch:
        fired = watch.fired()
        print(table(fired))
        silent = [query for query in QUERIES if not query.rows(watch)]
        print(f"\n{len(QUERIES)} queries of boards; without data: {', '.join(map(str, silent)) or 'none'}")
        if chosen.pictures:
            for board in BOARDS:
                draw(watch, board, chosen.pictures / f"{board.uid}.png")
    return int(bool(fired ^ expected(STORIES)) or bool(silent))


def table(fired: set[tuple[str, str]]) -> str:
    """A row for each alert, a column for each story: `fired`, `-`, and `WRONG` or `MISSING` where it should not be."""
    rows = [["alert", *(story.name for story in STORIES)]]
    for alert in ALERTS:
        cells = [cell((alert.name, story.name) in fired, expected=alert.name in story.fires) for story in STORIES]
        rows.append([alert.name, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def cell(fired: bool, *, expected: bool) -> str:
    """What to show for an alert in a story."""
    if fired:
        return "fired" if expected else "WRONG"
    return "MISSING" if expected else "-"


if __name__ == "__main__":
    sys.exit(main())
