"""Is docs/deploy.md true? Its links, its rule names, its arithmetic, and the commands it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drainproxy.config.loading import load
from drainproxy.config.options import MARGIN_S, Config
from drainproxy.config.values import parse_duration
from drainproxy.tools.manifest.asked import Options
from drainproxy.tools.manifest.inject import inject
from drainproxy.tools.manifest.report import anchor
from drainproxy.tools.manifest.rules import RULES, check
from drainproxy.tools.manifest.source import File

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()
WORDS = " ".join(PAGE.split())
LINKS = re.findall(r"\]\(([^)]+)\)", PAGE)


def test_every_file_it_points_at_is_there() -> None:
    for link in LINKS:
        path = link.split("#")[0]
        if path and not link.startswith("http"):
            assert (ROOT / "docs" / path).exists(), link


def test_every_heading_it_points_at_is_there() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("## ")
    }
    for link in LINKS:
        if link.startswith("#"):
            assert link[1:] in headings


def test_every_rule_it_names_is_one() -> None:
    anchors = {rule.id: anchor(rule) for rule in RULES.values()}
    named = re.findall(r"\[(DP\d+)\]\(check\.md#([^)]+)\)", PAGE)
    assert len(named) > 15
    assert [(rule, link) for rule, link in named if anchors.get(rule) != link] == []


def test_the_worked_example_adds_up() -> None:
    example = re.search(r"<!-- example: (.*) -->", PAGE)
    assert example is not None
    stated: dict[str, str] = dict(re.findall(r"(\S+)=(\S+)", example[1]))
    seconds = {name: parse_duration(value) for name, value in stated.items()}
    quiet = Config().quiet_period_s
    total = sum(seconds[name] for name in ("propagation-delay", "longest-request", "app-stop-time")) + quiet + MARGIN_S
    assert f"| sum | {total:g} s, so {seconds['grace-period']:g} s |" in PAGE
    assert total <= seconds["grace-period"]
    names = ("grace-period", "propagation-delay", "app-stop-time")
    config = load({name: stated[name] for name in names}, {}, {})
    assert f"has {config.budget_s:g} s for the drain" in WORDS
    released = config.propagation_delay_s + config.quiet_period_s
    assert f"ends after {released:g} s, not after {config.grace_period_s:g} s" in WORDS


def test_the_worked_example_can_be_injected_and_passes_check() -> None:
    command = re.search(r"\$ (drainproxy inject -f web\.yaml -i --grace-period .*)", PAGE)
    assert command is not None
    settings = dict(re.findall(r"--set ([\w-]+)=(\w+)", command[1]))
    grace = re.search(r"--grace-period (\w+)", command[1])
    assert grace is not None
    text = (ROOT / "tests" / "unit" / "tools" / "manifest" / "manifests" / "deployment.yaml").read_text()
    options = Options(grace_period_s=parse_duration(grace[1]), settings=settings, new_token=lambda: "t")
    errors = [
        each
        for each in check(inject([File("web.yaml", text)], options).files).findings
        if each.rule.severity.value == "error"
    ]
    assert errors == []


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", PAGE))))
def test_every_option_it_names_exists(option: str) -> None:
    from drainproxy.tools.cli import check as check_command  # noqa: PLC0415 - the command's module
    from drainproxy.tools.cli import inject as inject_command  # noqa: PLC0415 - the command's module

    names = {name for module in (inject_command, check_command) for each in module.command.params for name in each.opts}
    assert option in names


def test_every_setting_it_names_exists() -> None:
    names = {field.removesuffix("_s").replace("_", "-") for field in Config.__dataclass_fields__}
    for name in (
        "propagation-delay",
        "quiet-period",
        "app-stop-time",
        "readiness-on-drain",
        "idle-timeout",
        "upstream-idle",
        "websocket-drain",
        "resume-after",
    ):
        assert f"`{name}" in PAGE or f"={name}" in PAGE or name in PAGE
        assert name in names
    assert f"`idle-timeout` ({Config().idle_timeout_s:g} s by default)" in WORDS
    assert f"they must use drainproxy's port ({Config().listen.port})" in WORDS
