"""`drainproxy probe`: does this rollout lose requests?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from drainproxy.cli._output import output_option
from drainproxy.errors import ConfigError
from drainproxy.tools.cli._files import opened
from drainproxy.tools.cli._kinds import Duration, Failures, Rate, Share, Statuses
from drainproxy.tools.cli._packages import missing
from drainproxy.tools.probe.outcome import Limits, outcome_of
from drainproxy.tools.probe.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO
    from urllib.parse import SplitResult

    import aiohttp

    from drainproxy.tools.probe.load import Client, Traffic
    from drainproxy.tools.probe.measure import Measurement, Plan, Stop
    from drainproxy.tools.probe.outcome import Outcome
    from drainproxy.tools.probe.verdict import Sample

HTTP_SCHEMES, WS_SCHEMES, GRPC_SCHEMES = ("http", "https"), ("ws", "wss"), ("grpc", "grpcs")
SECURE = frozenset({"https", "wss", "grpcs"})
COMMAND_LINE = "drainproxy.probe.command_line"
_NO_COMMAND_DURATION_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to send: every option that describes the traffic, the same for all targets."""

    traffic: Traffic
    method: str
    body: bytes
    ok: frozenset[int]
    retry: bool
    http2: bool
    tls: Tls


class ProbeCommand(click.Command):
    """What stands behind `--` is the command to measure: click itself cannot tell it from further targets."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            ctx.meta[COMMAND_LINE] = tuple(args[split + 1 :])
            args = args[:split]
        return super().parse_args(ctx, args)


def _file(option: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(option, metavar="FILE", help=text)


@click.command(
    cls=ProbeCommand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit code: 0 the limits hold (by default: no request failed); 1 they do not, or the command failed; 2 bad "
    "usage, or no result: this machine was too slow for the rate, or the run was stopped too early.",
)
@click.argument("targets", nargs=-1, required=True, metavar="URL… [-- CMD…]")
@click.option(
    "--rate",
    type=Rate(),
    default=20.0,
    show_default=True,
    help="Requests per second to each URL, sent on time even if answers are slow.",
)
@click.option("--ramp", type=Duration(), default="0s", help="Raise the rate evenly from 0 over this time.")
@click.option("--connections", default=8, show_default=True, help="Number of keep-alive connections to use in turn.")
@click.option(
    "--fresh", type=Share(), default="50%", show_default=True, help="Share of the requests that open a new connection."
)
@click.option(
    "--duration",
    type=Duration(),
    help="Measure this long. With CMD: at least this long in total. [default: 30s, with CMD none]",
)
@click.option("--until-stopped", is_flag=True, help="Without CMD: measure until Ctrl-C or SIGTERM.")
@click.option(
    "--before",
    type=Duration(),
    default="5s",
    show_default=True,
    help="With CMD: send traffic this long before it starts.",
)
@click.option(
    "--after", type=Duration(), default="10s", show_default=True, help="With CMD: send traffic this long after it ends."
)
@click.option(
    "--timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="A request without a complete answer after this time has failed.",
)
@click.option("-X", "--method", default="GET", show_default=True, help="HTTP method.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header to send. Repeatable.")
@click.option(
    "-d", "--body", default="", metavar="TEXT|@FILE", help="Body of each request, or text of each WebSocket message."
)
@click.option(
    "--ok", type=Statuses(), default="200-399", show_default=True, help="HTTP statuses that count as success."
)
@click.option(
    "--retry",
    is_flag=True,
    help="Repeat an idempotent request once if a reused connection is closed before the response, as browsers do. "
    "Without --retry, that is a failure.",
)
@click.option("--http2", is_flag=True, help="Use HTTP/2: by ALPN for https, with prior knowledge for http.")
@click.option("-k", "--insecure", is_flag=True, help="Do not verify the TLS certificate.")
@_file("--cacert", "Certificate authorities to trust instead of the system's (PEM).")
@click.option("--sni", metavar="NAME", help="Server name to ask for in TLS, instead of the URL's host.")
@_file("--cert", "Client certificate (PEM).")
@_file("--key", "Key of the client certificate, if it is not in the same file.")
@click.option(
    "--pod-header", default="X-Pod", show_default=True, metavar="NAME", help="Response header that names the Pod."
)
@click.option(
    "--max-failed",
    type=Failures(),
    default="0",
    show_default=True,
    help="Up to this many failed requests per URL still count as success: a number, or a share such as 0.1%.",
)
@click.option("--max-p99", type=Duration(), help="Fail if the p99 latency is above this in any phase.")
@_file("--html", "Write the report as one HTML file.")
@_file("--junit", "Write the checks as one JUnit file.")
@_file("--jsonl", "Write each request as one line of JSON, during the run.")
@output_option()
@click.pass_context
def command(ctx: click.Context, /, targets: tuple[str, ...], **options: Any) -> None:
    """Send steady traffic to each URL during a rollout, and report which requests failed, how and when.

    The scheme of the URL selects the kind of traffic: http, https; ws, wss (a message that the server must echo);
    grpc://host:port/SERVICE, grpcs (a call of the health service). Proxy variables are ignored.

    Measure a rollout from before its start until after its end:

    \b
      drainproxy probe http://shop.example.com/ -- \\
        sh -c 'kubectl rollout restart deploy/shop && kubectl rollout status deploy/shop'

    `rollout restart` alone returns at once, so also wait for `rollout status`, or give --duration. Without a command,
    start the rollout yourself; Ctrl-C ends the measurement and prints the report.
    """
    command_line = ctx.meta.get(COMMAND_LINE, ())
    for target in targets:
        _check_target(target, options)
    if len(set(targets)) < len(targets):
        raise ConfigError("URL", " ".join(targets), "different URLs")
    _check_command(command_line, options)
    files = {f"--{name}": options[name] for name in ("html", "junit", "jsonl")}
    try:
        with opened(files) as reports:
            code = asyncio.run(_probe(targets, command_line, options, reports))
    except ImportError as error:
        raise missing(error, "rich", "grpc", "h2") from error
    sys.exit(code)


def _check_target(url: str, options: dict[str, Any]) -> None:
    parts = _split(url)
    if parts is None or parts.scheme not in HTTP_SCHEMES + WS_SCHEMES + GRPC_SCHEMES or not parts.hostname:
        expected = (
            "http://…, https://…, ws://…, wss://…, grpc://host:port or grpcs://host:port (a command goes behind --)"
        )
        raise ConfigError("URL", url, expected)
    if options["http2"] and parts.scheme not in HTTP_SCHEMES:
        raise ConfigError("--http2", url, "an http or https URL")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _check_command(command_line: tuple[str, ...], options: dict[str, Any]) -> None:
    """A typing error must not cost a measurement."""
    if command_line and shutil.which(command_line[0]) is None:
        raise ConfigError("CMD", command_line[0], "a program that can be found")
    if options["until_stopped"] and (command_line or options["duration"] is not None):
        raise ConfigError("--until-stopped", "set", "neither CMD nor --duration with it")


def _request(options: dict[str, Any]) -> Request:
    if options["connections"] < 0 or (options["connections"] == 0 and options["fresh"] < 1):
        raise ConfigError("--connections", options["connections"], "1 or more (or --fresh 100%)")
    if options["key"] and not options["cert"]:
        raise ConfigError("--key", options["key"], "also --cert")
    from drainproxy.tools.probe.load import Traffic  # noqa: PLC0415 - `--help` must not wait for asyncio's parts

    traffic = Traffic(
        options["connections"],
        options["fresh"],
        options["timeout"],
        tuple(_header(text) for text in options["headers"]),
        options["pod_header"],
    )
    return Request(
        traffic,
        options["method"].upper(),
        _body(options["body"]),
        options["ok"],
        options["retry"],
        options["http2"],
        Tls(options["insecure"], options["cacert"], options["sni"], options["cert"], options["key"]),
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isprintable():
        raise ConfigError("--header", text, "'NAME: VALUE'")
    return name.strip(), value.strip()


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError("--body", text, f"a file that can be read ({error.strerror})") from error


async def _probe(
    targets: tuple[str, ...], command_line: tuple[str, ...], options: dict[str, Any], reports: dict[str, TextIO]
) -> int:
    from rich.console import Console  # noqa: PLC0415 - only the commands that need rich load it

    from drainproxy.tools.probe.live import View  # noqa: PLC0415 - same
    from drainproxy.tools.probe.load import Load  # noqa: PLC0415 - same
    from drainproxy.tools.probe.machine_readable import sample_line  # noqa: PLC0415 - same
    from drainproxy.tools.probe.measure import measure  # noqa: PLC0415 - same

    _raise_open_files()
    request = _request(options)

    def heard(target: str, sample: Sample) -> None:
        if "--jsonl" in reports:
            reports["--jsonl"].write(sample_line(target, sample) + "\n")

    async with contextlib.AsyncExitStack() as cleanup:
        loads = {}
        for target in targets:
            client = make_client(target, request)
            cleanup.push_async_callback(client.close)
            loads[target] = Load(client, options["rate"], options["ramp"])
        with View(Console(stderr=True, highlight=False), loads, heard) as view:
            measurement = await measure(loads, _plan(command_line, options), view, _stop_on_signals())
    outcome = outcome_of(measurement, Limits(options["max_failed"], options["max_p99"]))
    _publish(Console(highlight=False), measurement, outcome, options["output"], reports)
    return outcome.grade.value


def _plan(command_line: tuple[str, ...], options: dict[str, Any]) -> Plan:
    from drainproxy.tools.probe.measure import Plan  # noqa: PLC0415 - needs asyncio's parts

    duration_s = options["duration"]
    if duration_s is None and not options["until_stopped"]:
        duration_s = 0.0 if command_line else _NO_COMMAND_DURATION_S
    return Plan(duration_s, options["before"], options["after"], options["timeout"], command_line)


def make_client(target: str, request: Request) -> Client:
    """The client for the URL's scheme. Raises ConfigError for TLS files that cannot be used."""
    from drainproxy.tools.probe.http_client import HttpClient, plain_connector  # noqa: PLC0415 - only `probe` loads it
    from drainproxy.tools.probe.ws_client import WebSocketClient  # noqa: PLC0415 - same

    parts = urlsplit(target)
    secure = parts.scheme in SECURE
    if parts.scheme in GRPC_SCHEMES:
        from drainproxy.tools.probe.grpc_client import GrpcClient  # noqa: PLC0415 - same

        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        address = f"{host}:{parts.port or (443 if secure else 80)}"
        return GrpcClient(request.traffic, address, parts.path.strip("/"), tls=request.tls if secure else None)
    if request.http2:
        return _http2_client(parts, request)
    context = request.tls.context() if secure else None

    def connector(fresh: bool) -> aiohttp.BaseConnector:
        return plain_connector(fresh, context or True)

    name = request.tls.name if secure else None
    if parts.scheme in WS_SCHEMES:
        text = request.body.decode(errors="replace")
        return WebSocketClient(request.traffic, target, text=text, connector=connector, server_name=name)
    return HttpClient(
        request.traffic,
        lambda _: target,
        method=request.method,
        body_of=lambda _: request.body or None,
        ok=request.ok.__contains__,
        retry=request.retry,
        connector=connector,
        server_name=name,
    )


