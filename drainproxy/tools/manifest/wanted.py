"""What does somebody want to hear of? Rules, severities and profiles, from `.drainproxy.toml` and the command line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ManifestError
from drainproxy.tools.manifest.rules import RULES, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = ".drainproxy.toml"
_KEYS = ("rule", "skip", "min-severity", "strict")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`rules`: the ids of those to ask; `least`: the mildest severity to show; `strict`: warnings fail too."""

    rules: frozenset[str] = frozenset(RULES)
    least: Severity = Severity.INFO
    strict: bool = False


def known_rule(name: str) -> Rule:
    """A rule by id or name. Raises ManifestError."""
    for rule in RULES.values():
        if name.upper() == rule.id or name.lower() == rule.slug:
            return rule
    raise ManifestError(f"no rule {name!r}; `drainproxy check --list` lists them")


def chosen(
    before: Wanted,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    least: str | None = None,
    strict: bool | None = None,
) -> Wanted:
    """What was wanted, and these wishes on top: `only` replaces the rules, `skip` takes some away."""
    rules = frozenset(known_rule(each).id for each in only) or before.rules
    return replace(
        before,
        rules=rules - {known_rule(each).id for each in skip},
        least=before.least if least is None else Severity(least),
        strict=before.strict if strict is None else strict,
    )


def read_wanted(name: str, text: str, profile: str | None = None) -> Wanted:
    """The table `check` of a settings file, and one of its profiles on top. Raises ManifestError with the place."""
    try:
        table = _table(tomllib.loads(text), "check", name)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{name}: not TOML: {error}") from None
    profiles = _table(table, "profile", name)
    wanted = _with(Wanted(), {key: value for key, value in table.items() if key != "profile"}, f"{name}: check")
    if profile is None:
        return wanted
    if profile not in profiles:
        there = ", ".join(profiles) or "none"
        raise ManifestError(f"{name}: no profile {profile!r} (a table [check.profile.{profile}]); there are: {there}")
    return _with(wanted, _table(profiles, profile, name), f"{name}: check.profile.{profile}")


def _table(data: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ManifestError(f"{name}: {key} is a table: [{key}]")
    return value


def _with(before: Wanted, table: dict[str, Any], place: str) -> Wanted:
    for key, value in table.items():
        if key not in _KEYS:
            raise ManifestError(f"{place}: no setting {key!r}; there are: {', '.join(_KEYS)}")
        if key in ("rule", "skip") and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise ManifestError(f'{place}.{key}: expected a list of rules, such as ["no-min-ready"], got {value!r}')
        if key == "min-severity" and value not in [each.value for each in Severity]:
            raise ManifestError(f"{place}.{key}: expected error, warning or info, got {value!r}")
        if key == "strict" and not isinstance(value, bool):
            raise ManifestError(f"{place}.{key}: expected true or false, got {value!r}")
    try:
        return chosen(
            before,
            only=table.get("rule", ()),
            skip=table.get("skip", ()),
            least=table.get("min-severity"),
            strict=table.get("strict"),
        )
    except ManifestError as error:
        raise ManifestError(f"{place}: {error}") from None
