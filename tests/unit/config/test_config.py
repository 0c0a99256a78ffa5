"""What can be set, and what is refused? Every kind, every precedence, every message: one line that says what to do."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.config.loading import chosen, effective, load
from drainproxy.config.options import MARGIN_S, Config, env_of, flag_of, options
from drainproxy.config.values import (
    HOLD,
    AccessLogFilter,
    Address,
    Route,
    Successor,
    parse_address,
    parse_duration,
    parse_hook,
    parse_route,
    parse_size,
    parse_upstream,
    show_duration,
    show_size,
)
from drainproxy.errors import BudgetError, ConfigError, DrainproxyError

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2-and-more"


def refused(flags: dict[str, Any], environ: dict[str, str] | None = None, file: dict[str, object] | None = None) -> str:
    """The message, which is one line, and the exit code is 2."""
    with pytest.raises((ConfigError, BudgetError)) as caught:
        load(flags, environ or {}, file or {})
    message = str(caught.value)
    assert "\n" not in message
    assert "\r" not in message
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, DrainproxyError)
    return message


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        ("2.5", 2.5),
        ("5s", 5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1h", 3600),
        ("1h2m3s4ms", 3723.004),
        ("1.5m", 90),
        (" 5s ", 5),
        ("90m", 5400),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "5x",
        "-5s",
        "+5",
        "5 s",
        "1s1m",
        "1m1m",
        "1e3",
        ".5",
        "5.",
        "inf",
        "nan",
        "0x5",
        "٣s",
        "5s5",
        "1_0",
        "5,5",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "s", "9" * 308 + "h", "9" * 5000])
def test_a_duration_beyond_all_numbers_is_refused_and_not_endless(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@settings(max_examples=300, derandomize=True)
@given(st.integers(0, 10**10))
def test_a_duration_that_is_shown_reads_back_as_the_same(ms: int) -> None:
    assert parse_duration(show_duration(ms / 1000)) == pytest.approx(ms / 1000, abs=1e-9)


@settings(max_examples=300, derandomize=True)
@given(
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.decimals(0, 99, places=3), st.decimals(0, 999, places=3)),
)
def test_any_duration_a_user_can_write_is_shown_as_the_same(parts: tuple[Any, ...]) -> None:
    seconds = parse_duration("{}h{}m{}s{}ms".format(*parts))
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (5, "5s"),
        (60, "1m"),
        (90, "1m30s"),
        (90.5, "90.5s"),
        (0.001, "1ms"),
        (0.0005, "0.0005s"),
        (12345.678, "12345.678s"),
        (HOLD, "hold"),
    ],
)
def test_a_duration_is_shown_short_and_whole(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 1 << 50))
def test_a_size_that_is_shown_reads_back_as_the_same(size: int) -> None:
    assert parse_size(show_size(size)) == size


def test_a_size_is_read() -> None:
    assert [parse_size(text) for text in ("0", "17", "17B", "64KiB", " 1MiB", "2GiB")] == [
        0,
        17,
        17,
        65536,
        1 << 20,
        2 << 30,
    ]


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1.5KiB", "64KB", "64kib", "64 KiB", "1K", "٣", "0x10", "9" * 5000])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9080", Address("", 9080)),
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("my-app.svc.local:80", Address("my-app.svc.local", 80)),
        ("app_1:80", Address("app_1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("[::]:0", Address("::", 0)),
        ("unix:/run/app.sock", Address(path="/run/app.sock")),
    ],
)
def test_an_address_is_read_and_shown(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "80",
            "localhost",
            "a:",
            ":",
            "a:b",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:٣",
            "::1:80",
            "::1",
            "[::1]",
            "[::1:80",
            "::1]:80",
        ),
        *(
            "[]:80",
            "[a]:80",
            "unix:",
            "http://a:80",
            "a/b:80",
            "u@a:80",
            "a b:80",
            "a\n:80",
            ":80 :81",
            "a:" + "9" * 5000,
            "a..b:80",
            ".a:80",
            "a" * 64 + ":80",
            ".".join(["a" * 60] * 5) + ":80",
        ),
        *("unix:app.sock", "*:80"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


def test_an_upstream_can_be_connected_to() -> None:
    assert parse_upstream(":8080") == Address("127.0.0.1", 8080)
    assert parse_upstream("unix:/a") == Address(path="/a")
    with pytest.raises(ValueError):
        parse_upstream("a:0")


def test_a_route_is_read_and_shown() -> None:
    route = Route(Address("", 9080), Address("127.0.0.1", 8080), "http1")
    assert parse_route(":9080=127.0.0.1:8080,protocol=http1") == route
    assert parse_route(str(route)) == route
    assert parse_route("[::1]:1=unix:/a").protocol == "auto"


@pytest.mark.parametrize(
    "text",
    ["", ":1", ":1=", "=:1", ":1=:2,", ":1=:2,protocol", ":1=:2,protocol=h3", ":1=:2,proto=tcp", ":1=:0", ":1=:2=:3"],
)
def test_what_is_no_route_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_route(text)


# --- where values come from -------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    config = load({}, {}, {})
    assert config == Config()
    assert config.routes == (Route(Address("", 9080), Address("127.0.0.1", 8080)),)
    assert (config.budget_s, config.access, config.max_header_size) == (24, "any", 65536)


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() -> None:
    flags, environ, file = {"quiet-period": "2s"}, {"DRAINPROXY_QUIET_PERIOD": "3s"}, {"quiet-period": "4s"}
    assert load(flags, environ, file).quiet_period_s == 2
    assert load({}, environ, file).quiet_period_s == 3
    assert load({}, {}, file).quiet_period_s == 4
    assert load({"quiet-period": None}, {"DRAINPROXY_QUIET_PERIOD": ""}, {}).quiet_period_s == 1


def test_a_flag_of_zero_is_a_value() -> None:
    assert load({"quiet-period": "0"}, {}, {"quiet-period": "4s"}).quiet_period_s == 0
    assert load({}, {}, {"quiet-period": 0}).quiet_period_s == 0


def test_a_bad_value_that_a_better_source_hides_is_not_looked_at() -> None:
    assert load({"quiet-period": "2s"}, {"DRAINPROXY_QUIET_PERIOD": "x"}, {}).quiet_period_s == 2


def test_every_option_has_its_flag_and_its_variable_and_reads_its_own_default() -> None:
    seen = set()
    for each, opt in options():
        flag = flag_of(each)
        assert env_of(each) == "DRAINPROXY_" + flag.upper().replace("-", "_")
        assert opt.help
        assert opt.default or opt.unset, f"{flag} has neither a default nor says what holds without"
        seen.add(flag)
        if opt.default:
            assert getattr(load({flag: opt.default}, {}, {}), each.name) == each.default
    assert len(seen) == len(fields(Config))


def test_a_file_may_hold_numbers_and_lists() -> None:
    file = {"grace-period": 60, "quiet-period": 0.5, "max-connections": 7, "route": [":1=:2", ":3=:4,protocol=tcp"]}
    config = load({}, {}, file)
    assert (config.grace_period_s, config.quiet_period_s, config.max_connections) == (60, 0.5, 7)
    assert [str(route) for route in config.routes] == [
        "::1=127.0.0.1:2,protocol=auto".replace("::", ":"),
        ":3=127.0.0.1:4,protocol=tcp",
    ]


def test_routes_may_be_several_by_flag_by_variable_and_by_file() -> None:
    texts = [":1=:2", ":3=:4,protocol=http2"]
    by_flag, by_env, by_file = (
        load({"route": tuple(texts)}, {}, {}),
        load({}, {"DRAINPROXY_ROUTE": " ".join(texts)}, {}),
        load({}, {}, {"route": texts}),
    )
    assert by_flag == by_env == by_file
    assert [route.protocol for route in by_flag.routes] == ["auto", "http2"]


# --- what is refused --------------------------------------------------------------------------------------------------

BAD_VALUES: dict[str, list[str]] = {
    "listen": ["9080", "a:b"],
    "upstream": ["127.0.0.1", "a:0"],
    "route": ["x", ":1=:2,x=y"],
    "admin": ["x"],
    "grace-period": ["30 s", "forever", "-1"],
    "readiness-on-drain": ["later", "Fail"],
    "resume-after": ["always", "AUTO"],
    "websocket-drain": ["cut"],
    "ready-path": ["healthz", "/a b", "/a\r\nX: y", "/ä"],
    "ready-failures": ["0", "-1", "1.5", "x"],
    "max-header-size": ["64KB", "-1", "0", "100"],
    "max-connections": ["0", "none"],
    "drain-access": ["everyone"],
    "log-format": ["xml"],
    "log-level": ["trace"],
    "access-log": ["some", "slow", "slow:", "slow:x", "all:1s", "off:"],
    "connect-timeout": ["0"],
    "ready-interval": ["0s"],
    "ready-timeout": ["0ms"],
}


@pytest.mark.parametrize(("flag", "text"), [(flag, text) for flag, texts in BAD_VALUES.items() for text in texts])
def test_a_bad_value_says_which_option_what_came_and_what_was_expected(flag: str, text: str) -> None:
    by_flag = refused({flag: (text,) if flag == "route" else text})
    assert by_flag.startswith(f"--{flag}")
    assert "expected" in by_flag
    variable = "DRAINPROXY_" + flag.upper().replace("-", "_")
    by_env = refused({}, {variable: text})
    by_file = refused({}, {}, {flag: text})
    if (
        flag not in ("connect-timeout", "ready-interval", "ready-timeout", "max-header-size")
        or "-" in text
        or "K" in text
    ):
        assert by_env.startswith(variable)
        assert by_file.startswith(f"{flag} in the config file")


@pytest.mark.parametrize("value", [True, False, ["5s"], {"a": 1}, 5 + 2j, -3, math.nan, math.inf])
def test_a_value_of_the_wrong_type_in_the_file_is_refused(value: object) -> None:
    assert "quiet-period in the config file" in refused({}, {}, {"quiet-period": value})


def test_a_single_number_is_no_list_of_routes() -> None:
    assert "a list of" in refused({}, {}, {"route": 5})


@pytest.mark.parametrize("key", ["quiet_period", "quiet", "", "DRAINPROXY_LISTEN", "listen\nadmin"])
def test_an_unknown_key_in_the_file_is_refused(key: str) -> None:
    message = refused({}, {}, {key: "1"})
    assert "config file" in message
    assert "--help" in message


def test_an_unknown_variable_is_none_of_ours() -> None:
    assert load({}, {"DRAINPROXY_UNKNOWN": "1", "PATH": "/bin"}, {}) == Config()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"tls-cert": "c"}, ["--tls-key"]),
        ({"tls-key": "k"}, ["--tls-cert"]),
        ({"drain-token": "a", "drain-token-file": "b"}, ["--drain-token-file", "only one of"]),
        ({"drain-access": "token"}, ["--drain-access", "--drain-token"]),
        ({"route": (":1=:2",), "listen": ":3"}, ["--route", ":1=127.0.0.1:2", "not both"]),
        ({"route": (":1=:2",), "upstream": ":3"}, ["--route", "not both"]),
        ({"route": (":1=:2", ":1=:3")}, [":1", "different"]),
        ({"listen": ":9081"}, [":9081", "different"]),
        ({"listen": "unix:/a", "admin": "unix:/a"}, ["unix:/a", "different"]),
    ],
)
def test_options_that_do_not_go_together_are_refused(flags: dict[str, Any], words: list[str]) -> None:
    message = refused(flags)
    assert all(word in message for word in words), message
    assert "Address(" not in message


def test_ports_that_the_system_chooses_may_be_several() -> None:
    load({"listen": ":0", "admin": ":0"}, {}, {})


def test_who_may_drain_follows_from_the_token() -> None:
    assert load({"drain-token": "a"}, {}, {}).access == "token"
    assert load({"drain-token-file": "a"}, {}, {}).access == "token"
    assert load({"drain-token": "a", "drain-access": "loopback"}, {}, {}).access == "loopback"


# --- budget -----------------------------------------------------------------------------------------------------------


def test_an_impossible_budget_shows_the_sum() -> None:
    message = refused({"grace-period": "6s"})
    assert message == (
        "nothing is left to drain: grace-period 6s - app-stop-time 5s - 1s margin = 0s; "
        "raise terminationGracePeriodSeconds and --grace-period"
    )
    message = refused({"drain-timeout": "25s"})
    assert message == "--drain-timeout 25s is more than grace-period 30s - app-stop-time 5s - 1s margin = 24s allows"
    message = refused({"propagation-delay": "24s"})
    assert message.startswith("propagation-delay 24s + quiet-period 1s = 25s do not fit into the drain's 24s")
    assert "grace-period 30s - app-stop-time 5s - 1s margin = 24s" in message


@pytest.mark.parametrize(
    "flags",
    [
        {"drain-timeout": "24s"},
        {"propagation-delay": "23s"},
        {
            "grace-period": "1.3s",
            "app-stop-time": "0.1s",
            "drain-timeout": "0.2s",
            "propagation-delay": "0",
            "quiet-period": "0",
        },
        {"drain-timeout": "300ms", "propagation-delay": "100ms", "quiet-period": "200ms"},
        {"drain-timeout": "0", "propagation-delay": "0", "quiet-period": "0"},
    ],
)
def test_a_budget_that_fits_exactly_is_accepted(flags: dict[str, str]) -> None:
    load(flags, {}, {})


MS = st.integers(0, 40_000).map(lambda ms: f"{ms}ms")


@settings(max_examples=500, derandomize=True)
@given(
    st.fixed_dictionaries({"grace-period": MS, "app-stop-time": MS, "propagation-delay": MS, "quiet-period": MS}),
    st.none() | MS,
)
def test_a_budget_is_accepted_exactly_if_floor_quiet_and_stop_fit_into_the_grace_period(
    flags: dict[str, str], timeout: str | None
) -> None:
    names = ("grace-period", "app-stop-time", "propagation-delay", "quiet-period")
    grace, stop, floor, quiet = (int(flags[name][:-2]) for name in names)
    room = grace - stop - round(MARGIN_S * 1000)
    deadline = room if timeout is None else int(timeout[:-2])
    fits = room > 0 and floor + quiet <= deadline <= room
    try:
        config = load({**flags, "drain-timeout": timeout}, {}, {})
    except BudgetError:
        assert not fits
    else:
        assert fits
        assert config.budget_s == pytest.approx(deadline / 1000)


# --- shown ------------------------------------------------------------------------------------------------------------


def test_what_is_effective_reads_back_as_the_same() -> None:
    flags: dict[str, Any] = {
        "listen": "[::1]:80",
        "upstream": "unix:/a",
        "grace-period": "1m",
        "readiness-on-drain": "hold",
        "access-log": "slow:1.5s",
        "max-header-size": "8KiB",
        "ready-path": "/healthz?x=1",
        "drain-access": "loopback",
    }
    config = load(flags, {}, {})
    shown = effective(config)
    again = load({}, {}, {key: value for key, value in shown.items() if value is not None})
    assert effective(again) == shown
    assert again == load({**flags, "drain-timeout": "54s"}, {}, {})
    assert set(shown) == {flag_of(each) for each, _ in options()}


@pytest.mark.parametrize("when", ["fail", "hold", "5s", "0"])
def test_readiness_on_drain_is_shown_as_it_is_written(when: str) -> None:
    shown = effective(load({"readiness-on-drain": when}, {}, {}))["readiness-on-drain"]
    assert shown == {"0": "fail"}.get(when, when)


def test_routes_are_shown_as_a_list() -> None:
    shown = effective(load({"route": (":1=:2",)}, {}, {}))
    assert shown["route"] == [":1=127.0.0.1:2,protocol=auto"]


@pytest.mark.parametrize("place", [repr, str, lambda config: str(effective(config))], ids=["repr", "str", "effective"])
def test_the_token_is_never_shown(place: Callable[[Config], str]) -> None:
    config = load({"drain-token": SECRET}, {}, {})
    assert config.drain_token == SECRET
    assert SECRET not in place(config)
    assert effective(config)["drain-token"] == "(set)"
    assert effective(Config())["drain-token"] is None


@pytest.mark.parametrize(
    ("flags", "file"),
    [
        ({}, {"drain-token": [SECRET]}),
        ({}, {"drain-token": {SECRET: 1}}),
        ({"drain-token": SECRET, "drain-token-file": "x"}, {}),
        ({"drain-token": SECRET, "quiet-period": "x"}, {}),
        ({"drain-token": SECRET, "grace-period": "1s"}, {}),
    ],
)
def test_no_message_shows_the_token(flags: dict[str, Any], file: dict[str, object]) -> None:
    assert SECRET not in refused(flags, {}, file)


def test_an_access_log_is_shown_as_it_is_written() -> None:
    assert [str(AccessLogFilter(mode)) for mode in ("off", "errors", "all")] == ["off", "errors", "all"]
    assert str(AccessLogFilter("slow", 0.25)) == "slow:250ms"


@pytest.mark.parametrize(
    "flags",
    [
        {"listen": ":8080"},
        {"listen": "127.0.0.1:8080"},
        {"admin": ":8080"},
        {"upstream": "localhost:9080"},
        {"route": (":8080=127.0.0.1:8080",)},
        {"listen": "unix:/a.sock", "upstream": "unix:/a.sock"},
    ],
)
def test_an_upstream_that_is_ourselves_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="the app's address, not one that drainproxy listens on"):
        load(flags, {}, {})


# Calls to other discovery.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PUT http://127.0.0.1:8500/v1?x=1", ("PUT", "http://127.0.0.1:8500/v1?x=1", "", ())),
        ("DELETE https://registry/web", ("DELETE", "https://registry/web", "", ())),
        ('POST http://r/x {"a": "b c"}', ("POST", "http://r/x", '{"a": "b c"}', ())),
        ("/bin/leave --now", ("", "", "", ("/bin/leave", "--now"))),
        ("tool 'two words' $PORT", ("", "", "", ("tool", "two words", "$PORT"))),
    ],
)
def test_a_call_is_a_request_or_a_command(text: str, expected: tuple[object, ...]) -> None:
    hook = parse_hook(f" {text} ")
    assert (hook.method, hook.url, hook.body, hook.words) == expected
    assert str(hook) == text


@pytest.mark.parametrize(
    "text", ["http://r/x", "PUT r/x", "PUT", "PUT ftp://r/x", "PUT http://", "", "'open", "PUT http:///path"]
)
def test_a_call_that_cannot_be_made_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_hook(text)


def test_the_limit_of_a_call_counts_against_the_budget() -> None:
    load({"on-drain": "true"}, {}, {})
    with pytest.raises(BudgetError, match="hook-limit 20s \\+ propagation-delay 5s"):
        load({"on-drain": "true", "hook-limit": "20s"}, {}, {})
    load({"hook-limit": "20s"}, {}, {})  # without a call it counts for nothing


def test_the_start_line_shows_what_differs_from_the_defaults_and_no_secret() -> None:
    assert chosen(Config()) == {}
    config = load({"grace-period": "60", "drain-token": "s3cret", "quiet-period": "1s"}, {}, {})
    assert chosen(config) == {"grace-period": "1m", "drain-token": "(set)"}
    routes = load({"route": ":1=127.0.0.1:2", "final-scrape-wait": "0"}, {}, {})
    assert chosen(routes) == {"final-scrape-wait": "0s", "route": [":1=127.0.0.1:2,protocol=auto"]}


# The successor.


def test_a_successor_is_an_address_or_a_service_whose_variables_have_it() -> None:
    assert load({"successor": "web:80"}, {}, {}).routes[0].successor == Successor(Address("web", 80))
    environ = {"SHOP_WEB_SERVICE_HOST": "10.96.0.7", "SHOP_WEB_SERVICE_PORT": "80"}
    found = load({"successor": "env:shop-web"}, environ, {})
    assert found.routes[0].successor == Successor(Address("10.96.0.7", 80), "SHOP_WEB")
    assert effective(found)["successor"] == "env:SHOP_WEB"
    v6 = load({"successor": "env:WEB"}, {"WEB_SERVICE_HOST": "fd00::7", "WEB_SERVICE_PORT": "80"}, {})
    assert v6.routes[0].successor == Successor(Address("fd00::7", 80), "WEB")


def test_a_service_that_kubernetes_has_not_told_of_is_no_fault() -> None:
    assert load({"successor": "env:WEB"}, {"WEB_SERVICE_HOST": "10.96.0.7"}, {}).routes[0].successor == Successor(
        None, "WEB"
    )


def test_each_route_has_a_successor_of_its_own() -> None:
    route = ":1=127.0.0.1:2,protocol=http1,successor=env:WEB"
    environ = {"WEB_SERVICE_HOST": "10.96.0.7", "WEB_SERVICE_PORT": "80"}
    config = load({"route": (route, ":3=:4")}, environ, {})
    assert [each.successor for each in config.routes] == [Successor(Address("10.96.0.7", 80), "WEB"), None]
    assert str(config.routes[0]) == route


@pytest.mark.parametrize("text", ["web", ":80", "web:0", "unix:/a", "env:", "env:a b", "env:1"])
def test_what_is_no_successor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"host:port, or env:NAME"):
        load({"successor": text}, {}, {})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"successor": "web:80", "route": (":1=:2",)}, ["--successor", "each --route"]),
        ({"successor": "web:80", "successor-ca": "c"}, ["--successor-ca", "--tls-cert"]),
        ({"successor": "web:80", "successor-name": "web"}, ["--successor-name", "--tls-cert"]),
        ({"successor": "localhost:9080"}, ["--successor", "localhost:9080", "listens on"]),
        ({"listen": "10.0.0.1:80", "successor": "10.0.0.1:80"}, ["--successor", "listens on"]),
    ],
)
def test_a_successor_that_cannot_be_one_is_refused(flags: dict[str, Any], words: list[str]) -> None:
    message = refused(flags)
    assert all(word in message for word in words), message


def test_variables_that_are_no_address_are_refused() -> None:
    with pytest.raises(ConfigError, match="WEB_SERVICE_HOST"):
        load({"successor": "env:WEB"}, {"WEB_SERVICE_HOST": "10.96.0.7", "WEB_SERVICE_PORT": "many"}, {})
