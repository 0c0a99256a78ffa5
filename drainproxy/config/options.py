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
        why="auto recognizes HTTP/1 and HTTP/2 (prior knowledge) by the first bytes and refuses everything else; tcp "
        "relays bytes; any is like auto, but relays everything else as bytes, also when the app sends first",
    )
    admin: Address = option(
        LISTEN,
        ":9081",
        "health checks, /drain, status and metrics",
        group=ADDRESSES,
        why="the kubelet calls from the node, so it cannot reach a loopback address",
    )

    grace_period_s: float = option(
        DURATION,
        "30s",
        "the Pod's terminationGracePeriodSeconds",
        group=BUDGET,
        why="drainproxy cannot read it from the Pod (it is not in the downward API); inject writes the same value here",
    )
    app_stop_time_s: float = option(
        DURATION, "5s", "part of the grace period that is reserved for the app to stop after the drain", group=BUDGET
    )
    drain_timeout_s: float | None = option(
        DURATION,
        "",
        "longest time of a drain, counted from its first trigger; then work in flight is cut",
        group=BUDGET,
        unset="grace-period - app-stop-time - 1s",
    )
    final_scrape_wait_s: float = option(
        SCRAPE_WAIT,
        "auto",
        "after the drain, stay up to this long for one more /metrics scrape, inside the grace period",
        group=BUDGET,
        why="auto waits only if Prometheus has scraped before and there is something to report (the outcome is not "
        "clean, or work was late or failed): for the time between two scrapes, 30s at most",
    )

    propagation_delay_s: float = option(
        DURATION,
        "5s",
        "the floor: keep serving at least this long after the drain begins",
        group=DRAIN,
        why="kube-proxies, ingress controllers and load balancers need different times to notice that the Pod ends",
    )
    quiet_period_s: float = option(
        DURATION, "1s", "after the floor, traffic has stopped when no request arrives for this long", group=DRAIN
    )
    quiet_limit_s: float = option(
        DURATION, "10s", "this long after the floor, end the drain even if requests still arrive", group=DRAIN
    )
    readiness_on_drain_s: float = option(
        READINESS,
        "fail",
        "when /readyz fails in a drain: at once (fail), after a duration, or only when it is over (hold)",
        group=DRAIN,
        why="if no other Pod is ready, kube-proxy still sends to Pods that terminate but are ready; hold allows that",
    )
    resume_after: str = option(
        choice("auto", "never"),
        "auto",
        "go back to ready if the drain was not the end of the Pod",
        group=DRAIN,
        why="when a failed liveness probe restarts only the app's container, its preStop hook runs too",
    )
    websocket_drain: str = option(
        choice("close", "wait"),
        "close",
        "WebSockets after the floor: close sends Close 1001; wait leaves them open until the deadline",
        group=DRAIN,
    )
    departed_clients: str = option(
        choice("wait", "cut"),
        "wait",
        "when a client has closed its sending side: wait for the app's answer, or cut the request, as nginx does",
        group=DRAIN,
        why="a FIN comes from a client that is gone, and also from one that sends nothing more and still reads; and "
        "what the app has begun may matter in any case: a payment, an import",
    )
    close_spread_s: float = option(
        DURATION,
        "5s",
        "time over which idle, HTTP/2 and WebSocket connections are asked to leave; 0 = all at once",
        group=DRAIN,
        why="so that clients do not all reconnect in the same moment; idle connections are closed within half the "
        "quiet period, since the drain does not wait for them",
    )

    on_drain: Hook | None = option(
        HOOK,
        "",
        "call to make first when a drain begins: METHOD URL [BODY], or a command (run without a shell)",
        group=DISCOVERY,
        unset="no call",
        why="Kubernetes does not tell Consul, Nacos, Eureka, target groups or DNS; the floor counts from the end of "
        "the call, hook-limit after the trigger at the latest",
    )
    on_ready: Hook | None = option(
        HOOK, "", "call to make when the app is ready for the first time", group=DISCOVERY, unset="no call"
    )
    on_resume: Hook | None = option(
        HOOK, "", "call to make when a drain was called off", group=DISCOVERY, unset="no call"
    )
    hook_headers_file: str | None = option(
        PATH,
        "",
        "file with header lines (Name: value) for these calls, read again for each call",
        group=DISCOVERY,
        unset="no headers",
        why="a token should not be on a command line, and it may change",
    )
    hook_timeout_s: float = option(DURATION, "2s", "longest time of one attempt of such a call", group=DISCOVERY)
    hook_limit_s: float = option(
        DURATION,
        "5s",
        "longest time of all attempts together; then the call has failed, and the drain continues",
        group=DISCOVERY,
        why="a failed attempt is repeated after 100 ms, then 200 ms, and so on up to 1 s",
    )

    ready_path: str | None = option(
        URL_PATH,
        "",
        "URL path of the app's health check",
        group=APP,
        unset="the app is healthy if it accepts a TCP connection",
    )
    ready_interval_s: float = option(
        DURATION, "1s", "time between two health checks", group=APP, why="while the app starts: every 100 ms"
    )
    ready_timeout_s: float = option(DURATION, "1s", "longest time of one health check", group=APP)
    ready_failures: int = option(COUNT, "3", "failed checks in a row until the app counts as unhealthy", group=APP)
    ready_gate: str | None = option(
        PATH, "", "not ready until this file exists and is empty or reads true", group=APP, unset="no gate"
    )

    successor: Successor | None = option(
        SUCCESSOR,
        "",
        "this workload's own Service: requests that come late, or find the app gone, are handed to another of its Pods",
        group=APP,
        unset="no successor",
        why="with several routes, each has its own: --route …,successor=ADDRESS; see docs/successor.md",
    )
    successor_after_s: float = option(
        DURATION,
        "200ms",
        "how long the app may refuse connections before requests are handed over; they wait until then",
        group=APP,
        why="an app that comes back at once can answer itself",
    )
    release: str = option(
        choice("early", "late"),
        "early",
        "when the app may stop in a drain with a successor: as soon as ready Pods there have answered and nothing is "
        "in flight in the app (early), or when the drain has ended (late)",
        group=APP,
        why="with early, new requests go to the successor once ready Pods there have answered; without such an answer, "
        "or without a successor, the app serves until the drain has ended",
    )
    workload: str | None = option(
        TEXT,
        "",
        "a name that all Pods behind the successor share, and no others",
        group=APP,
        unset="made from the Pod's name",
        why="a request is handed over only to a Pod that knows this name",
    )
    successor_ca: str | None = option(
        PATH,
        "",
        "certificate authorities (PEM) of the other Pods' certificates, if drainproxy terminates TLS",
        group=APP,
        unset="the system's authorities",
        why="with --tls-cert, requests are handed over with TLS; the file is read again when it changes",
    )
    successor_name: str | None = option(
        HOST_NAME, "", "the host name in these certificates", group=APP, unset="the host of --successor"
    )

    connect_timeout_s: float = option(
        DURATION, "1s", "longest time of one attempt to connect to the app", group=TIMEOUTS
    )
    connect_wait_s: float = option(
        DURATION,
        "5s",
        "how long a request waits while the app refuses connections",
        group=TIMEOUTS,
        why="an app that starts or restarts may accept connections soon, and then no client sees an error",
    )
    hold_limit_s: float = option(
        DURATION,
        "30s",
        "longest time that a request waits while drainproxy holds requests (drainproxy hold, or restart)",
        group=TIMEOUTS,
        why="after that it gets 503 with Retry-After",
    )
    restart_timeout_s: float = option(
        DURATION,
        "60s",
        "longest time until a new process of the app is healthy (run: drainproxy restart)",
        group=TIMEOUTS,
        why="until then the old process serves, if both can run at the same time; see docs/upgrade.md",
    )
    restart_trial_s: float = option(
        DURATION,
        "5s",
        "how long the old process of the app is kept after the switch, in case the new one ends",
        group=TIMEOUTS,
    )
    upgrade_timeout_s: float = option(
        DURATION,
        "60s",
        "longest time until a new drainproxy is ready to take over (SIGUSR2)",
        group=TIMEOUTS,
        why="until then the old one serves, and it stays if the time is over; see docs/upgrade.md",
    )
    header_timeout_s: float = option(
        DURATION, "10s", "longest time until a request's head is complete; 0 = no limit", group=TIMEOUTS
    )
    idle_timeout_s: float = option(
        DURATION, "75s", "idle client connections are closed after this time; 0 = never", group=TIMEOUTS
    )
    response_timeout_s: float = option(
        DURATION,
        "0",
        "longest time from a sent request to the first byte of its response; 0 = no limit",
        group=TIMEOUTS,
    )
    stream_idle_timeout_s: float = option(
        DURATION, "0", "longest time without a byte in an open exchange, stream or tunnel; 0 = no limit", group=TIMEOUTS
    )
    upstream_idle_s: float = option(
        DURATION,
        "2s",
        "idle connections to the app are closed after this time",
        group=TIMEOUTS,
        why="no longer than the keep-alive of common app servers (gunicorn: 2 s), so that the app rarely closes first",
    )

    max_header_size: int = option(
        SIZE, "64KiB", "largest request or response head; a larger request is answered 431", group=LIMITS
    )
    max_connections: int = option(
        COUNT, "10000", "most client connections at a time; further ones wait to be accepted", group=LIMITS
    )
    max_body: int = option(SIZE, "0", "largest request body; a larger one is answered 413; 0 = no limit", group=LIMITS)

    drain_token: str | None = option(
        TEXT,
        "",
        "calls of /drain and /resume from outside the Pod need this token",
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
        why="with any, everyone who can reach the port can take the Pod out of service",
    )
    admin_host: tuple[str, ...] = option(
        HOST_NAME,
        "",
        "host name that callers of the admin port may use, besides its IP addresses and localhost",
        group=SECURITY,
        unset="none",
        repeatable=True,
        why="otherwise a web page could make its own host name point here and drain through a visitor's browser (DNS "
        "rebinding); health checks and /metrics are answered under any name",
    )
    tls_cert: str | None = option(
        PATH,
        "",
        "certificate chain (PEM); together with --tls-key, drainproxy terminates TLS",
        group=SECURITY,
        unset="no TLS",
        why="read again when the file changes",
    )
    tls_key: str | None = option(PATH, "", "private key of --tls-cert (PEM)", group=SECURITY, unset="no TLS")

    log_format: str | None = option(
        choice("json", "text"), "", "how log lines are written", group=OUTPUT, unset="text on a terminal, else json"
    )
    log_level: str = option(
        choice("debug", "info", "warning", "error"), "info", "least severe log lines to write", group=OUTPUT
    )
    access_log: AccessLogFilter = option(
        ACCESS_LOG, "off", "which requests get a log line: off, errors, slow:DURATION or all", group=OUTPUT
    )
    termination_log: str | None = option(
        PATH,
        "",
        "file that the summary of a drain is written to",
        group=OUTPUT,
        unset="/dev/termination-log if it exists",
        why="kubectl describe pod shows it",
    )

    trace: str = option(
        choice("off", "on"),
        "off",
        "add a W3C trace context (traceparent) to HTTP/1 requests that have none, and show it in logs and lists",
        group=TRACES,
        why="an existing trace context is passed on in any case",
    )
    trace_sample: float = option(
        SHARE, "1%", "share of the requests without a trace context that are sampled", group=TRACES
    )
    otlp_endpoint: str | None = option(
        HTTP_URL,
        "",
        "collector that receives the spans of sampled requests and of each drain, over OTLP/HTTP",
        group=TRACES,
        unset="no spans",
        why="needs the extra otel (pip install '.[otel]'); includes --trace on",
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
