"""What do all commands have in common? Exit codes in the help, hints for what was meant, one way to ask for JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import drainproxy
from drainproxy.cli import VERBS

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "drainproxy", *words]
    return subprocess.run(
        command,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_says_the_exit_codes(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0
    assert "Exit code: " in done.stdout


def test_a_misspelt_command_is_told_which_one_may_be_meant() -> None:
    done = run("statsu")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no command 'statsu': did you mean status?" in done.stderr


def test_a_misspelt_key_of_the_config_file_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "drainproxy.toml"
    file.write_text('# mine\ngrace-period = "30s"\n"propagation-dealy" = "5s"\n')
    done = run("serve", "--config", str(file))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"drainproxy: {file}:3: got 'propagation-dealy', expected the name of an option: "
        "did you mean propagation-delay?"
    )


@pytest.mark.parametrize("text", ["[nonsense]\nx = 1\n", "nonsense.x = 1\n"])
def test_a_table_that_is_no_option_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "drainproxy.toml"
    file.write_text("\n" + text)
    assert f"{file}:2: got 'nonsense', expected the name of an option" in run("serve", "--config", str(file)).stderr


def test_a_file_is_taken_with_f_and_without() -> None:
    for words in (("web.yaml",), ("-f", "web.yaml")):
        done = run("inject", *words)
        assert done.returncode == 2
        assert done.stderr == "drainproxy: web.yaml: No such file or directory\n"


def test_the_version_is_there_for_people_and_for_scripts() -> None:
    assert run("version").stdout.startswith(f"drainproxy {drainproxy.__version__}\n")
    build = "compiled" if drainproxy.compiled() else "pure Python"
    assert run("--version").stdout == f"drainproxy {drainproxy.__version__} ({build})\n"
    for words in (("-o", "json"), ("--json",)):
        facts = json.loads(run("version", *words).stdout)
        assert facts["version"] == drainproxy.__version__
        assert facts["compiled"] is drainproxy.compiled()
        assert set(facts["packages"]) == {"uvloop", "aiohttp", "prometheus-client", "click"}


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        *((verb, "text|json") for verb in ("drain", "status", "probe", "demo", "top", "version")),
        ("advise", "text|json|patch"),
        ("check", "text|json|github|sarif"),
    ],
)
def test_json_is_asked_for_in_one_way(verb: str, forms: str) -> None:
    text = run(verb, "--help").stdout
    assert "-o, --output" in text
    assert f"[{forms}]" in text
    assert "--json" in text


def test_check_still_takes_the_former_name_of_its_output_option(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b}]}\n")
    now, former, short = (
        run("check", *words, str(file)) for words in (("-o", "json"), ("--format", "json"), ("--json",))
    )
    assert json.loads(now.stdout)["objects"] == 1
    assert now.stdout == former.stdout == short.stdout


def test_with_no_color_help_and_findings_are_plain(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b}]}\n")
    assert "\x1b" not in run("check", "-f", str(file), NO_COLOR="1", FORCE_COLOR="1").stdout


def test_every_shell_has_a_completion_script() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert f"_DRAINPROXY_COMPLETE={shell}_complete" in run("completion", shell).stdout
    assert run("completion", "tcsh").returncode == 2


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    program = tmp_path / "drainproxy"
    program.write_text(f"#!{sys.executable}\nfrom drainproxy.cli import main\nmain()\n")
    program.chmod(0o755)
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    ask = (
        'source "$1"; COMP_WORDS=(drainproxy "${@:2}"); COMP_CWORD=$(($# - 1)); '
        '_drainproxy_completion drainproxy; echo "${COMPREPLY[@]}"'
    )

    def completed(*words: str) -> list[str]:
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            [bash, "-c", ask, "bash", str(script), *words],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    if subprocess.run([bash, "-c", "((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[1] > 3))"], check=False).returncode:
        pytest.skip("completion needs bash 4.4")
    assert completed("sta") == ["status"]
    assert completed("status", "--wa") == ["--watch"]
