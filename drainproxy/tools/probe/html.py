"""How is the report shared? One HTML file with its picture and tables inside: no script, nothing from outside."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from drainproxy.tools.probe.plot import Panel, draw
from drainproxy.tools.probe.report import notes, show_seconds
from drainproxy.tools.probe.verdict import DURING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drainproxy.tools.probe.measure import Measurement
    from drainproxy.tools.probe.verdict import Verdict

_PAGE_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } h1.ok { color: #1a7f37 } h1.bad { color: #cf222e }
table { border-collapse: collapse; margin: 1rem 0; width: 100% } td, th { padding: .25rem .75rem .25rem 0;
text-align: left; vertical-align: top; border-bottom: 1px solid #8884 }
td.n, th.n { text-align: right; white-space: nowrap }
small, .soft { color: #808890 } svg { width: 100%; height: auto }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole document. `body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_PAGE_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def probe_page(target: str, measurement: Measurement) -> str:
    """The report of one `probe`."""
    verdict = measurement.verdict
    during = next((span for span in verdict.spans if span.name == DURING), None)
    note = f"{verdict.sent} sent, {verdict.failed} failed"
    parts = [
        headline(verdict.headline, verdict.ok),
        f'<p class="soft">{escape(target)}</p>',
        *(f"<p>{escape(line)}</p>" for line in notes(measurement)),
        draw([Panel("requests", note, verdict.ok, measurement.samples, during)]),
    ]
    if verdict.failures:
        parts.append(failure_table(verdict))
    parts.append(latency_table(verdict))
    if verdict.pods:
        parts.append(table(("answered by", "requests"), [(name, str(count)) for name, count in verdict.pods]))
    return page(verdict.headline, parts)


def headline(text: str, ok: bool) -> str:
    return f'<h1 class="{"ok" if ok else "bad"}">{"✓" if ok else "✗"} {escape(text)}</h1>'


def failure_table(verdict: Verdict) -> str:
    rows = [
        (each.name, str(each.count), f"{each.first_s:.1f} s", f"{each.last_s:.1f} s", each.meaning, each.example)
        for each in verdict.failures
    ]
    return table(("failure", "count", "first", "last", "what it means", "first example"), rows)


def latency_table(verdict: Verdict) -> str:
    rows = [
        (
            each.phase,
            str(each.sent),
            str(each.failed),
            *map(show_seconds, (each.p50_s, each.p90_s, each.p99_s, each.max_s)),
        )
        for each in verdict.latency
    ]
    return table(("latency", "sent", "failed", "p50", "p90", "p99", "max"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are escaped; what looks like a number stands on the right."""
    lines = [list(row) for row in rows]
    first = lines[0] if lines else [""] * len(head)
    top = "".join(f"<th{_side(below)}>{escape(cell)}</th>" for cell, below in zip(head, first, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_side(cell)}>{escape(cell)}</td>" for cell in line) + "</tr>\n" for line in lines
    )
    return f"<table><tr>{top}</tr>\n{body}</table>"


def _side(cell: str) -> str:
    return " class=n" if cell[:1].isdigit() else ""
