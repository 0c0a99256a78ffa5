"""How is the admission webhook started? `drainproxy webhook`, in the cluster, by deploy/webhook or the chart."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.config.values import Address, parse_address
from drainproxy.tools.cli._kinds import Duration
from drainproxy.tools.cli._packages import missing
from drainproxy.tools.cli._sidecar import new_token, sidecar_options

if TYPE_CHECKING:
    from drainproxy.tools.manifest.asked import Options

PACKAGES = ("yaml", "ruamel", "lightkube", "jsonpatch", "cryptography")


class _ListenAddress(click.ParamType[Address]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        try:
            address = parse_address(str(value))
        except ValueError:
            address = Address(path="/")
        if address.path:
            self.fail(f"got {value!r}, expected host:port, :port or [v6]:port", param, ctx)
        return address


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "DRAINPROXY_WEBHOOK",
    },
    epilog="Exit code: 0 after SIGTERM or SIGINT and its drain; 1 when it cannot listen; 2 bad usage or no cluster.",
)
@click.option(
    "--listen",
    type=_ListenAddress(),
    default=":8443",
    show_default=True,
    help="Where the API server connects, with TLS.",
)
@click.option(
    "--admin",
    type=_ListenAddress(),
    default=":8081",
    show_default=True,
    help="/livez, /readyz and /metrics, without TLS.",
)
@click.option("--namespace", required=True, metavar="NAME", help="The namespace that the webhook runs in.")
@click.option(
    "--service",
    default="drainproxy-webhook",
    show_default=True,
    metavar="NAME",
    help="The Service through which the API server calls it.",
)
@click.option(
    "--secret",
    default="drainproxy-webhook",
    show_default=True,
    metavar="NAME",
    help="The Secret in which the replicas share their keys.",
)
@click.option(
    "--configuration",
    default="drainproxy",
    show_default=True,
    metavar="NAME",
    help="The MutatingWebhookConfiguration that gets the certificate authority.",
)
@click.option(
    "--tls-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Use tls.crt and tls.key from this directory (as from cert-manager) instead of own certificates. Read again "
    "every minute.",
)
@click.option(
    "--drain",
    type=Duration(),
    default="10s",
    show_default=True,
    help="After SIGTERM, keep answering at least this long.",
)
@click.option(
    "--audit-every",
    type=Duration(),
    default="5m",
    show_default=True,
    help="How often all Pods are checked for the sidecar.",
)
@sidecar_options
def command(**asked: Any) -> None:
    """Add drainproxy to Pods as the cluster creates them.

    This is a mutating admission webhook. Install it with deploy/webhook or the Helm chart. It adds to a Pod what
    `drainproxy inject` adds to a manifest, if the Pod's namespace has the label drainproxy.io/inject=enabled or the Pod
    has the annotation drainproxy.io/inject: enabled. The other annotations of inject work too. It rejects no Pod: if
    something is not clear, the Pod is created without the sidecar, and its creator sees a warning.

    It makes and renews its own certificates. It reports Pods that should have the sidecar and do not: as a metric, and
    as an event on the object that made the Pod.

    Every option can also be an environment variable: DRAINPROXY_WEBHOOK_AUDIT_EVERY for --audit-every.
    """
    try:
        from drainproxy.tools.webhook.run import Settings, run  # noqa: PLC0415 - the extra `cluster` may be missing
    except ImportError as error:
        raise missing(error, *PACKAGES) from None
    _log_lines()
    options = _options(asked)
    settings = Settings(
        listen=asked["listen"],
        admin=asked["admin"],
        namespace=asked["namespace"],
        service=asked["service"],
        secret=asked["secret"],
        configuration=asked["configuration"],
        tls_dir=asked["tls_dir"],
        drain_s=asked["drain"],
        audit_every_s=asked["audit_every"],
        options=options,
    )
    asyncio.run(run(settings))


def _options(asked: dict[str, Any]) -> Options:
    from drainproxy import __version__  # noqa: PLC0415 - as above
    from drainproxy.tools.manifest.asked import NONE, Options, refuse_settings  # noqa: PLC0415 - as above

    settings = dict(asked["settings"])
    refuse_settings(settings)
    return Options(
        kind=asked["kind"],
        image=asked["image"] or f"drainproxy:{__version__}",
        settings=settings,
        successor=NONE if asked["no_successor"] else None,
        scrape=not asked["no_scrape"],
        new_token=new_token,
    )


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower()}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_lines() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.INFO
    for chatty in ("httpx2", "httpcore", "httpcore2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
