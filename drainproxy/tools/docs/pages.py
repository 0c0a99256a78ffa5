"""How do the reference pages stay true? They are made from the declarations: `make docs`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from drainproxy.config.options import Option, env_of, flag_of, options
from drainproxy.observe.metrics import METRICS, Metric
from drainproxy.protocol.reasons import Counted, Reason
from drainproxy.tools.docs import drain_page as drain
from drainproxy.tools.docs import monitoring_page as monitoring
from drainproxy.tools.docs.contents import with_contents
from drainproxy.tools.manifest import report

if TYPE_CHECKING:
    from pathlib import Path

MADE = "<!-- Made by `python -m drainproxy.tools.docs` from the declarations. Edits here are lost. -->\n"

CONFIGURATION = f"""{MADE}
# Configuration

Every option of `drainproxy serve` is a flag (`--grace-period 60s`), an environment variable
(`DRAINPROXY_GRACE_PERIOD=60s`) and a key of the TOML file that `--config FILE` or `DRAINPROXY_CONFIG` names
(`grace-period = "60s"`). A flag wins over the environment, the environment over the file, the file over the default.

With a value that cannot be used, drainproxy does not start. It prints one line with the option, the value and what was
expected, and exits with code 2. The same happens if the durations do not fit into the grace period; the line then shows
the sum. `/status` and the first log lines show the settings in use, without secrets.

- Durations: `500ms`, `5s`, `1m30s`, `1h`, or a number of seconds.
- Sizes: `64KiB`, `1MiB`, or a number of bytes.
- Addresses: `host:port`, `:port`, `[v6]:port`, or `unix:/path.sock`.
- An option that is *repeatable* takes several values: as several flags, separated by spaces in the environment
  variable, or as a list in the file.
"""

METRICS_PAGE = f"""{MADE}
# Metrics

`GET /metrics` on the admin port answers in the Prometheus text format or, if the scraper asks for it, in OpenMetrics.
Names and labels do not change within a major version. Every label has a fixed set of values. Values that are known in
advance exist from the start with the count 0, so that `rate()` sees the first event. When a drain is called off, its
counts stay.

The [dashboards and alerts](monitoring.md) are made from this table.

| metric | type | labels | meaning |
|---|---|---|---|
"""

PROCESS_METRICS = """
The usual metrics of a process are there too, under the names that all Prometheus clients use:
`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
`process_start_time_seconds`, `process_open_fds`, `process_max_fds`.
"""


REASONS = """
## Reasons

The label `reason` says why a request was refused or how the app failed. drainproxy's own answers have it in the header
`X-Drainproxy`, GOAWAY frames in their debug data. *App* means that `drainproxy_upstream_errors_total` counts it,
*client* that `drainproxy_rejected_total` does. A reason without either is not counted; only the client sees it.

| reason | counts against | HTTP/1 status | HTTP/2 error code | meaning |
|---|---|---|---|---|
"""


def configuration() -> str:
    """docs/configuration.md."""
    declared = [(flag_of(each), env_of(each), opt) for each, opt in options()]
    page = CONFIGURATION
    for group, members in groupby(declared, key=lambda each: each[2].group):
        page += f"\n## {group}\n\n| option | default | meaning |\n|---|---|---|\n"
        page += "".join(_option(flag, env, opt) for flag, env, opt in members)
    return page


def _option(flag: str, env: str, opt: Option) -> str:
    default = f"`{opt.default}`" if opt.default else opt.unset
    again = "; repeatable" if opt.repeatable else ""
    why = f"<br>Note: {opt.why}." if opt.why else ""
    name = f"`--{flag} {opt.kind.metavar}`<br>`{env}`"
    return f"| {_cell(name)} | {_cell(default)} | {_cell(_sentence(opt.help + again) + why)} |\n"


def metrics() -> str:
    """docs/metrics.md."""
    return "".join((METRICS_PAGE, *map(_metric, METRICS), PROCESS_METRICS, REASONS, *map(_reason, Reason)))


def _metric(metric: Metric) -> str:
    labels = "<br>".join(f"`{name}`: {values}" for name, values in metric.labels.items()) or "-"
    return f"| `{metric.name}` | {metric.type} | {_cell(labels)} | {_cell(metric.help)} |\n"


def _reason(reason: Reason) -> str:
    metrics = {Counted.REJECTED: "client", Counted.UPSTREAM_ERROR: "app"}
    counted = ", ".join(name for metric, name in metrics.items() if metric in reason.counted) or "-"
    code = "-" if reason.code is None else f"`{reason.code.name}`"
    return f"| `{reason.label}` | {counted} | {reason.status or '-'} | {code} | {_cell(_sentence(reason.text))} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


PAGES = {
    "configuration.md": configuration,
    "drain.md": drain.page,
    "metrics.md": metrics,
    "monitoring.md": monitoring.page,
    "check.md": report.page,
}


def write(folder: Path) -> None:
    """Make every page anew."""
    for name, page in PAGES.items():
        (folder / name).write_text(with_contents(page()), encoding="utf-8")
