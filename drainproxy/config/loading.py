"""How do flags, environment and file become one Config, and which settings are refused?

Each refusal is one line: which option, what came, what was expected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drainproxy.config.options import MARGIN_S, Config, Option, env_of, flag_of, options, whole_us
from drainproxy.config.values import Address, Route, Successor, parse_successor, show_duration, show_size
from drainproxy.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

_MIN_HEADER_SIZE = 1024
NAMES = frozenset(flag_of(each) for each, _ in options())
"""The options, as flags and the config file name them."""


def load(flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, object]) -> Config:
    """The effective configuration: a flag wins over the environment, that over the file, that over the default.

    `flags` and `file` are keyed by option name (`grace-period`); absent, None and empty mean unset. Raises ConfigError
    for a value that cannot be read, BudgetError for durations that do not fit together.
    """
    for key in file:
        if key not in NAMES:
            raise ConfigError("config file", key, "the name of an option, see --help")
    values: dict[str, Any] = {}
    for each, opt in options():
        value = _chosen(each, opt, flags, environ, file)
        if value is not None:
            values[each.name] = _found(value, environ)
    config = Config(**values)
    if config.route and config.successor is not None:
        raise ConfigError("--successor", str(config.successor), "successor=ADDRESS in each --route instead")
    if config.route and ("listen" in values or "upstream" in values):
        raise ConfigError("--route", str(config.route[0]), "either --route or --listen and --upstream, not both")
    _validate(config)
    return config


def _chosen(
    each: Field[Any], opt: Option, flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, object]
) -> object:
    flag = flag_of(each)
    candidates = (
        (f"--{flag}", flags.get(flag)),
        (env_of(each), environ.get(env_of(each))),
        (f"{flag} in the config file", file.get(flag)),
    )
    for source, raw in candidates:
        if raw is None or raw in ("", (), []):
            continue
        if opt.repeatable:
            parts = raw.split() if isinstance(raw, str) else raw
            if not isinstance(parts, list | tuple):
                raise ConfigError(source, raw, f"a list of {opt.kind.expected}")
            return tuple(_read(source, part, opt) for part in parts)
        return _read(source, raw, opt)
    return None


def _found(value: object, environ: Mapping[str, str]) -> object:
    """The value with what Kubernetes' variables say of the Services it names."""
    match value:
        case Successor(service=service) if service:
            host, port = environ.get(f"{service}_SERVICE_HOST"), environ.get(f"{service}_SERVICE_PORT")
            if not host or not port:
                return value
            text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            try:
                return replace(value, address=parse_successor(text).address)
            except ValueError:
                raise ConfigError(f"{service}_SERVICE_HOST and _PORT", text, "an address") from None
        case Route(successor=Successor()):
            return replace(value, successor=_found(value.successor, environ))  # type: ignore[arg-type]  # its own kind
        case tuple():
            return tuple(_found(each, environ) for each in value)
    return value


def _read(source: str, raw: object, opt: Option) -> object:
    shown = "…" if opt.secret else raw
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ConfigError(source, shown, opt.kind.expected)
    try:
        return opt.kind.parse(str(raw))
    except ValueError:
        raise ConfigError(source, shown, opt.kind.expected) from None


