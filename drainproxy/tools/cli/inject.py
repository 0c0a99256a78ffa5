"""How is `inject` used? Reads manifests and writes them with drainproxy; the thinking is done in `tools/manifest`."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.config.values import parse_duration
from drainproxy.tools.cli._manifests import joined, manifests_below, need_tools, read_files
from drainproxy.tools.cli._scope import live_options, scope_of
from drainproxy.tools.cli._sidecar import new_token, sidecar_options
from drainproxy.tools.cli._terminal import wants_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.live.scope import Scope
    from drainproxy.tools.manifest.inject import Outcome
    from drainproxy.tools.manifest.source import File

SKIPPED = 3
"""Exit code: manifests were written, but not all that were asked for."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("files", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="FILE|DIR|-",
    help="What to read: a YAML or JSON file, a directory, a pattern, or - for stdin. Repeatable; -f may be left out.",
)
@click.option("-R", "--recursive", is_flag=True, help="Also read the directories inside a directory.")
@live_options
@click.option("-i", "--in-place", is_flag=True, help="Change the files themselves instead of printing.")
@click.option("--diff", "as_diff", is_flag=True, help="Print what would change, as a diff. Write nothing.")
@click.option("--remove", "take_out", is_flag=True, help="Remove drainproxy: gives back the manifests as they were.")
@click.option("--only", multiple=True, metavar="KIND/NAME", help="Change only this workload. Repeatable.")
@click.option("--container", "containers", multiple=True, metavar="NAME", help="The app's container. Repeatable.")
@click.option(
    "--hold",
    multiple=True,
    metavar="NAME",
    help="Another container that the app needs until the drain is over (a cache, a database proxy). It gets the same "
    "preStop hook. Repeatable.",
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="PORT[,protocol=…]",
    help="The app's port, by name or number, with its protocol: auto, http1, http2, tcp or any. Repeatable.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="[PORT=]PROTOCOL",
    help="The app's protocol, on all ports or on one. Repeatable.",
)
@click.option(
    "--skip-ambiguous", is_flag=True, help="Write the workloads that are clear, and exit with 3 if others are not."
)
@click.option("--json", "as_json", is_flag=True, help="Report on stderr as JSON instead of a table.")
@sidecar_options
@click.option(
    "--grace-period",
    metavar="DURATION",
    help="The Pod's grace period. [default: that of the manifest, raised if the drain does not fit]",
)
@click.option(
    "--drain-token",
    metavar="generate|none|TEXT",
    help="The token that /drain requires. generate (the default) makes one in the first run and keeps it later.",
)
@click.option(
    "--drain-token-secret",
    metavar="NAME/KEY",
    help="The sidecar reads its token from this Secret. The kubelet's HTTP hook cannot do that, so also give "
    "--hook curl, or the same value with --drain-token.",
)
@click.option(
    "--hook",
    type=click.Choice(["http", "curl", "wget"]),
    help="Who calls /drain: the kubelet (http, the default; works with every image), or curl or wget in the app's "
    "container. With curl or wget, a command that was the preStop hook before runs after the drain.",
)
@click.option("--replace-hook", is_flag=True, help="Replace a preStop hook that cannot be kept.")
def command(
    files: tuple[str, ...],
    paths: tuple[str, ...],
    recursive: bool,
    in_place: bool,
    as_diff: bool,
    as_json: bool,
    take_out: bool,
    **asked: Any,
) -> None:
    """Add drainproxy to Kubernetes manifests.

    Reads all objects that make Pods (Deployment, StatefulSet, DaemonSet, Job, CronJob, Pod, ReplicationController,
    Rollout, CloneSet, DeploymentConfig, …). Writes them with the sidecar, the preStop hook, probes and a grace period
    that is long enough. Services and NetworkPolicies in the same input are changed to match. Everything else stays as
    it is, byte for byte. A second run changes nothing. A newer drainproxy updates only its own parts.

    \b
      drainproxy inject web.yaml | kubectl apply -f -
      drainproxy inject -i -R manifests/
      kubectl kustomize overlays/prod | drainproxy inject - --diff
      drainproxy inject --remove web.yaml
      drainproxy inject --live -n shop -l app=web | kubectl apply -f -

    drainproxy is put in front of all ports that the Services in the input use, except ports for metrics, health and
    debugging. The protocol of a port is taken from the Service's appProtocol, port names, probes, well-known port
    numbers and images. A table on stderr shows each choice and its reason; a question mark marks a guess. If something
    is not clear, the error shows the annotation that decides it: drainproxy.io/ports, /protocol, /container,
    /grace-period, /inject: disabled, or any option of serve, on the Pod template.

    Does a pipeline inject the original manifests in each run? Then pass --drain-token, because a new token in each run
    is a rollout in each run.

    Exit code: 0 written; 2 bad usage, input that cannot be read, or a workload that is not clear or cannot be changed
    safely: then nothing is written; 3 (with --skip-ambiguous) written, except the workloads listed on stderr.
    """
    need_tools()
    from drainproxy.tools.manifest.inject import inject, remove  # noqa: PLC0415 - ruamel.yaml is loaded only when it is needed

    named = (*paths, *files)
    scope = scope_of(asked, has_files=bool(named))
    if scope is None and not named:
        raise click.UsageError("nothing to inject: give a FILE, a DIRECTORY, - for stdin, or --live")
    if scope is not None and in_place:
        raise click.UsageError("--live cannot be used with -i: pipe the output to kubectl apply -f -")
    given = read_files(named, below=recursive) if scope is None else _read_cluster(scope)
    outcome = remove(given) if take_out else inject(given, _options(**asked))
    if take_out and not outcome.done:
        click.echo("drainproxy: inject has changed nothing in this input", err=True)
    _tell(outcome, as_json=as_json)
    for path in named:
        deeper = 0 if recursive else manifests_below(path)
        if deeper:
            click.echo(
                f"drainproxy: {path}: {deeper} manifests in subdirectories were not read; use -R to read them", err=True
            )
    if as_diff:
        _print_diff(given, outcome)
    elif in_place:
        _write_back(given, outcome)
    elif scope is not None:
        changed = [after for before, after in zip(given, outcome.files, strict=True) if before.text != after.text]
        click.echo(joined(changed), nl=False)
    else:
        click.echo(joined(outcome.files), nl=False)
    if outcome.left:
        sys.exit(SKIPPED)


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    """What was done and why, on stderr: stdout is for the manifests."""
    from drainproxy.tools.manifest.outcome import as_json as document  # noqa: PLC0415 - as above
    from drainproxy.tools.manifest.outcome import table, told  # noqa: PLC0415 - as above

    if as_json:
        click.echo(json.dumps(document(outcome.rows, outcome.left, outcome.notes), indent=2), err=True)
        return
    if outcome.rows:
        click.echo(table(outcome.rows), err=True, nl=False)
    for note in outcome.notes:
        click.echo(f"drainproxy: {note}", err=True)
    if outcome.left:
        click.echo(f"drainproxy: {told(outcome.left, skipped=True)}", err=True)


