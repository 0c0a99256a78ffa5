"""How is `inject` used? Reads manifests, writes them with drainproxy in; the thinking is done in `tools/manifest`."""

from __future__ import annotations

import difflib
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.config.values import parse_duration
from drainproxy.errors import ManifestError
from drainproxy.tools.cli._packages import MissingPackageError
from drainproxy.tools.cli._scope import live_options, scope_of
from drainproxy.tools.cli._terminal import wants_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.tools.live.scope import Scope
    from drainproxy.tools.manifest.inject import Outcome
    from drainproxy.tools.manifest.source import File

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
TOKEN_BYTES = 16


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="FILE|DIR|-",
    help="What to read: YAML or JSON, a directory (all its manifests), or - for stdin. Repeatable.",
)
@live_options
@click.option("-i", "--in-place", is_flag=True, help="Write the files themselves instead of printing.")
@click.option("--diff", "as_diff", is_flag=True, help="Print what would change, as a diff; write nothing.")
@click.option("--remove", "take_out", is_flag=True, help="Take drainproxy out again: gives back the input.")
@click.option("--only", multiple=True, metavar="KIND/NAME", help="Only this workload. Repeatable.")
@click.option("--container", "containers", multiple=True, metavar="NAME", help="The app container. Repeatable.")
@click.option(
    "--hold",
    multiple=True,
    metavar="NAME",
    help="A container without traffic that the app needs to the end (a cache, a database proxy): it waits for the "
    "drain too. Repeatable.",
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="PORT[,protocol=…]",
    help="The app's port, by name or number; protocol auto, http1, http2 or tcp. Repeatable.",
)
@click.option(
    "--sidecar",
    "kind",
    type=click.Choice(["native", "classic"]),
    help="native (the default): an init container that stays; classic: for clusters before 1.29.",
)
@click.option("--image", metavar="IMAGE", help="The sidecar's image. [default: drainproxy:<this version>]")
@click.option(
    "--grace-period",
    metavar="DURATION",
    help="The Pod's grace period. [default: what the manifest says, raised if the drain does not fit]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Any option of `drainproxy serve`, such as propagation-delay=15s. Repeatable.",
)
@click.option(
    "--drain-token",
    metavar="generate|none|TEXT",
    help="What /drain asks for. generate (the default) makes one at first and keeps it afterwards.",
)
@click.option(
    "--drain-token-secret",
    metavar="NAME/KEY",
    help="The sidecar reads its token from this Secret. The kubelet's HTTP hook cannot: add --hook curl, or the same "
    "value with --drain-token.",
)
@click.option(
    "--hook",
    type=click.Choice(["http", "curl", "wget"]),
    help="How preStop calls /drain: the kubelet by HTTP (the default; fits every image), or a command that the app's "
    "image has. A command that was the preStop before runs after the drain.",
)
@click.option("--replace-hook", is_flag=True, help="Put /drain in the place of a preStop that cannot be kept.")
@click.option("--no-scrape", is_flag=True, help="Do not write prometheus.io annotations.")
def command(
    paths: tuple[str, ...],
    in_place: bool,
    as_diff: bool,
    take_out: bool,
    **asked: Any,
) -> None:
    """Add drainproxy to Kubernetes manifests.

    Reads Deployments, StatefulSets, DaemonSets, ReplicaSets, Pods, Jobs and CronJobs and writes them with the sidecar,
    the preStop hook, probes and a grace period that fits; Services and NetworkPolicies in the same input follow. All
    else stays as it is, byte for byte. A second run changes nothing; a newer drainproxy updates only what is its own.

    \b
      drainproxy inject -f web.yaml | kubectl apply -f -
      drainproxy inject -i -f manifests/
      kubectl get deploy web -o yaml | drainproxy inject -f - --diff
      drainproxy inject --remove -f web.yaml
      drainproxy inject --live -n shop -l app=web | kubectl apply -f -

    Which port? The ones named http, h2c or grpc, or the only one; otherwise say --container or --port.

    In a pipeline that injects anew at each run pass --drain-token: a token made anew each time is a rollout each time.

    Exit code: 0 written, or nothing to do; 2 bad usage, input that cannot be read, or a workload that cannot be changed
    safely: then nothing is written.
    """
    need_tools()
    from drainproxy.tools.manifest.inject import inject, remove  # noqa: PLC0415 - ruamel.yaml is loaded only when it is needed

    scope = scope_of(asked, has_files=bool(paths))
    if scope is None and not paths:
        raise click.UsageError("nothing to inject: give -f FILE, -f DIRECTORY, -f - or --live")
    if scope is not None and in_place:
        raise click.UsageError("--live writes no files: pipe the output to kubectl apply -f -")
    files = read_files(paths) if scope is None else _read_cluster(scope)
    outcome = remove(files) if take_out else inject(files, _options(**asked))
    if take_out and not outcome.done:
        click.echo("drainproxy: nothing in the input was written by inject", err=True)
    for note in outcome.notes:
        click.echo(f"drainproxy: {note}", err=True)
    if as_diff:
        _print_diff(files, outcome)
    elif in_place:
        _write_back(files, outcome)
    elif scope is not None:
        changed = [after for before, after in zip(files, outcome.files, strict=True) if before.text != after.text]
        click.echo(joined(changed), nl=False)
    else:
        click.echo(joined(outcome.files), nl=False)


