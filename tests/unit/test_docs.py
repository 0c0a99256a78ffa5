"""Are the reference pages what the declarations say?"""

from __future__ import annotations

from pathlib import Path

import pytest

import drainproxy
from drainproxy.config.options import flag_of, options
from drainproxy.observe.metrics import METRICS
from drainproxy.tools.docs.contents import LONG, anchor, with_contents
from drainproxy.tools.docs.pages import PAGES, configuration, metrics, write

DOCS = Path(drainproxy.__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == with_contents(PAGES[name]()), "run `make docs`"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_long_page_begins_with_a_list_of_its_sections(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == with_contents(text), "run `make docs`"


def test_the_list_of_sections_stands_behind_the_first_paragraph_and_code_has_none() -> None:
    rest = "## One: a/b\n\n```sh\n## no\n```\n\n## Two\n" + "word " * LONG
    page = with_contents(f"<!-- Made -->\n# Title\n\nfirst\nparagraph\n\nsecond\n\n{rest}")
    head, listed = page.split("paragraph\n\n")
    assert head == "<!-- Made -->\n# Title\n\nfirst\n"
    assert listed.splitlines()[2:4] == ["- [One: a/b](#one-ab)", "- [Two](#two)"]
    assert with_contents(page) == page
    assert with_contents(page.replace("word ", "")).count("- [") == 0


def test_an_anchor_is_what_sites_and_code_hosts_make_of_a_heading() -> None:
    assert anchor("HTTP/1: small `GET`, keep-alive") == "http1-small-get-keep-alive"


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