def _read_cluster(scope: Scope) -> list[File]:
    from drainproxy.tools.live.kubectl import read_to_inject  # noqa: PLC0415 - as above

    files, notes = read_to_inject(scope)
    for note in notes:
        click.echo(f"drainproxy: {note}", err=True)
    return files


def _options(**asked: Any) -> Any:
    from drainproxy.tools.manifest.asked import NONE, Options  # noqa: PLC0415 - as above

    secret = None
    if asked["drain_token_secret"]:
        name, slash, key = str(asked["drain_token_secret"]).partition("/")
        if not (name and slash and key):
            raise click.UsageError(f"--drain-token-secret {asked['drain_token_secret']}: expected NAME/KEY")
        secret = (name, key)
    return Options(
        kind=asked["kind"],
        containers=asked["containers"],
        hold=asked["hold"],
        ports=asked["ports"],
        protocols=asked["protocols"],
        skip_undecided=asked["skip_ambiguous"],
        only=asked["only"],
        image=asked["image"],
        grace_period_s=_seconds(asked["grace_period"]),
        settings=dict(asked["settings"]),
        token=_token(asked["drain_token"]),
        token_secret=secret,
        new_token=new_token,
        hook=asked["hook"],
        replace_hook=asked["replace_hook"],
        successor=NONE if asked["no_successor"] else None,
        scrape=not asked["no_scrape"],
    )


def _token(asked: str | None) -> str | None:
    """None: keep the one that is there, or make one; the empty text: none at all."""
    if asked == "none":
        return ""
    return None if asked in (None, "generate") else asked


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError:
        raise click.UsageError(f"--grace-period {text}: expected a duration such as 45s or 2m") from None


def _write_back(files: Sequence[File], outcome: Outcome) -> None:
    for before, after in zip(files, outcome.files, strict=True):
        if before.name == "stdin":
            click.echo(after.text, nl=False)
        elif before.text != after.text:
            Path(after.name).write_bytes(after.text.encode())
            click.echo(f"drainproxy: wrote {after.name}", err=True)


def _print_diff(files: Sequence[File], outcome: Outcome) -> None:
    for before, after in zip(files, outcome.files, strict=True):
        lines = difflib.unified_diff(
            before.text.splitlines(keepends=True),
            after.text.splitlines(keepends=True),
            before.name,
            after.name,
        )
        for line in lines:
            hue = {"+": "green", "-": "red", "@": "cyan"}.get(line[0])
            click.secho(line if line.endswith("\n") else f"{line}\n", fg=hue, nl=False, color=wants_color(None))
