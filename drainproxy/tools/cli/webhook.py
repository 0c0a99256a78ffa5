"""How is the admission webhook started? `drainproxy webhook`, in the cluster, by deploy/webhook or the chart."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drainproxy.config.values import Address, parse_address
from drainproxy.errors import ConfigError
from drainproxy.tools.cli._kinds import Duration
from drainproxy.tools.cli._packages import missing

if TYPE_CHECKING:
    from drainproxy.tools.manifest.asked import Options

PACKAGES = ("yaml", "ruamel", "lightkube", "jsonpatch", "cryptography")
TOKEN_BYTES = 16


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
    epilog="Exit code: 0 ended by SIGTERM or SIGINT, after its drain; 1 it could not listen; 2 bad usage, no cluster.",
)
@click.option("--listen", type=_ListenAddress(), default=":8443", show_default=True, help="For the API server, TLS.")
@click.option(
    "--admin", type=_ListenAddress(), default=":8081", show_default=True, help="/livez, /readyz and /metrics, plain."
)
@click.option("--namespace", required=True, metavar="NAME", help="The namespace it runs in.")
@click.option(
    "--service", default="drainproxy-webhook", show_default=True, metavar="NAME", help="The Service it is called by."
)
@click.option(
    "--secret", default="drainproxy-webhook", show_default=True, metavar="NAME", help="Where replicas share the keys."
)
@click.option(
    "--configuration",
    default="drainproxy",
    show_default=True,
    metavar="NAME",
    help="The MutatingWebhookConfiguration that is to trust the certificate.",
)
@click.option(
    "--tls-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Serve tls.crt and tls.key of this directory (cert-manager's), and make none. Looked at every minute.",
)
@click.option(
    "--drain", type=Duration(), default="10s", show_default=True, help="After SIGTERM: keep answering at least so long."
)
@click.option(
    "--audit-every", type=Duration(), default="5m", show_default=True, help="How often all Pods are looked at."
)
@click.option("--image", metavar="IMAGE", help="The sidecar's image. [default: drainproxy:<this version>]")
@click.option(
    "--sidecar",
    "kind",
    type=click.Choice(["native", "classic"]),
    help="native (the default): an init container that stays; classic: for clusters before 1.29.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Any option of `drainproxy serve`, for all Pods, such as propagation-delay=15s. Repeatable.",
)
@click.option("--no-scrape", is_flag=True, help="Do not write prometheus.io annotations.")
def command(**asked: Any) -> None:
    """Add drainproxy to Pods as the cluster creates them.

    A mutating admission webhook, installed by deploy/webhook or the Helm chart. It writes what `drainproxy inject`
    writes, for Pods in namespaces with the label drainproxy.io/inject=enabled, and for Pods with that annotation; the
    other annotations say the rest, as for inject. It allows every Pod: one that cannot be decided is created as it is,
    and whoever creates it sees a warning.

    It makes and renews its certificates, and reports Pods that should have the sidecar and have none: as a metric, and
    as an event on whoever made the Pod.

    Each option can be given as an environment variable too: --audit-every as DRAINPROXY_WEBHOOK_AUDIT_EVERY.
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
    from drainproxy.tools.manifest.asked import Options, refuse_settings  # noqa: PLC0415 - as above

    settings: dict[str, str] = {}
    for each in asked["settings"]:
        name, equals, value = str(each).partition("=")
        if not equals:
            raise ConfigError("--set", each, "OPTION=VALUE")
        settings[name.removeprefix("--")] = value
    refuse_settings(settings)
    return Options(
        kind=asked["kind"],
        image=asked["image"] or f"drainproxy:{__version__}",
        settings=settings,
        scrape=not asked["no_scrape"],
        new_token=partial(secrets.token_hex, TOKEN_BYTES),
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