def _http2_client(parts: SplitResult, request: Request) -> Client:
    from drainproxy.tools.probe.http2_client import Http2Client, Place  # noqa: PLC0415 - needs h2

    secure = parts.scheme in SECURE
    context = request.tls.context(alpn=("h2",)) if secure else None
    assert parts.hostname is not None, "the URL was checked"
    place = Place(parts.hostname, parts.port or (443 if secure else 80), context, request.tls.name)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Http2Client(
        request.traffic,
        place,
        path,
        method=request.method,
        body=request.body,
        ok=request.ok.__contains__,
        retry=request.retry,
    )


def _publish(out: Any, measurement: Measurement, outcome: Outcome, output: str, reports: dict[str, TextIO]) -> None:
    from drainproxy.tools.probe import html, machine_readable, report  # noqa: PLC0415 - needs rich

    if output == "json":
        sys.stdout.write(json.dumps(machine_readable.as_json(measurement, outcome), indent=2) + "\n")
    else:
        report.print_report(out, measurement, outcome)
    if "--html" in reports:
        reports["--html"].write(html.probe_page(measurement, outcome))
    if "--junit" in reports:
        reports["--junit"].write(machine_readable.as_junit(measurement, outcome))


def _stop_on_signals() -> Stop:
    """The first Ctrl-C, SIGTERM or SIGHUP ends the run in good order, the second the waiting, the third the process."""
    from drainproxy.tools.probe.measure import Stop  # noqa: PLC0415 - needs asyncio's parts

    stop = Stop()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def heard() -> None:
        if stop.asked.is_set():
            stop.now.set()
            for signum in signals:
                loop.remove_signal_handler(signum)
        stop.asked.set()

    for signum in signals:
        loop.add_signal_handler(signum, heard)
    return stop


def _raise_open_files() -> None:
    """A connection a request in flight: use what the system allows without asking."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
