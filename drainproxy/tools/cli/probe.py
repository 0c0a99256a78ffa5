"""`drainproxy probe`: does this rollout lose requests?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from drainproxy.config.values import parse_duration
from drainproxy.errors import ConfigError, DrainproxyError
from drainproxy.tools.cli._packages import missing

if TYPE_CHECKING:
    import aiohttp
    from rich.console import Console

    from drainproxy.tools.probe.load import Client, Traffic
    from drainproxy.tools.probe.measure import Measurement

HTTP_SCHEMES, WS_SCHEMES, GRPC_SCHEMES = ("http", "https"), ("ws", "wss"), ("grpc", "grpcs")
_NO_COMMAND_DURATION_S = 30.0


class Duration(click.ParamType[float]):
    """`500ms`, `5s`, `1m30s` or a bare number of seconds, as everywhere in drainproxy."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(f"got {value!r}, expected a duration such as 500ms, 5s or 1m30s", param, ctx)


class Share(click.ParamType[float]):
    """`50%` or `0.5`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"got {value!r}, expected a share such as 50% or 0.5", param, ctx)
        return share


class Statuses(click.ParamType[frozenset[int]]):
    """`200-399` or `200,404`."""

    name = "statuses"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        if isinstance(value, frozenset):
            return value
        try:
            pairs = [part.split("-") for part in value.split(",")]
            return frozenset(n for pair in pairs for n in range(int(pair[0]), int(pair[-1]) + 1))
        except ValueError:
            self.fail(f"got {value!r}, expected statuses such as 200-399 or 200,404", param, ctx)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send: every option that describes the traffic."""

    url: str
    traffic: Traffic
    method: str
    body: bytes
    ok: frozenset[int]
    retry: bool
    insecure: bool


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": False},
    epilog="Exit code: 0 every request was answered in full; 1 one was not, or the command failed; 2 bad usage.",
)
@click.argument("url")
@click.argument("command_line", nargs=-1, metavar="[-- CMD…]", type=click.UNPROCESSED)
@click.option(
    "--rate", default=20.0, show_default=True, help="Requests a second, sent when due whatever the answers do."
)
@click.option("--connections", default=8, show_default=True, help="Keep-alive connections that take turns.")
@click.option(
    "--fresh", type=Share(), default="50%", show_default=True, help="Share that opens a connection of its own."
)
@click.option("--duration", type=Duration(), help="Measure this long [30s; with CMD: at least this long in all].")
@click.option("--before", type=Duration(), default="5s", show_default=True, help="With CMD: traffic before it starts.")
@click.option(
    "--after", type=Duration(), default="10s", show_default=True, help="With CMD: traffic after it has ended."
)
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="Later than this is a failure.")
@click.option("-X", "--method", default="GET", show_default=True, help="HTTP method.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Repeatable.")
@click.option(
    "-d", "--body", default="", metavar="TEXT|@FILE", help="Body of each request; text of each WebSocket message."
)
@click.option("--ok", type=Statuses(), default="200-399", show_default=True, help="HTTP statuses that are no failure.")
@click.option(
    "--retry",
    is_flag=True,
    help="Send an idempotent request once more if a reused connection dies before the response, as browsers do. "
    "Without it that is a failure, as it is for a POST.",
)
@click.option(
    "--pod-header", default="X-Pod", show_default=True, metavar="NAME", help="Response header that names the Pod."
)
@click.option("-k", "--insecure", is_flag=True, help="Do not verify the TLS certificate.")
@click.option(
    "--html", "html_file", type=click.Path(dir_okay=False, writable=True), help="Write the report as one HTML file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; progress goes to stderr.")
def command(url: str, command_line: tuple[str, ...], **options: Any) -> None:
    """Send steady traffic to URL while you roll out, and report what failed, how and when.

    The scheme of URL chooses the traffic: http, https; ws, wss (each request is a message that must come back);
    grpc://host:port/SERVICE, grpcs (each request asks the health service).

    Measure a rollout from before it starts until after it has ended:

    \b
      drainproxy probe http://shop.example.com/ -- \\
        sh -c 'kubectl rollout restart deploy/shop && kubectl rollout status deploy/shop'

    `rollout restart` alone returns at once: wait for `rollout status`, or give --duration. Without a command, start
    the rollout yourself; Ctrl-C ends the measurement early and prints the report.
    """
    request = _request(url, options)
    _check_command(command_line)
    if options["rate"] <= 0:
        raise ConfigError("--rate", options["rate"], "requests a second, above 0")
    try:
        code = asyncio.run(_probe(request, command_line, options))
    except ImportError as error:
        raise missing(error, "rich") from error
    sys.exit(code)


