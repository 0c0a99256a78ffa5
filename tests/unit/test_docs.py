"""Are the reference pages what the declarations say?"""

from __future__ import annotations

from pathlib import Path

import pytest

import drainproxy
from drainproxy.config.options import flag_of, options
from drainproxy.observe.metrics import METRICS
from drainproxy.tools.docs.pages import PAGES, configuration, metrics, write

DOCS = Path(drainproxy.__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `python -m drainproxy.tools.docs`"


def test_every_option_and_every_metric_is_on_its_page() -> None:
    assert all(f"`--{flag_of(each)} " in configuration() for each, _ in options())
    assert all(f"| `{metric.name}` |" in metrics() for metric in METRICS)


def test_tables_have_as_many_cells_in_every_row(tmp_path: Path) -> None:
    write(tmp_path)
    for name in PAGES:
        width = 0
        for line in (tmp_path / name).read_text(encoding="utf-8").splitlines():
            cells = line.replace("\\|", "").count("|")
            assert cells in (0, width) or not width, line
            width = cells if line.startswith("|") else 0
