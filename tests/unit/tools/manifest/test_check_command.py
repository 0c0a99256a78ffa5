"""Does `check` show what somebody wants to hear of, by settings and command line? And colours only where they help?"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drainproxy.errors import ManifestError
from drainproxy.tools.cli.check import command
from drainproxy.tools.manifest.rules import RULES, Severity
from drainproxy.tools.manifest.wanted import Wanted, read_wanted
from tests.unit.tools.manifest.test_rules import BARE, SERVICE, UNREADY

FAULTY = UNREADY.replace("  minReadySeconds: 5\n", "").replace("replicas: 2", "replicas: 1") + SERVICE
"""One error (DP301), one warning (DP504), one hint (DP505)."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    Path("m.yaml").write_text(FAULTY)
    return tmp_path


def check(*words: str, color: bool = False) -> Result:
    return CliRunner().invoke(command, [*words], color=color)


def rules_in(result: Result) -> set[str]:
    return {each for each in RULES if f" {each} " in result.output}


def test_files_may_be_given_as_they_are() -> None:
    Path("n.yaml").write_text(BARE)
    assert "5 objects in 2 files" in check("m.yaml", "n.yaml").output
    assert "3 objects in 1 file: " in check("m.yaml").output


@pytest.mark.parametrize(
    ("words", "rules", "last"),
    [
        ([], {"DP301", "DP504", "DP505"}, "1 error, 1 warning, 1 hint"),
        (["--min-severity", "warning"], {"DP301", "DP504"}, "(1 hidden, below --min-severity)"),
        (["--min-severity", "error"], {"DP301"}, "1 error (2 hidden"),
        (["--rule", "DP504"], {"DP504"}, "1 warning"),
        (["--rule", "one-replica", "--rule", "dp505"], {"DP504", "DP505"}, "1 warning, 1 hint"),
        (["--skip", "one-replica", "--ignore", "DP301"], {"DP505"}, "1 hint"),
        (["--rule", "DP301", "--skip", "DP301"], set(), "no findings"),
    ],
)
def test_what_is_shown_can_be_chosen(words: list[str], rules: set[str], last: str) -> None:
    result = check("m.yaml", *words)
    assert rules_in(result) == rules
    assert last in result.output.splitlines()[-1]
    assert result.exit_code == int("DP301" in rules)


def test_the_settings_file_of_a_directory_above_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".drainproxy.toml").write_text('[check]\nskip = ["no-readiness"]\n[check.profile.ci]\nstrict = true\n')
    Path("below").mkdir()
    monkeypatch.chdir("below")
    result = check("../m.yaml")
    assert (rules_in(result), result.exit_code) == ({"DP504", "DP505"}, 0)
    assert check("../m.yaml", "--profile", "ci").exit_code == 1
    assert "DP504" not in rules_in(check("../m.yaml", "--profile", "ci", "--skip", "DP504"))


def test_a_settings_file_can_be_named() -> None:
    Path("other.toml").write_text('[check]\nmin-severity = "error"\n')
    assert rules_in(check("m.yaml", "--config", "other.toml")) == {"DP301"}
    assert rules_in(check("m.yaml", "--config", "other.toml", "--min-severity", "info")) == {"DP301", "DP504", "DP505"}


def test_a_profile_goes_on_top() -> None:
    text = '[check]\nskip = ["DP505"]\nmin-severity = "warning"\n[check.profile.one]\nrule = ["DP504", "DP505"]\n'
    assert read_wanted("f", text) == Wanted(frozenset(RULES.keys() - {"DP505"}), Severity.WARNING)
    assert read_wanted("f", text, "one") == Wanted(frozenset({"DP504", "DP505"}), Severity.WARNING)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[check", "f: not TOML"),
        ("check = 1", "f: check is a table"),
        ("[check]\nskip = 'DP505'", "f: check.skip: expected a list of rules"),
        ("[check]\nskip = ['DP999']", "f: check: no rule 'DP999'"),
        ("[check]\nseverity = 'error'", "f: check: no setting 'severity'; there are: rule, skip"),
        ("[check]\nmin-severity = 'fatal'", "f: check.min-severity: expected error, warning or info, got 'fatal'"),
        ("[check]\nstrict = 1", "f: check.strict: expected true or false"),
        ("[check.profile.a]\n", "no profile 'ci'"),
        ("[check.profile.ci]\nstrict = 1", "f: check.profile.ci.strict: expected true"),
    ],
)
def test_settings_that_cannot_be_used_say_where_and_why(text: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_wanted("f", text, "ci")
    assert told in str(caught.value)


def test_a_profile_needs_settings() -> None:
    assert check("m.yaml", "--profile", "ci").exit_code == 2


@pytest.mark.parametrize(
    ("environment", "words", "colored"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": ""}, [], True),
        ({"TERM": "dumb"}, [], False),
        ({"NO_COLOR": "1"}, ["--color"], True),
        ({}, ["--no-color"], False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: list[str], colored: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for how in (["m.yaml"], ["--list"], ["--explain", "DP301"]):
        assert ("\x1b[" in check(*how, *words, color=True).output) is colored


def test_a_pipe_gets_no_colours() -> None:
    assert "\x1b[" not in check("m.yaml").output
