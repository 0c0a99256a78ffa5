"""How is `check` used? Reads manifests, prints findings; the rules are `drainproxy.tools.manifest.rules`'."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from drainproxy.tools.cli.inject import need_tools, read_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.rules import Finding, Report, Rule

_COLORS = {"error": "red", "warning": "yellow", "info": "cyan"}
_CONTEXT_LINES = 1
_WIDTH = 100


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="FILE|DIR|-",
    help="What to read: YAML or JSON, a directory (all its manifests), or - for stdin. Repeatable; all is one input.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="For people, or for CI.",
)
@click.option("--strict", is_flag=True, help="Exit 1 on warnings too.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave a rule out, by id or name. Repeatable.")
@click.option("--explain", metavar="RULE", help="Say what a rule finds, why it matters, and the fix.")
@click.option("--list", "list_rules", is_flag=True, help="List the rules.")
@click.option("--color/--no-color", default=None, help="Colour, or not. [default: on a terminal]")
def command(
    paths: tuple[str, ...],
    form: str,
    strict: bool,
    ignore: tuple[str, ...],
    explain: str | None,
    list_rules: bool,
    color: bool | None,
) -> None:
    """Find the mistakes in Kubernetes manifests that lose requests.

    Works on any manifests, with drainproxy in them or without. Give it everything that is applied together: Services
    are looked at with the Pods they select. Exit 1 on errors, with --strict on warnings too.

    \b
      drainproxy check -f deploy/
      kubectl kustomize overlays/prod | drainproxy check -f - --strict
      drainproxy check --explain DP203

    An object's annotation drainproxy.io/ignore lists rules that do not apply to it.
    """
    need_tools()
    from drainproxy.tools.manifest import report as write  # noqa: PLC0415 - ruamel.yaml is loaded only when it is needed
    from drainproxy.tools.manifest.rules import check  # noqa: PLC0415 - as above

    if list_rules:
        _print_rules(color)
        return
    if explain is not None:
        _explain(_known(explain), color)
        return
    if not paths:
        raise click.UsageError("nothing to check: give -f FILE, -f DIRECTORY or -f -")
    with _no_collections():
        report = check(read_files(paths), [_known(each).id for each in ignore])
    if form == "text":
        _print_report(report, color)
    else:
        text = {"json": write.as_json, "github": write.as_github, "sarif": write.as_sarif}[form](report)
        if text:
            click.echo(text)
    if _fails(report, strict):
        sys.exit(1)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without garbage collections: what is read stays to the end, and looking through it takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _fails(report: Report, strict: bool) -> bool:
    bad = ("error", "warning") if strict else ("error",)
    return any(each.severity.value in bad for each in report.findings)


def _known(name: str) -> Rule:
    from drainproxy.tools.manifest.rules import RULES  # noqa: PLC0415 - as above

    for rule in RULES.values():
        if name.upper() == rule.id or name.lower() == rule.slug:
            return rule
    raise click.UsageError(f"no rule {name!r}; `drainproxy check --list` lists them")


# --- for people -------------------------------------------------------------------------------------------------------


def _print_report(report: Report, color: bool | None) -> None:
    seen: set[str] = set()
    for each in report.findings:
        _print_finding(each, report, color, in_full=each.rule.id not in seen)
        seen.add(each.rule.id)
    counts = {
        name: sum(each.severity.value == name for each in report.findings) for name in ("error", "warning", "info")
    }
    names = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("hint", "hints")}
    told = ", ".join(
        click.style(f"{count} {names[name][count != 1]}", fg=_COLORS[name], bold=True)
        for name, count in counts.items()
        if count
    )
    objects = f"{report.objects} object{'s' if report.objects != 1 else ''}"
    click.echo(f"{objects}: {told or click.style('nothing to find fault with', fg='green')}", color=color)


def _print_finding(finding: Finding, report: Report, color: bool | None, *, in_full: bool) -> None:
    rule = finding.rule
    level = click.style(finding.severity.value, fg=_COLORS[finding.severity.value], bold=True)
    click.echo(f"{level} {click.style(f'{rule.id} {rule.slug}', bold=True)}: {rule.title}", color=color)
    click.echo(f"  {click.style('-->', fg='blue')} {finding.file}:{finding.line}:{finding.column}", color=color)
    _print_excerpt(finding, report, color)
    click.echo(f"  {finding.object}: {finding.message}", color=color)
    if in_full:
        click.echo(_paragraph("why", rule.why), color=color)
        click.echo(_paragraph("fix", rule.fix), color=color)
    click.echo()


def _print_excerpt(finding: Finding, report: Report, color: bool | None) -> None:
    source = next(each for each in report.sources if each.name == finding.file)
    first = max(1, finding.line - _CONTEXT_LINES)
    lines = source.lines(first, finding.line + _CONTEXT_LINES)
    width = len(str(first + len(lines) - 1))
    for number, text in enumerate(lines, first):
        shown = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
        hit = number == finding.line
        gutter = click.style(f"  {number:>{width}} |", fg="blue")
        click.echo(f"{gutter} {click.style(shown, bold=hit)}", color=color)
        if hit and finding.column <= _WIDTH:
            mark = click.style("^", fg=_COLORS[finding.severity.value], bold=True)
            empty = click.style(f"  {'':>{width}} |", fg="blue")
            click.echo(f"{empty} {' ' * (finding.column - 1)}{mark}", color=color)


def _paragraph(label: str, text: str) -> str:
    head = click.style(f"  {label}: ", bold=True)
    margin = " " * (len(label) + 4)
    return head + click.wrap_text(text, _WIDTH, initial_indent=margin, subsequent_indent=margin).lstrip()


def _explain(rule: Rule, color: bool | None) -> None:
    level = click.style(rule.severity.value, fg=_COLORS[rule.severity.value], bold=True)
    click.echo(f"{click.style(f'{rule.id} {rule.slug}', bold=True)} ({level}): {rule.title}\n", color=color)
    click.echo(_paragraph("why", rule.why) + "\n", color=color)
    click.echo(_paragraph("fix", rule.fix), color=color)
    if rule.example:
        click.echo()
        for line in rule.example.splitlines():
            click.echo(f"    {line}")


def _print_rules(color: bool | None) -> None:
    from drainproxy.tools.manifest.rules import RULES  # noqa: PLC0415 - as above

    for rule in RULES.values():
        level = click.style(f"{rule.severity.value:<8}", fg=_COLORS[rule.severity.value])
        click.echo(f"{click.style(rule.id, bold=True)}  {level} {rule.slug:<30} {rule.title}", color=color)
