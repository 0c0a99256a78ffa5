"""What did the user ask for: of all workloads by flags, of one by the annotations on its Pod template?

An annotation `drainproxy.io/NAME` says for its workload what `--NAME` says for all, and wins. `NAME` is one of
`inject`'s own, or an option of `drainproxy serve`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from drainproxy.config.options import flag_of
from drainproxy.config.options import options as option_table
from drainproxy.config.values import PROTOCOLS, RouteProtocol, parse_duration
from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.sidecar import WIRING_ENV

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drainproxy.tools.manifest.objects import Workload

PREFIX = "drainproxy.io/"
NONE = "none"
"""What says that there is to be no successor."""
_NOT_ASKED = frozenset({"injected", "ignore"})
"""Annotations of ours that ask nothing of `inject`: its own memory, and what `check` is to leave out."""


class Undecided(ManifestError):  # noqa: N818 - what it is, not that it is an error
    """What cannot be told of a workload from the manifests. `decide` is the line that would tell, if there is one."""

    def __init__(self, message: str, decide: str = "") -> None:
        super().__init__(message)
        self.decide = decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for. None means: as the sidecar that is there has it, else the default."""

    kind: Literal["native", "classic"] | None = None
    containers: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    """Containers without traffic that the app needs until the drain is over."""
    ports: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    """`PROTOCOL`, or `PORT=PROTOCOL` for one port, by name or number."""
    only: tuple[str, ...] = ()
    image: str | None = None
    grace_period_s: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    """`""`: no token."""
    token_secret: tuple[str, str] | None = None
    new_token: Callable[[], str] = str
    """Makes one where none is given and none is there; called once a workload."""
    hook: Literal["http", "curl", "wget"] | None = None
    replace_hook: bool = False
    successor: str | None = None
    """A Service by name, NONE, or None: what `siblings` chooses."""
    scrape: bool = True
    skip_undecided: bool = False
    by_annotation: frozenset[str] = frozenset()
    """Which of these the workload's own annotations say."""


def refuse_settings(settings: Mapping[str, str], where: str = "--set ") -> None:
    """Settings that are no option of serve, or that inject writes itself."""
    known = {flag_of(each) for each, _ in option_table()}
    wiring = {name.lower().replace("_", "-") for name in WIRING_ENV}
    for name in settings:
        if name not in known:
            raise ManifestError(f"{where}{name}: not an option of drainproxy serve; see `drainproxy serve --help`")
        if name in wiring or name == "drain-token-file":
            raise ManifestError(f"{where}{name}: inject writes this one itself; see `drainproxy inject --help`")


def is_disabled(workload: Workload) -> bool:
    """Whether its annotation says that drainproxy stays away. Raises Undecided for a word that says neither."""
    value = str(workload.annotations.get(f"{PREFIX}inject", "enabled")).lower()
    if value not in ("enabled", "true", "disabled", "false"):
        raise Undecided(f"{workload}: annotation {PREFIX}inject: expected enabled or disabled, got {value!r}")
    return value in ("disabled", "false")


def asked_of(workload: Workload, options: Options) -> Options:
    """The options for one workload: its annotations, then the flags. Raises Undecided for one that cannot be read."""
    changes: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for key, value in workload.annotations.items():
        name = str(key).removeprefix(PREFIX)
        if name in (key, "inject") or name in _NOT_ASKED:
            continue
        if name in _FIELDS:
            changes |= _read(workload, name, str(value))
        else:
            settings[name] = str(value)
    try:
        refuse_settings(settings, f"annotation {PREFIX}")
    except ManifestError as error:
        raise Undecided(f"{workload}: {error}") from None
    said = frozenset(changes)
    return replace(options, **changes, settings={**options.settings, **settings}, by_annotation=said)


_FIELDS = {
    "ports": "ports",
    "port": "ports",
    "protocol": "protocols",
    "container": "containers",
    "hold": "hold",
    "sidecar": "kind",
    "image": "image",
    "grace-period": "grace_period_s",
    "hook": "hook",
    "replace-hook": "replace_hook",
    "successor": "successor",
}
_WORDS = {"sidecar": ("native", "classic"), "hook": ("http", "curl", "wget"), "replace-hook": ("true", "false")}


def _read(workload: Workload, name: str, text: str) -> dict[str, Any]:
    target = _FIELDS[name]
    place = f"{workload}: annotation {PREFIX}{name}"
    if name in _WORDS:
        if text not in _WORDS[name]:
            raise Undecided(f"{place}: expected {' or '.join(_WORDS[name])}, got {text!r}")
        return {target: text == "true" if name == "replace-hook" else text}
    if name == "grace-period":
        try:
            return {target: parse_duration(text)}
        except ValueError:
            raise Undecided(f"{place}: expected a duration such as 45s or 2m, got {text!r}") from None
    if name in ("image", "successor"):
        return {target: text}
    return {target: tuple(word for word in re.split(r"[,\s]+", text) if word)}


def protocol_asked(options: Options, number: int, name: str) -> RouteProtocol | None:
    """What was asked for this port, or for all. Raises ManifestError for a word that is no protocol."""
    found: RouteProtocol | None = None
    for each in options.protocols:
        port, _, word = each.rpartition("=")
        protocol = next((one for one in PROTOCOLS if one == word), None)
        if protocol is None:
            raise ManifestError(f"protocol {each!r}: expected [PORT=]{'|'.join(PROTOCOLS)}")
        if port in (str(number), name) and port:
            return protocol
        if not port:
            found = protocol
    return found
