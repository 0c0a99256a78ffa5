"""How do the reference pages stay true? They are made from the declarations: `make docs`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from drainproxy.config.options import Option, env_of, flag_of, options
from drainproxy.observe.metrics import METRICS, Metric
from drainproxy.protocol.reasons import Counted, Reason
from drainproxy.tools.docs import drain_page as drain
from drainproxy.tools.docs import monitoring_page as monitoring
from drainproxy.tools.manifest import report

if TYPE_CHECKING:
    from pathlib import Path

MADE = "<!-- Made by `python -m drainproxy.tools.docs` from the declarations. Edits here are lost. -->\n"

CONFIGURATION = f"""{MADE}
# Configuration

Every option of `drainproxy serve` is a flag (`--grace-period 60s`), an environment variable
(`DRAINPROXY_GRACE_PERIOD=60s`) and a key of the TOML file that `--config FILE` or `DRAINPROXY_CONFIG` names
(`grace-period = "60s"`). A flag wins over the environment, the environment over the file, the file over the default.

A value that cannot be used stops the start with one line: which option, what came, what was expected (exit code 2). So
do durations that do not fit into the grace period; the line shows the sum. `/status` and the first log lines show what
is in force, secrets left out.

Durations read `500ms`, `5s`, `1m30s`, `1h` or a number of seconds. Sizes read `64KiB`, `1MiB` or a number of bytes.
Addresses read `host:port`, `:port`, `[v6]:port` or `unix:/path.sock`. An option that can be given several times takes
its values separated by blanks in the environment, as a list in the file.
"""

METRICS_PAGE = f"""{MADE}
# Metrics

`GET /metrics` on the admin port, as Prometheus text or, if the scraper asks for it, OpenMetrics. Names and labels do
not change within a major version. All label values come from closed sets, and those that are known beforehand are there
from the start as 0, so that `rate()` sees the first event. The counts of drains stay when a drain is resumed.

[Boards and alerts](monitoring.md) are made from this table.

| metric | type | labels | meaning |
|---|---|---|---|
"""

PROCESS_METRICS = """
The process's own come with them, under the names that all Prometheus clients use: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_start_time_seconds`, `process_open_fds`,
`process_max_fds`.
"""


REASONS = """
## Reasons

Why a request was refused, and how the app failed: the label `reason`. drainproxy's own answers carry it in the header
`X-Drainproxy`, a GOAWAY frame in its debug data. *App* means `drainproxy_upstream_errors_total`, *client* means
`drainproxy_rejected_total`; a reason without either is only told to the client.

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
    why = f"<br>Why: {opt.why}." if opt.why else ""
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
        (folder / name).write_text(page(), encoding="utf-8")