def _request(url: str, options: dict[str, Any]) -> Request:
    parts = urlsplit(url)
    if parts.scheme not in HTTP_SCHEMES + WS_SCHEMES + GRPC_SCHEMES or not parts.hostname:
        raise ConfigError("URL", url, "http://…, https://…, ws://…, wss://…, grpc://host:port or grpcs://host:port")
    if options["connections"] < 0 or (options["connections"] == 0 and options["fresh"] < 1):
        raise ConfigError("--connections", options["connections"], "1 or more (or --fresh 100%)")
    from drainproxy.tools.probe.load import Traffic  # noqa: PLC0415 - `--help` must not wait for aiohttp

    traffic = Traffic(
        options["connections"],
        options["fresh"],
        options["timeout"],
        tuple(_header(text) for text in options["headers"]),
        options["pod_header"],
    )
    return Request(
        url,
        traffic,
        options["method"].upper(),
        _body(options["body"]),
        options["ok"],
        options["retry"],
        options["insecure"],
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError("--header", text, "'NAME: VALUE'")
    return name.strip(), value.strip()


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError("--body", text, f"a file that can be read ({error.strerror})") from error


def _check_command(command_line: tuple[str, ...]) -> None:
    """A typing error must not cost a measurement."""
    if command_line and shutil.which(command_line[0]) is None:
        raise ConfigError("CMD", command_line[0], "a program that can be found")


async def _probe(request: Request, command_line: tuple[str, ...], options: dict[str, Any]) -> int:
    from rich.console import Console  # noqa: PLC0415 - only the commands that need rich load it

    from drainproxy.tools.probe.live import View  # noqa: PLC0415 - same
    from drainproxy.tools.probe.load import Load  # noqa: PLC0415 - same
    from drainproxy.tools.probe.measure import Plan, measure  # noqa: PLC0415 - same

    _raise_open_files()
    out, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    default_s = 0.0 if command_line else _NO_COMMAND_DURATION_S
    duration_s = options["duration"] if options["duration"] is not None else default_s
    plan = Plan(duration_s, options["before"], options["after"], request.traffic.timeout_s, command_line)
    client = make_client(request)
    load = Load(client, options["rate"])
    try:
        with View(progress, request.url, load) as view:
            measurement = await measure(load, plan, view, _stop_on_signals())
    finally:
        await client.close()
    _publish(out, request.url, measurement, options)
    failed_command = measurement.command is not None and measurement.command.exit_code != 0
    return 0 if measurement.verdict.ok and not failed_command else 1


def make_client(request: Request) -> Client:
    """The client for the URL's scheme."""
    from drainproxy.tools.probe.grpc_client import GrpcClient  # noqa: PLC0415 - only `probe` loads it
    from drainproxy.tools.probe.http_client import HttpClient, plain_connector  # noqa: PLC0415 - same
    from drainproxy.tools.probe.ws_client import WebSocketClient  # noqa: PLC0415 - same

    parts = urlsplit(request.url)
    if parts.scheme in GRPC_SCHEMES:
        tls = parts.scheme == "grpcs"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or (443 if tls else 80)}"
        return GrpcClient(request.traffic, target, parts.path.strip("/"), tls=tls)

    def connector(fresh: bool) -> aiohttp.BaseConnector:
        return plain_connector(fresh, not request.insecure)

    if parts.scheme in WS_SCHEMES:
        text = request.body.decode(errors="replace")
        return WebSocketClient(request.traffic, request.url, text=text, connector=connector)
    return HttpClient(
        request.traffic,
        lambda _: request.url,
        method=request.method,
        body_of=lambda _: request.body or None,
        ok=request.ok.__contains__,
        retry=request.retry,
        connector=connector,
    )


def _publish(out: Console, target: str, measurement: Measurement, options: dict[str, Any]) -> None:
    from drainproxy.tools.probe import html, report  # noqa: PLC0415 - needs rich

    if options["as_json"]:
        sys.stdout.write(json.dumps(report.as_json(target, measurement), indent=2) + "\n")
    else:
        report.print_report(out, target, measurement)
    if options["html_file"]:
        write_file(options["html_file"], html.probe_page(target, measurement))


def write_file(name: str, text: str) -> None:
    """Raises DrainproxyError: the measurement is not lost, it was printed before."""
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DrainproxyError(f"cannot write {name}: {error.strerror}") from error


def _stop_on_signals() -> asyncio.Event:
    """Set by the first Ctrl-C, SIGTERM or SIGHUP; the second of a kind ends the process as usual."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(signum: signal.Signals) -> None:
        loop.remove_signal_handler(signum)
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, first, signum)
    return stop


def _raise_open_files() -> None:
    """A connection a request in flight: use what the system allows without asking."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
