"""`drainproxy advise`: which floor, quiet period and grace period does each workload need?"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.cli._output import output_option
from drainproxy.drain.advice import show
from drainproxy.errors import ConfigError, DrainproxyError
from drainproxy.tools.cli._scope import live_options, scope_of
from drainproxy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.drain.advice import Times
    from drainproxy.tools.advise.observed import Observed, Workload
    from drainproxy.tools.live.scope import Scope

TIMEOUT_S = 60
STDIN = "-"


class SourceError(DrainproxyError):
    """Prometheus or kubectl did not give what was asked for."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("files", nargs=-1, metavar="[FILE|-]…")
@click.option("--prometheus", "url", metavar="URL", help="Ask a Prometheus that scrapes drainproxy.")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="TIME",
    help="With --prometheus: how far to look back, such as 12h or 30d.",
)
@click.option(
    "--select", default="", metavar="LABELS", help="With --prometheus: only these series, such as 'namespace=\"shop\"'."
)
@click.option(
    "--token-file", metavar="FILE", type=click.Path(dir_okay=False), help="With --prometheus: file with a bearer token."
)
@click.option(
    "--ca-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="With --prometheus: certificate authorities to trust.",
)
@live_options
@output_option("patch")
@click.option(
    "--html", "html_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page with the distributions."
)
def command(files: tuple[str, ...], url: str | None, output: str, html_file: str | None, **asked: Any) -> None:
    """Recommend propagation-delay, quiet-period, grace period and minReadySeconds for each workload, and say why.

    The advice comes from past drains: how long requests kept coming, how long the drain took, what was late, what was
    cut. Give one source:

    \b
      drainproxy advise --prometheus http://prometheus:9090 --since 30d
      kubectl get pods -A -o json | drainproxy advise -          # termination messages
      drainproxy advise --live -n shop                           # the same, while Pods end
      kubectl logs -l app=web -c drainproxy --prefix --tail=-1 | drainproxy advise -
      drainproxy advise web.log api.log

    One drain is enough to show that a time is too short. A shorter time is recommended only after twenty drains with
    traffic. -o patch writes a patch with annotations that `drainproxy inject` turns into settings.

    Exit code: 0 on success; 1 when the source cannot be read, or has no drain; 2 bad usage.
    """
    from drainproxy.tools.advise.report import reports  # noqa: PLC0415 - `--help` need not wait for it

    observed, now = _observed(files, url, asked)
    if not observed:
        raise SourceError("found no drain that has ended; drains are in final scrapes, termination messages and logs")
    found = reports(observed, now)
    if html_file:
        from drainproxy.tools.advise.picture import page  # noqa: PLC0415 - as above

        _write(html_file, page(found))
    _print(found, output)


def _print(found: list[Any], output: str) -> None:
    from drainproxy.tools.advise.patch import patches  # noqa: PLC0415 - as above
    from drainproxy.tools.advise.report import LEGEND, as_data, as_text  # noqa: PLC0415 - as above

    if output == "json":
        print(json.dumps({"workloads": [as_data(each) for each in found]}, indent=2))
    elif output == "patch":
        print(patches(found), end="")
    else:
        for each in found:
            print("\n".join(as_text(each)) + "\n")
        print(LEGEND)


def _observed(
    files: tuple[str, ...], url: str | None, asked: dict[str, Any]
) -> tuple[list[Observed], dict[Workload, Times]]:
    """The drains of the one source that was named, and present settings if it knows them."""
    scope = scope_of(asked, bool(files))
    if sum((bool(files), bool(url), scope is not None)) != 1:
        raise click.UsageError("give one source: FILE or -, --prometheus URL, or --live")
    if url:
        return _from_prometheus(url, asked)
    if scope is not None:
        return list(_from_cluster(scope)), {}
    from drainproxy.tools.advise.texts import read_text  # noqa: PLC0415 - as above

    return [each for name in files for each in read_text(_read(name), Path(name).stem)], {}


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == STDIN else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("FILE", name, f"a text file that can be read ({error})") from error


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("--html", name, f"a file that can be written ({error.strerror})") from error


def _from_prometheus(url: str, asked: dict[str, Any]) -> tuple[list[Observed], dict[Workload, Times]]:
    from drainproxy.tools.advise.prometheus import look  # noqa: PLC0415 - as above

    headers = {"Authorization": f"Bearer {_read(asked['token_file']).strip()}"} if asked["token_file"] else {}
    trust = trusting(asked["ca_file"]) if url.startswith("https:") else None
    if not url.startswith(("http://", "https://")):
        raise ConfigError("--prometheus", url, "http://… or https://…")

    def ask(query: str) -> list[dict[str, Any]]:
        body = urllib.parse.urlencode({"query": query}).encode()
        request = urllib.request.Request(f"{url.rstrip('/')}/api/v1/query", body, headers)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust) as answer:  # noqa: S310 - as above
                rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return rows
        except urllib.error.HTTPError as error:
            with error:
                raise SourceError(f"{url} answers {error.code}: {error.read(300).decode(errors='replace')}") from error
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(f"{url} does not answer like a Prometheus: {error}") from error

    seen = look(ask, asked["since"], asked["select"])
    if seen.unfinished:
        click.echo(
            f"drainproxy: {seen.unfinished} Pods are left out, because their last scrape was before the end of "
            "their drain: scrape more often, or raise final-scrape-wait",
            err=True,
        )
    return seen.drains, seen.times


def _from_cluster(scope: Scope) -> Iterator[Observed]:
    """The drains of Pods that end from now on, each told as it comes."""
    from drainproxy.tools.advise.texts import read_pods  # noqa: PLC0415 - as above
    from drainproxy.tools.live.watch import watch_pods  # noqa: PLC0415 - as above

    told = set()
    try:
        for pod in watch_pods(scope):
            for each in read_pods(pod):
                if (each.workload, each.at) not in told:
                    told.add((each.workload, each.at))
                    click.echo(f"{each.workload}: {each.drain.outcome} after {show(each.drain.elapsed_s)}", err=True)
                    yield each
    except KeyboardInterrupt:
        pass
