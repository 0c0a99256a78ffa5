"""How is `check` used? Reads manifests, prints findings; the rules are `drainproxy.tools.manifest.rules`'."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.cli._output import output_option
from drainproxy.tools.cli._manifests import need_tools, read_files, read_text
from drainproxy.tools.cli._scope import live_options, scope_of
from drainproxy.tools.cli._terminal import wants_color

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.live.scope import Scope
    from drainproxy.tools.manifest.rules import Finding, Report, Rule
    from drainproxy.tools.manifest.source import File
    from drainproxy.tools.manifest.wanted import Wanted

_COLORS = {"error": "red", "warning": "yellow", "info": "cyan"}
_CONTEXT_LINES = 1
_WIDTH = 100


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("files", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="FILE|DIR|-",
    help="What to read: a YAML or JSON file, a directory (with all directories in it), or - for stdin. Repeatable; -f "
    "may be left out. All files together are one input.",
)
@live_options
@output_option("github", "sarif", former=("--format",))
@click.option("--strict", is_flag=True, default=None, help="Exit with 1 on warnings too.")
@click.option(
    "--min-severity",
    type=click.Choice(["error", "warning", "info"]),
    help="Show only findings of this severity or worse.",
)
@click.option("--rule", "only", multiple=True, metavar="RULE", help="Apply only this rule, by id or name. Repeatable.")
@click.option("--skip", "--ignore", multiple=True, metavar="RULE", help="Do not apply this rule. Repeatable.")
@click.option(
    "--config",
    metavar="FILE",
    help="File with settings. [default: .drainproxy.toml here or in a directory above]",
)
@click.option("--profile", metavar="NAME", help="Also use the table [check.profile.NAME] of the settings.")
@click.option("--explain", metavar="RULE", help="Explain a rule: what it finds, why it matters, and the fix.")
@click.option("--list", "list_rules", is_flag=True, help="List the rules.")
@click.option("--color/--no-color", default=None, help="Use colours. [default: on a terminal, without NO_COLOR]")
def command(
    files: tuple[str, ...],
    paths: tuple[str, ...],
    output: str,
    explain: str | None,
    list_rules: bool,
    color: bool | None,
    **asked: Any,
) -> None:
    """Find mistakes in Kubernetes manifests that lose requests.

    Works with and without drainproxy in the manifests. Give it everything that is applied together: Services are
    checked together with the Pods that they select.

    \b
      drainproxy check deploy/
      kubectl kustomize overlays/prod | drainproxy check --strict -
      drainproxy check --live -n shop
      drainproxy check --min-severity warning --skip one-replica -f web.yaml
      drainproxy check --explain DP203

    The annotation drainproxy.io/ignore on an object lists rules that do not apply to it.

    Exit code: 0 no errors; 1 errors, with --strict also warnings; 2 bad usage, or input that cannot be read.
    """
    need_tools()
    from drainproxy.tools.manifest import report as write  # noqa: PLC0415 - PyYAML is loaded only when it is needed
    from drainproxy.tools.manifest.rules import check  # noqa: PLC0415 - as above
    from drainproxy.tools.manifest.wanted import known_rule  # noqa: PLC0415 - as above

    color = wants_color(color)
    if list_rules:
        _print_rules(color)
        return
    if explain is not None:
        _explain(known_rule(explain), color)
        return
    named = (*paths, *files)
    scope = scope_of(asked, has_files=bool(named))
    if scope is None and not named:
        raise click.UsageError("nothing to check: give a FILE, a DIRECTORY, - for stdin, or --live")
    wanted = _wanted(**asked)
    with _no_collections():
        report = check(read_files(named) if scope is None else _read_cluster(scope), wanted.rules, wanted.least)
    if output == "text":
        _print_report(report, color, files=len(report.sources) if scope is None else 0)
    else:
        text = {"json": write.as_json, "github": write.as_github, "sarif": write.as_sarif}[output](report)
        if text:
            click.echo(text)
    if _fails(report, wanted.strict):
        sys.exit(1)


def _read_cluster(scope: Scope) -> list[File]:
    from drainproxy.tools.live.kubectl import read_to_check  # noqa: PLC0415 - PyYAML is loaded only when it is needed

    files, notes = read_to_check(scope)
    for note in notes:
        click.echo(f"drainproxy: {note}", err=True)
    return files


def _wanted(
    *,
    config: str | None,
    profile: str | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    min_severity: str | None,
    strict: bool | None,
) -> Wanted:
    """The settings file, then the command line on top."""
    from drainproxy.tools.manifest.wanted import FILE, Wanted, chosen, read_wanted  # noqa: PLC0415 - as above

    here = Path.cwd()
    found = [each / FILE for each in (here, *here.parents) if (each / FILE).is_file()]
    file = Path(config) if config is not None else next(iter(found), None)
    if profile is not None and file is None:
        raise click.UsageError(f"--profile {profile}: there is no {FILE} here or in a directory above")
    wanted = Wanted() if file is None else read_wanted(str(file), read_text(file), profile)
    return chosen(wanted, only=only, skip=skip, least=min_severity, strict=strict)


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


def _print_report(report: Report, color: bool | None, *, files: int) -> None:
    seen: set[str] = set()
    for each in report.findings:
        _print_finding(each, report, color, in_full=each.rule.id not in seen)
        seen.add(each.rule.id)
    names = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("hint", "hints")}
    counts = Counter(each.severity.value for each in report.findings)
    told = ", ".join(
        click.style(_counted(counts[level], *names[level]), fg=_COLORS[level], bold=True)
        for level in names
        if counts[level]
    )
    seen_in = _counted(report.objects, "object") + (f" in {_counted(files, 'file')}" if files else "")
    hidden = f" ({report.hidden} hidden, below --min-severity)" if report.hidden else ""
    click.echo(f"{seen_in}: {told or click.style('no findings', fg='green')}{hidden}", color=color)


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


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
