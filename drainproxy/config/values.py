"""How does a user write a value, and what does it become? Durations, sizes, addresses, routes and choices.

Each kind reads text (ValueError if it cannot) and writes it back in the shortest spelling that reads the same.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HOLD = float("inf")
"""`readiness_on_drain`: readiness is never failed by a drain."""


AUTO = -1.0
"""`final_scrape_wait`: as long as there is somebody to wait for, and something to tell."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect. `path` set: a unix socket; else `host` (empty: all addresses) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Successor:
    """The Service of this very workload: its `address`, or the `service` whose variables have it.

    Kubernetes sets `SERVICE_SERVICE_HOST` and `SERVICE_SERVICE_PORT` in every container that starts after the Service
    was made; `address` is then what they say, None if they are not set.
    """

    address: Address | None = None
    service: str = ""

    def __str__(self) -> str:
        return f"env:{self.service}" if self.service else str(self.address)


RouteProtocol = Literal["auto", "http1", "http2", "tcp", "any"]
PROTOCOLS: tuple[RouteProtocol, ...] = ("auto", "http1", "http2", "tcp", "any")


@dataclass(frozen=True, slots=True)
class Route:
    """One listening address in front of one upstream address."""

    listen: Address
    upstream: Address
    protocol: RouteProtocol = "auto"
    successor: Successor | None = None

    @property
    def has_successor(self) -> bool:
        """There is one, and its address is known."""
        return self.successor is not None and self.successor.address is not None

    def __str__(self) -> str:
        successor = f",successor={self.successor}" if self.successor is not None else ""
        return f"{self.listen}={self.upstream},protocol={self.protocol}{successor}"


@dataclass(frozen=True, slots=True)
class AccessLogFilter:
    """Which exchanges get a log line: `off`, `errors` (5xx and cut ones), `slow` (longer than `slow_s`), `all`."""

    mode: Literal["off", "errors", "slow", "all"] = "off"
    slow_s: float = 0.0

    def __str__(self) -> str:
        return f"slow:{show_duration(self.slow_s)}" if self.mode == "slow" else self.mode


@dataclass(frozen=True, slots=True)
class Hook:
    """Whom to tell: an HTTP request (`method`, `url`, `body`), or a command (`words`). `text`: as it was written."""

    text: str
    method: str = ""
    url: str = ""
    body: str = ""
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