def _read_cluster(scope: Scope) -> list[File]:
    from drainproxy.tools.live.kubectl import read_to_inject  # noqa: PLC0415 - as above

    files, notes = read_to_inject(scope)
    for note in notes:
        click.echo(f"drainproxy: {note}", err=True)
    return files


def _options(**asked: Any) -> Any:
    from drainproxy.tools.manifest.plan import Options  # noqa: PLC0415 - as above

    settings: dict[str, str] = {}
    for each in asked["settings"]:
        name, equals, value = str(each).partition("=")
        if not equals:
            raise click.UsageError(f"--set {each}: expected OPTION=VALUE")
        settings[name.removeprefix("--")] = value
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
        only=asked["only"],
        image=asked["image"],
        grace_period_s=_seconds(asked["grace_period"]),
        settings=settings,
        token=_token(asked["drain_token"]),
        token_secret=secret,
        new_token=secrets.token_hex(TOKEN_BYTES),
        hook=asked["hook"],
        replace_hook=asked["replace_hook"],
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


def need_tools() -> None:
    """Raises MissingPackageError where a YAML reader is missing: the sidecar's image goes without them."""
    for module, package in (("yaml", "pyyaml"), ("ruamel", "ruamel.yaml"), ("ruamel.yaml", "ruamel.yaml")):
        if find_spec(module) is None:
            raise MissingPackageError(package)


# --- files ------------------------------------------------------------------------------------------------------------


def read_files(paths: Sequence[str]) -> list[File]:
    """The manifests at these paths, in order. Raises ManifestError if there is nothing to read."""
    from drainproxy.tools.manifest.source import File  # noqa: PLC0415 - as above

    found: list[File] = []
    for path in paths:
        if path == STDIN:
            found.append(File("stdin", _decoded("stdin", sys.stdin.buffer.read())))
            continue
        below = Path(path)
        files = [below]
        if below.is_dir():
            files = sorted(each for each in below.rglob("*") if each.suffix in SUFFIXES and each.is_file())
            if not files:
                raise ManifestError(f"{path}: no {', '.join(SUFFIXES)} file in this directory")
        found += [File(str(each), read_text(each)) for each in files]
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"{name}: given twice")
    return found


def read_text(path: Path) -> str:
    """A file's text. Raises ManifestError."""
    try:
        return _decoded(str(path), path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None


def _decoded(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ManifestError(f"{name}: not UTF-8 text") from None


def joined(files: Sequence[File]) -> str:
    """Several files as one YAML stream; one file as it is."""
    text = files[0].text if files else ""
    for each in files[1:]:
        text += "" if text.endswith("\n") or not text else "\n"
        text += each.text if each.text.startswith("---") else f"---\n{each.text}"
    return text


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
