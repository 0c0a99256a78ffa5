"""What can be set, and what does each setting mean? One declaration an option: everything else derives from it.

`Config` is the declaration: a field is an option, its metadata the kind, the default as a user would write it, the
meaning and the reason. The command line, the environment (`DRAINPROXY_<FLAG>`), the TOML file, validation, `/status`
and `docs/configuration.md` are all made from these fields.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from drainproxy.config.values import (
    ACCESS_LOG,
    COUNT,
    DURATION,
    HOOK,
    HOST_NAME,
    HTTP_URL,
    LISTEN,
    PATH,
    READINESS,
    ROUTE,
    SCRAPE_WAIT,
    SHARE,
    SIZE,
    SUCCESSOR,
    TEXT,
    UPSTREAM,
    URL_PATH,
    AccessLogFilter,
    Address,
    Hook,
    Route,
    Successor,
    ValueType,
    choice,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ENV_PREFIX = "DRAINPROXY_"
MARGIN_S = 1.0
"""Kept between the end of the drain and the app's own stop time: the kubelet needs time to act on the hook's answer."""


@dataclass(frozen=True, slots=True)
class Option:
    """What a user sees of one setting. `default` is as a user writes it; `""` means the text in `unset` applies."""

    kind: ValueType[Any]
    default: str
    help: str
    why: str
    group: str
    unset: str
    repeatable: bool
    secret: bool


def option(
    kind: ValueType[Any],
    default: str,
    help: str,  # noqa: A002 - the word the field uses
    *,
    group: str,
    why: str = "",
    unset: str = "",
    repeatable: bool = False,
    secret: bool = False,
) -> Any:
    """A field of `Config` that is an option. Without a default the field is None (or empty) until someone sets it."""
    declared = Option(kind, default, help, why, group, unset, repeatable, secret)
    value: object = kind.parse(default) if default else (() if repeatable else None)
    return field(default=value, repr=not secret, metadata={"option": declared})


ADDRESSES, BUDGET, DRAIN, DISCOVERY, APP, TIMEOUTS, LIMITS, SECURITY, OUTPUT, TRACES = (
    "Addresses",
    "Budget",
    "Drain",
    "Other discovery",
    "The app",
    "Timeouts",
    "Limits",
    "Security",
    "Output",
    "Traces",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings. Durations end in `_s` and are seconds; sizes are bytes; 0 = none where it says so."""

    listen: Address = option(
        LISTEN,
        ":9080",
        "where clients connect",
        group=ADDRESSES,
        why="[::] takes IPv4 and IPv6; 0.0.0.0 is used where IPv6 is off",
    )
    upstream: Address = option(UPSTREAM, "127.0.0.1:8080", "the app", group=ADDRESSES)
    route: tuple[Route, ...] = option(
        ROUTE,
        "",
        "one more port, instead of --listen and --upstream",
        group=ADDRESSES,
        unset="--listen and --upstream, protocol auto",
        repeatable=True,
        why="auto tells HTTP/1 from HTTP/2 (prior knowledge) by the first bytes and refuses the rest; tcp relays "
        "bytes; any is auto that relays what is no HTTP, and apps that speak first, as bytes",
    )
    admin: Address = option(
        LISTEN,
        ":9081",
        "probes, drain, status and metrics",
        group=ADDRESSES,
        why="the kubelet calls from the node: a loopback address is out of its reach",
    )

    grace_period_s: float = option(
        DURATION,
        "30s",
        "the Pod's terminationGracePeriodSeconds",
        group=BUDGET,
        why="it is not in the downward API, so it has to be said twice; inject fills it in",
    )
    app_stop_time_s: float = option(
        DURATION, "5s", "part of the grace period kept for the app's own stop", group=BUDGET
    )
    drain_timeout_s: float | None = option(
        DURATION,
        "",
        "absolute end of the drain, counted from its first trigger",
        group=BUDGET,
        unset="grace-period - app-stop-time - 1s",
    )
    final_scrape_wait_s: float = option(
        SCRAPE_WAIT,
        "auto",
        "after the drain, stay up to this long for one more /metrics scrape, inside the grace period",
        group=BUDGET,
        why="auto: if somebody scrapes and there is something to tell (the outcome is not clean, or work came late or "
        "did not end well), the time between two scrapes and 30s at most; else not at all",
    )

    propagation_delay_s: float = option(
        DURATION,
        "5s",
        "floor: keep serving at least this long",
        group=DRAIN,
        why="kube-proxies, ingress controllers and load balancers learn of the Pod's end at their own pace",
    )
    quiet_period_s: float = option(DURATION, "1s", "after the floor: no arrival for this long", group=DRAIN)
    quiet_limit_s: float = option(DURATION, "10s", "stop insisting on quiet this long after the floor", group=DRAIN)
    readiness_on_drain_s: float = option(
        READINESS,
        "fail",
        "fail readiness at once, after a duration, or hold it",
        group=DRAIN,
        why="kube-proxy falls back to serving-terminating endpoints; hold keeps that net",
    )
    resume_after: str = option(
        choice("auto", "never"),
        "auto",
        "go back to ready when the drain proves not to have been the end of the Pod",
        group=DRAIN,
        why="a liveness kill of the app container runs its preStop too",
    )
    websocket_drain: str = option(
        choice("close", "wait"),
        "close",
        "close: Close 1001 after the floor; wait: leave WebSockets alone until the deadline",
        group=DRAIN,
    )
    departed_clients: str = option(
        choice("wait", "cut"),
        "wait",
        "a request whose client has closed its side: wait, since the app works on it; cut: end it, as nginx does",
        group=DRAIN,
        why="a FIN does not tell a client that is gone from one that only sends no more; and what the app has begun "
        "may matter to others: a payment, an import",
    )
    close_spread_s: float = option(
        DURATION,
        "5s",
        "window over which idle, HTTP/2 and WebSocket connections are asked to go; 0 = at once",
        group=DRAIN,
        why="clients that are all told at once all reconnect at once; idle ones take their turns within half the quiet "
        "period, since they do not hold the drain",
    )

    on_drain: Hook | None = option(
        HOOK,
        "",
        "whom to tell when a drain begins, before anything else: METHOD URL [BODY], or a command (no shell)",
        group=DISCOVERY,
        unset="nobody",
        why="Consul, Nacos, Eureka, target groups and DNS do not hear of it from Kubernetes; the floor counts from the "
        "call's success, or from hook-limit",
    )
    on_ready: Hook | None = option(
        HOOK, "", "whom to tell when the app is ready for the first time", group=DISCOVERY, unset="nobody"
    )
    on_resume: Hook | None = option(
        HOOK, "", "whom to tell when a drain was called off", group=DISCOVERY, unset="nobody"
    )
    hook_headers_file: str | None = option(
        PATH,
        "",
        "header lines (Name: value) for these calls, read for each",
        group=DISCOVERY,
        unset="no headers",
        why="a token does not belong on a command line, and may be rotated",
    )
    hook_timeout_s: float = option(DURATION, "2s", "time one attempt of such a call may take", group=DISCOVERY)
    hook_limit_s: float = option(
        DURATION,
        "5s",
        "time for all attempts together; then it has failed, and the drain goes on",
        group=DISCOVERY,
        why="they are repeated after 100 ms, 200 ms, and so on up to a second",
    )

    ready_path: str | None = option(URL_PATH, "", "the app's health path", group=APP, unset="a TCP connect decides")
    ready_interval_s: float = option(
        DURATION, "1s", "time between two health checks", group=APP, why="while the app starts it is asked every 100 ms"
    )
    ready_timeout_s: float = option(DURATION, "1s", "time one health check may take", group=APP)
    ready_failures: int = option(COUNT, "3", "failed checks in a row before the app counts as unhealthy", group=APP)
    ready_gate: str | None = option(
        PATH, "", "also not ready until FILE exists and, if not empty, reads true", group=APP, unset="no gate"
    )

    successor: Successor | None = option(
        SUCCESSOR,
        "",
        "the Service of this very workload: HTTP/1 requests that find the app gone are handed to a sibling",
        group=APP,
        unset="no successor",
        why="with several routes each has its own: --route …,successor=ADDRESS; see docs/successor.md",
    )
    successor_after_s: float = option(
        DURATION,
        "200ms",
        "how long a request waits for the app before it is handed over",
        group=APP,
        why="an app that is back in a moment needs no sibling",
    )

    connect_timeout_s: float = option(DURATION, "1s", "time one connection attempt to the app may take", group=TIMEOUTS)
    connect_wait_s: float = option(
        DURATION,
        "5s",
        "how long a request is held while the app refuses connections",
        group=TIMEOUTS,
        why="an app that starts or restarts is back in a moment; an error is not",
    )
    header_timeout_s: float = option(
        DURATION, "10s", "time a request's head may take to arrive; 0 = none", group=TIMEOUTS
    )
    idle_timeout_s: float = option(DURATION, "75s", "life of an idle client connection; 0 = none", group=TIMEOUTS)
    response_timeout_s: float = option(
        DURATION, "0", "time from a sent request to the first byte of its response; 0 = none", group=TIMEOUTS
    )
    stream_idle_timeout_s: float = option(
        DURATION, "0", "time without a byte either way in an open exchange, stream or tunnel; 0 = none", group=TIMEOUTS
    )
    upstream_idle_s: float = option(
        DURATION,
        "2s",
        "life of an idle upstream connection",
        group=TIMEOUTS,
        why="below the shortest keep-alive of common app servers (gunicorn: 2 s), so a pooled one is rarely dead",
    )

    max_header_size: int = option(SIZE, "64KiB", "largest request or response head; more is answered 431", group=LIMITS)
    max_connections: int = option(
        COUNT, "10000", "client connections at a time; accepting pauses at this number", group=LIMITS
    )
    max_body: int = option(SIZE, "0", "largest request body; more is answered 413; 0 = no limit", group=LIMITS)

    drain_token: str | None = option(
        TEXT,
        "",
        "/drain and /resume from elsewhere need this token",
        group=SECURITY,
        unset="no token",
        secret=True,
        why="sent as `Authorization: Bearer …` or `X-Drain-Token: …`",
    )
    drain_token_file: str | None = option(PATH, "", "file that holds the token", group=SECURITY, unset="no token")
    drain_access: str | None = option(
        choice("any", "token", "loopback"),
        "",
        "who may drain and resume",
        group=SECURITY,
        unset="token if a token is set, else any",
        why="any lets everyone who reaches the port take the Pod out of service",
    )
    admin_host: tuple[str, ...] = option(
        HOST_NAME,
        "",
        "a name under which the admin port may be asked, besides its IP addresses and localhost",
        group=SECURITY,
        unset="none",
        repeatable=True,
        why="a web page whose name is made to point here (DNS rebinding) could drain through somebody's browser; "
        "probes and /metrics are answered under any name",
    )
    tls_cert: str | None = option(
        PATH,
        "",
        "certificate chain (PEM); with --tls-key TLS is terminated here",
        group=SECURITY,
        unset="no TLS",
        why="read again when the file changes",
    )
    tls_key: str | None = option(PATH, "", "private key of --tls-cert (PEM)", group=SECURITY, unset="no TLS")

    log_format: str | None = option(
        choice("json", "text"), "", "how log lines are written", group=OUTPUT, unset="text on a terminal, else json"
    )
    log_level: str = option(
        choice("debug", "info", "warning", "error"), "info", "least severe line written", group=OUTPUT
    )
    access_log: AccessLogFilter = option(ACCESS_LOG, "off", "which exchanges get a log line", group=OUTPUT)
    termination_log: str | None = option(
        PATH,
        "",
        "file that gets the drain summary",
        group=OUTPUT,
        unset="/dev/termination-log if it exists",
        why="kubectl describe pod shows it",
    )

    trace: str = option(
        choice("off", "on"),
        "off",
        "give each HTTP/1 request a W3C trace (traceparent) if it has none, and name it in logs and lists",
        group=TRACES,
        why="a trace that is there is passed on in any case",
    )
    trace_sample: float = option(
        SHARE, "1%", "share of the requests without a trace of their own that are sampled", group=TRACES
    )
    otlp_endpoint: str | None = option(
        HTTP_URL,
        "",
        "collector that gets the spans of sampled requests and of each drain, by OTLP/HTTP",
        group=TRACES,
        unset="no spans",
        why="needs the extra: pip install 'drainproxy[otel]'; it means --trace on",
    )

    @property
    def follows_traces(self) -> bool:
        """Requests get a trace."""
        return self.trace == "on" or self.otlp_endpoint is not None

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route: those of `--route`, or the one of `--listen` and `--upstream`."""
        return self.route or (Route(self.listen, self.upstream, successor=self.successor),)

    @property
    def budget_s(self) -> float:
        """Absolute length of the drain: `--drain-timeout`, or what the grace period leaves."""
        return self.drain_timeout_s if self.drain_timeout_s is not None else self.drain_room_s

    @property
    def drain_room_s(self) -> float:
        """What the grace period leaves for the drain, seconds."""
        return whole_us(self.grace_period_s - self.app_stop_time_s - MARGIN_S)

    @property
    def telling_s(self) -> float:
        """How long a drain may have to wait for `--on-drain` before its floor begins to count."""
        return self.hook_limit_s if self.on_drain is not None else 0.0

    @property
    def access(self) -> str:
        """Who may drain: `any`, `token` or `loopback`."""
        has_token = self.drain_token is not None or self.drain_token_file is not None
        return self.drain_access or ("token" if has_token else "any")


def options() -> Iterator[tuple[Field[Any], Option]]:
    """Every option with its field, in the order in which they are declared."""
    for each in fields(Config):
        yield each, each.metadata["option"]


@cache
def flag_of(each: Field[Any]) -> str:
    """The option's name without dashes in front: `grace-period`."""
    return each.name.removesuffix("_s").replace("_", "-")


@cache
def env_of(each: Field[Any]) -> str:
    """The option's environment variable: `DRAINPROXY_GRACE_PERIOD`."""
    return ENV_PREFIX + flag_of(each).upper().replace("-", "_")


def whole_us(seconds: float) -> float:
    """Sums of durations without what binary fractions leave: 0.1 + 0.2 fits into 0.3."""
    return round(seconds, 6)