_N = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?:{_N}h)?(?:{_N}m(?!s))?(?:{_N}s)?(?:{_N}ms)?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)?", re.ASCII)
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?|\d+(?:\.\d+){3})\]|([\w.-]*)):(\d{1,5})", re.ASCII
)
"""Brackets around an IPv4 address are allowed: `[$(POD_IP)]:8080` in a manifest is then right for both families."""
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[\w-]{1,63}(?:\.[\w-]{1,63})*\.?", re.ASCII)
_HTTP_URL = re.compile(r"https?://[^\s/?#]+[^\s#]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_URL_PATH = re.compile(r"/[\x21-\x7e]*")
_MAX_PORT = 65535


def parse_duration(text: str) -> float:
    """Seconds, from `500ms`, `5s`, `1m30s`, `1h` or a bare number of seconds. Raises ValueError."""
    text = text.strip()
    match = _DURATION.fullmatch(text + "s" if _NUMBER.fullmatch(text) else text)
    if match is None or not text:
        raise ValueError(text)
    units = (3600.0, 60.0, 1.0, 0.001)
    seconds = round(sum(float(n) * unit for n, unit in zip(match.groups(), units, strict=True) if n is not None), 9)
    if seconds == HOLD:
        raise ValueError(text)  # more digits than a float holds: it would mean "never"
    return seconds


def show_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back."""
    if seconds == HOLD:
        return "hold"
    exact = f"{seconds:.9f}".rstrip("0").removesuffix(".")
    if "." in exact:
        ms = f"{seconds * 1000:.6f}".rstrip("0").removesuffix(".")
        return f"{ms}ms" if seconds < 1 and "." not in ms else f"{exact}s"
    minutes, secs = divmod(int(exact), 60)
    return (f"{minutes}m" if minutes else "") + (f"{secs}s" if secs or not minutes else "")


def parse_size(text: str) -> int:
    """Bytes, from `64KiB`, `1MiB`, `2GiB` or a bare number. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _SIZE_UNITS[match[2]]


def show_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


def parse_address(text: str) -> Address:
    """`host:port`, `:port`, `[v6]:port` or `unix:/path`. Raises ValueError."""
    text = text.strip()
    if text.startswith("unix:/"):
        return Address(path=text[len("unix:") :])
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > _MAX_PORT or (match[2] and not _HOST_NAME.fullmatch(match[2])):
        raise ValueError(text)
    return Address(host=match[1] or match[2] or "", port=int(match[3]))


def parse_upstream(text: str) -> Address:
    """As `parse_address`, and one can connect to it: a port, and a host (the loopback address if none is named)."""
    address = parse_address(text)
    if address.path:
        return address
    if address.port == 0:
        raise ValueError(text)
    return address if address.host else Address("127.0.0.1", address.port)


def parse_successor(text: str) -> Successor:
    """`host:port`, or `env:NAME` for a Service's variables. Raises ValueError."""
    text = text.strip()
    if text.startswith("env:"):
        service = text.removeprefix("env:").upper().replace("-", "_")
        if not _VARIABLE.fullmatch(service):
            raise ValueError(text)
        return Successor(service=service)
    address = parse_address(text)
    if address.path or not address.host or not address.port:
        raise ValueError(text)
    return Successor(address)


def parse_route(text: str) -> Route:
    """`LISTEN=UPSTREAM[,protocol=auto|http1|http2|tcp|any][,successor=ADDRESS]`. Raises ValueError."""
    pair, *settings = text.strip().split(",")
    listen, equals, upstream = pair.partition("=")
    if not equals:
        raise ValueError(text)
    protocol: RouteProtocol = "auto"
    successor: Successor | None = None
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "protocol" and value in PROTOCOLS:
            protocol = value
        elif key == "successor":
            successor = parse_successor(value)
        else:
            raise ValueError(text)
    return Route(parse_address(listen), parse_upstream(upstream), protocol, successor)


def parse_hook(text: str) -> Hook:
    """`METHOD URL [BODY]`, else a command whose words are split as a shell does. Raises ValueError."""
    text = text.strip()
    first, _, rest = text.partition(" ")
    if first.isascii() and first.isalpha() and first.isupper():
        url, _, body = rest.strip().partition(" ")
        if not _HTTP_URL.fullmatch(url):
            raise ValueError(text)
        return Hook(text, method=first, url=url, body=body.strip())
    words = tuple(shlex.split(text))
    if not words or "://" in words[0]:
        raise ValueError(text)
    return Hook(text, words=words)


def _parse_share(text: str) -> float:
    share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


def _parse_readiness(text: str) -> float:
    return {"fail": 0.0, "hold": HOLD}[text] if text in ("fail", "hold") else parse_duration(text)


def _parse_access_log(text: str) -> AccessLogFilter:
    mode, colon, slow = text.partition(":")
    if mode == "slow" and colon:
        return AccessLogFilter("slow", parse_duration(slow))
    if colon or mode not in ("off", "errors", "all"):
        raise ValueError(text)
    return AccessLogFilter(mode)  # type: ignore[arg-type]  # narrowed by the line above


def _parse_count(text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit()) or int(text) < 1:
        raise ValueError(text)
    return int(text)


@dataclass(frozen=True, slots=True)
class ValueType(Generic[T]):
    """A kind of value: `parse` reads what a user wrote (ValueError if it cannot), `show` writes it back."""

    metavar: str
    expected: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str


DURATION = ValueType(
    "DURATION", "a duration such as 500ms, 5s, 1m30s or a number of seconds", parse_duration, show_duration
)
SIZE = ValueType("SIZE", "a size such as 64KiB, 1MiB or a number of bytes", parse_size, show_size)
COUNT = ValueType("N", "a whole number, at least 1", _parse_count)
LISTEN = ValueType("ADDRESS", "host:port, :port, [v6]:port or unix:/path.sock", parse_address)
UPSTREAM = ValueType("ADDRESS", "host:port, [v6]:port or unix:/path.sock", parse_upstream)
SUCCESSOR = ValueType(
    "ADDRESS",
    "host:port, or env:NAME for the variables NAME_SERVICE_HOST and NAME_SERVICE_PORT",
    parse_successor,
)
ROUTE = ValueType(
    "ROUTE",
    "LISTEN=UPSTREAM[,protocol=auto|http1|http2|tcp|any][,successor=ADDRESS], "
    "such as :9080=127.0.0.1:8080,protocol=http1",
    parse_route,
)
TEXT = ValueType("TEXT", "text", str)
PATH = ValueType("FILE", "a file's path", str)
URL_PATH = ValueType(
    "PATH",
    "a path that begins with /, white space and others percent-encoded",
    lambda text: text if _URL_PATH.fullmatch(text) else _refuse(text),
)
HOST_NAME = ValueType(
    "NAME",
    "a host name without a port, such as drainproxy.shop.svc",
    lambda text: text if _HOST_NAME.fullmatch(text) else _refuse(text),
)
SHARE = ValueType("SHARE", "a share such as 1% or 0.01", _parse_share, lambda share: f"{100 * share:g}%")
HTTP_URL = ValueType(
    "URL",
    "a URL such as http://collector:4318",
    lambda text: text if _HTTP_URL.fullmatch(text) else _refuse(text),
)
HOOK = ValueType("CALL", "METHOD URL [BODY], such as PUT http://127.0.0.1:8500/v1/agent/…, or a command", parse_hook)
READINESS = ValueType(
    "WHEN",
    "fail, hold or a duration",
    _parse_readiness,
    lambda seconds: "fail" if seconds == 0 else show_duration(seconds),
)
SCRAPE_WAIT = ValueType(
    "WAIT",
    "auto or a duration",
    lambda text: AUTO if text == "auto" else parse_duration(text),
    lambda seconds: "auto" if seconds == AUTO else show_duration(seconds),
)
ACCESS_LOG = ValueType("WHICH", "off, errors, slow:DURATION or all", _parse_access_log)


def _refuse(text: str) -> str:
    raise ValueError(text)


def choice(*words: str) -> ValueType[str]:
    """One of `words`."""
    listed = ", ".join(words[:-1]) + f" or {words[-1]}"
    return ValueType("|".join(words), listed, lambda text: text if text in words else _refuse(text))
