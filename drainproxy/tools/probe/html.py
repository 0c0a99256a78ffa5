"""How is the report shared? One HTML file with its picture and tables inside: no script, nothing from outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from drainproxy.tools.probe.causes import likely_cause, meaning, seen_before
from drainproxy.tools.probe.plot import Panel, draw, draw_percentiles
from drainproxy.tools.probe.report import run_notes, target_notes, times
from drainproxy.tools.probe.verdict import DURING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drainproxy.tools.probe.measure import Measurement, Result
    from drainproxy.tools.probe.outcome import Outcome
    from drainproxy.tools.probe.verdict import Span, Verdict

_NUMBER = re.compile(r"[\d.]+(?: ?(?:ms|s|%))?|-")
"""A count, a duration or a share, or the dash for none."""

_PAGE_STYLE = """
:root { color-scheme: light dark }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
body { overflow-wrap: anywhere }
h1 { font-size: 1.3rem } h1.ok { color: #1a7f37 } h1.bad { color: #cf222e } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: 1rem 0; width: 100% } td, th { padding: .25rem .75rem .25rem 0;
text-align: left; vertical-align: top; border-bottom: 1px solid #8884 } th { overflow-wrap: normal }
td.n, th.n { text-align: right; white-space: nowrap }
small, .soft { color: #808890 } .bad { color: #cf222e }
svg { width: 100%; height: auto; display: block; margin: 1rem 0 }
@page { size: A4; margin: 12mm }
@media print {
:root { color-scheme: light } body { max-width: none; margin: 0; padding: 0; font-size: 11px }
tr, svg { break-inside: avoid } h1, h2 { break-after: avoid }
}
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


def probe_page(measurement: Measurement, outcome: Outcome) -> str:
    """The report of one `probe`."""
    when = datetime.fromtimestamp(measurement.started_at, UTC).isoformat(sep=" ", timespec="seconds")
    parts = [
        headline(outcome.headline, outcome.ok),
        *(f'<p class="bad">{escape(problem)}</p>' for problem in outcome.problems[1:]),
        *(f"<p>{escape(line)}</p>" for line in run_notes(measurement)),
    ]
    for result in measurement.results:
        parts += _target(result)
    parts.append(f'<p class="soft">Measured by <code>drainproxy probe</code>, started {when}.</p>')
    return page(outcome.headline, parts)


def _target(result: Result) -> Iterable[str]:
    verdict = result.verdict
    during = next((span for span in verdict.spans if span.name == DURING), None)
    note = f"{verdict.sent} sent, {verdict.failed} failed"
    yield f"<h2>{escape(result.target)}</h2>"
    yield from (f'<p class="soft">{escape(line)}</p>' for line in target_notes(verdict))
    if during is not None:
        yield table(("phase", "from", "to"), [_phase(span) for span in verdict.spans])
    yield draw([Panel("requests", note, verdict.failed == 0, result.samples, during)])
    if verdict.failures:
        yield failure_table(verdict)
    yield draw_percentiles(verdict.buckets, verdict.length_s, during)
    yield latency_table(verdict)
    if verdict.pods:
        yield table(("answered by", "requests"), [(name, str(count)) for name, count in verdict.pods])


def _phase(span: Span) -> tuple[str, str, str]:
    return span.name, f"{span.start_s:.1f} s", f"{span.end_s:.1f} s"


def headline(text: str, ok: bool) -> str:
    return f'<h1 class="{"ok" if ok else "bad"}">{"✓" if ok else "✗"} {escape(text)}</h1>'


def failure_table(verdict: Verdict) -> str:
    rows = [
        (
            each.name,
            str(each.count),
            f"{each.first_s:.1f} s",
            f"{each.last_s:.1f} s",
            meaning(each.name),
            each.example,
            likely_cause(each, verdict) or seen_before(each) or "-",
        )
        for each in verdict.failures
    ]
    head = (
        "failure",
        "count",
        "first",
        "last",
        "what the client saw",
        "first example",
        "likely cause, with its evidence",
    )
    return table(head, rows)


def latency_table(verdict: Verdict) -> str:
    rows = [(each.phase, str(each.sent), str(each.failed), *times(each)) for each in verdict.latency]
    return table(("latency", "sent", "failed", "p50", "p90", "p99", "max"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are escaped; numbers stand on the right, but for the first column, which names the row."""
    lines = [list(row) for row in rows]
    first = lines[0] if lines else [""] * len(head)
    sides = ["", *(' class="n"' if _NUMBER.fullmatch(cell) else "" for cell in first[1:])]
    top = "".join(f"<th{side}>{escape(cell)}</th>" for cell, side in zip(head, sides, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{side}>{escape(cell)}</td>" for cell, side in zip(line, sides, strict=True)) + "</tr>\n"
        for line in lines
    )
    return f"<table><tr>{top}</tr>\n{body}</table>"