def _validate(config: Config) -> None:
    _validate_budget(config)
    if (config.tls_cert is None) != (config.tls_key is None):
        missing = "--tls-key" if config.tls_key is None else "--tls-cert"
        raise ConfigError(missing, "", "both --tls-cert and --tls-key, or neither")
    for flag, value in (("--successor-ca", config.successor_ca), ("--successor-name", config.successor_name)):
        if value is not None and config.tls_cert is None:
            raise ConfigError(flag, value, "also --tls-cert: without it, requests are handed over without TLS")
    has_token, has_file = config.drain_token is not None, config.drain_token_file is not None
    if has_token and has_file:
        raise ConfigError(
            "--drain-token-file", config.drain_token_file, "only one of --drain-token and --drain-token-file"
        )
    if config.access == "token" and not has_token and not has_file:
        raise ConfigError("--drain-access", "token", "also --drain-token or --drain-token-file")
    for name in ("ready_interval_s", "ready_timeout_s", "connect_timeout_s"):
        if getattr(config, name) <= 0:
            raise ConfigError("--" + name.removesuffix("_s").replace("_", "-"), "0", "a duration above 0")
    if config.max_header_size < _MIN_HEADER_SIZE:
        raise ConfigError(
            "--max-header-size", show_size(config.max_header_size), f"at least {show_size(_MIN_HEADER_SIZE)}"
        )
    _validate_routes(config)


def _validate_routes(config: Config) -> None:
    listens = [route.listen for route in config.routes] + [config.admin]
    for address in listens:
        if listens.count(address) > 1 and (address.path or address.port):
            raise ConfigError("--listen, --route, --admin", str(address), "a different address for each")
    for route in config.routes:
        _validate_successor(route, listens)
        if _is_one_of(route.upstream, listens):
            raise ConfigError(
                "--upstream", str(route.upstream), "the app's address, not one that drainproxy listens on"
            )


_OWN_HOSTS = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _validate_successor(route: Route, listens: list[Address]) -> None:
    successor = route.successor
    if successor is None:
        return
    if successor.address is not None and _is_one_of(successor.address, listens):
        raise ConfigError(
            "--successor", str(successor), "the workload's Service, not an address that drainproxy listens on"
        )


def _is_one_of(address: Address, listens: list[Address]) -> bool:
    """Whether requests to it would come back to us, again and again."""
    if address.host not in _OWN_HOSTS:
        return address in listens
    return any(
        listen.port == address.port and (not listen.host or listen.host in _OWN_HOSTS)
        for listen in listens
        if not listen.path
    )


def _validate_budget(config: Config) -> None:
    """Refuse durations that cannot all fit into the grace period; the message shows the sum."""
    show = show_duration
    room = config.drain_room_s
    split = (
        f"grace-period {show(config.grace_period_s)} - app-stop-time {show(config.app_stop_time_s)} "
        f"- {show(MARGIN_S)} margin"
    )
    if room <= 0:
        raise BudgetError(
            f"nothing is left to drain: {split} = {room:g}s; raise terminationGracePeriodSeconds and --grace-period"
        )
    if config.budget_s > room:
        raise BudgetError(f"--drain-timeout {show(config.budget_s)} is more than {split} = {show(room)} allows")
    need = whole_us(config.telling_s + config.propagation_delay_s + config.quiet_period_s)
    telling = f"hook-limit {show(config.telling_s)} + " if config.telling_s else ""
    if need > config.budget_s:
        raise BudgetError(
            f"{telling}propagation-delay {show(config.propagation_delay_s)} "
            f"+ quiet-period {show(config.quiet_period_s)} "
            f"= {show(need)} do not fit into the drain's {show(config.budget_s)} ({split} = {show(room)})"
        )


def effective(config: Config) -> dict[str, object]:
    """Every setting by option name as a user would write it, secrets redacted: for `/status`."""
    derived = {"drain_timeout_s": config.budget_s, "drain_access": config.access}
    return {flag_of(each): _shown(opt, derived.get(each.name, getattr(config, each.name))) for each, opt in options()}


def chosen(config: Config) -> dict[str, object]:
    """The settings that differ from the defaults, as `effective` shows them: for the start-up line."""
    return {
        flag_of(each): _shown(opt, getattr(config, each.name))
        for each, opt in options()
        if getattr(config, each.name) != each.default
    }


def _shown(opt: Option, value: Any) -> object:
    if value is None or value == ():
        return None
    if opt.secret:
        return "(set)"
    return [opt.kind.show(each) for each in value] if opt.repeatable else opt.kind.show(value)
