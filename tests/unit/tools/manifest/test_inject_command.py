"""What does `drainproxy inject` promise at the command line?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drainproxy.cli import cli
from drainproxy.errors import ManifestError
from drainproxy.tools.cli._packages import MissingPackageError
from drainproxy.tools.cli.inject import command

INPUT = (Path(__file__).parent / "manifests" / "deployment.yaml").read_text()


def run(*arguments: str, given: str | None = None) -> Result:
    result = CliRunner().invoke(command, list(arguments), input=given)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(INPUT)
    return path


def test_a_file_is_printed_and_left_alone(manifest: Path) -> None:
    result = run("-f", str(manifest))
    assert "name: drainproxy" in result.stdout
    assert manifest.read_text() == INPUT


def test_standard_input_goes_to_standard_output_and_notes_to_standard_error() -> None:
    result = run("-f", "-", given=INPUT.replace("targetPort: 8080", "targetPort: http"))
    assert "name: drainproxy" in result.stdout
    assert "1.32" in result.stderr
    assert "1.32" not in result.stdout


def test_in_place_writes_and_remove_brings_back(manifest: Path) -> None:
    assert run("-i", "-f", str(manifest)).stdout == ""
    assert "name: drainproxy" in manifest.read_text()
    written = manifest.stat().st_mtime_ns
    assert "wrote" not in run("-i", "-f", str(manifest)).stderr
    assert manifest.stat().st_mtime_ns == written
    run("-i", "--remove", "-f", str(manifest))
    assert manifest.read_text() == INPUT


def test_line_ends_and_a_missing_last_one_survive(tmp_path: Path) -> None:
    path = tmp_path / "crlf.yaml"
    raw = INPUT.replace("\n", "\r\n").rstrip().encode()
    path.write_bytes(raw)
    run("-i", "-f", str(path))
    assert b"\r\r" not in path.read_bytes()
    assert path.read_bytes().replace(b"\r\n", b"").count(b"\n") == 0
    run("-i", "--remove", "-f", str(path))
    assert path.read_bytes() == raw


def test_diff_shows_and_writes_nothing(manifest: Path) -> None:
    result = run("--diff", "-f", str(manifest))
    assert "+      - name: drainproxy\n" in result.stdout
    assert "-    targetPort: 8080\n" in result.stdout
    assert manifest.read_text() == INPUT


def test_a_directory_is_one_input_and_one_stream(tmp_path: Path) -> None:
    deployment, service, policy = INPUT.split("---\n")
    (tmp_path / "a.yaml").write_text(deployment)
    (tmp_path / "b.yml").write_text(f"{service}---\n{policy}")
    (tmp_path / "notes.txt").write_text("not: [yaml")
    result = run("-f", str(tmp_path))
    assert result.stdout.count("---\n") == 2
    assert "targetPort: 9080" in result.stdout


def test_a_token_is_generated_and_each_one_differs() -> None:
    one, other = (run("-f", "-", given=INPUT).stdout for _ in range(2))
    assert one != other
    assert run("-f", "-", "--drain-token", "fixed", given=INPUT).stdout == (
        run("-f", "-", "--drain-token", "fixed", given=INPUT).stdout
    )
    assert "X-Drain-Token" not in run("-f", "-", "--drain-token", "none", given=INPUT).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "x"], "OPTION=VALUE"),
        (["--grace-period", "long"], "duration"),
        (["--drain-token-secret", "web"], "NAME/KEY"),
    ],
)
def test_what_is_mistyped_is_told(arguments: list[str], told: str) -> None:
    result = run("-f", "-", *arguments, given=INPUT)
    assert result.exit_code == 2
    assert told in result.stderr


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    for path, told in (("nowhere.yaml", "No such file"), ("latin.yaml", "not UTF-8"), (".", "latin.yaml")):
        with pytest.raises(ManifestError, match=told):
            run("-f", str(tmp_path / path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"no \.yaml"):
        run("-f", str(tmp_path / "empty"))
    (tmp_path / "twice.yaml").write_text("")
    with pytest.raises(ManifestError, match="given twice"):
        run("-f", str(tmp_path / "twice.yaml"), "-f", str(tmp_path / "twice.yaml"))


def test_remove_says_when_there_is_nothing_to_take_out() -> None:
    result = run("--remove", "-f", "-", given=INPUT)
    assert result.stdout == INPUT
    assert "inject has changed nothing in this input" in result.stderr


@pytest.mark.parametrize("verb", ["inject", "check"])
def test_without_the_tools_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setattr("drainproxy.tools.cli._manifests.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install pyyaml"):
        cli.main([verb, "-f", "-"], standalone_mode=False)


def test_help_teaches() -> None:
    text = run("--help").stdout
    for word in ("kubectl apply", "--remove", "--drain-token-secret", "A second run changes nothing"):
        assert word in " ".join(text.split())


UNCLEAR = """\
---
apiVersion: v1
kind: Pod
metadata: {name: unclear}
spec: {containers: [{name: a, image: i, ports: [{containerPort: 7001}, {containerPort: 7002}]}]}
"""


def test_the_table_and_notes_go_to_standard_error() -> None:
    result = run("-", given=INPUT)
    assert result.stderr.startswith("WORKLOAD ")
    assert "WORKLOAD" not in result.stdout
    told = json.loads(run("-", "--json", given=INPUT).stderr)
    assert set(told) == {"ports", "skipped", "undecided", "notes"}
    assert told["ports"][0]["protocol"] == "auto"


def test_what_is_not_clear_stops_all_or_is_left_out_with_exit_code_3() -> None:
    with pytest.raises(ManifestError, match=r"drainproxy\.io/ports") as told:
        run("-", given=INPUT + UNCLEAR)
    assert told.value.exit_code == 2
    result = run("-", "--skip-ambiguous", given=INPUT + UNCLEAR)
    assert result.exit_code == 3
    assert result.stdout.endswith(UNCLEAR)
    assert "name: drainproxy" in result.stdout
    assert 'drainproxy.io/ports: "7001"' in result.stderr
    assert json.loads(run("-", "--skip-ambiguous", "--json", given=INPUT + UNCLEAR).stderr)["undecided"]


def test_files_may_be_named_without_a_flag_by_pattern_and_by_directory(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.yaml").write_text(INPUT)
    (tmp_path / "below" / "b.yaml").write_text(INPUT.replace("name: web", "name: api").replace("app: web", "app: api"))
    plain = run(str(tmp_path))
    assert plain.stdout.count("name: drainproxy\n") == 1
    assert "1 manifests in subdirectories were not read; use -R" in plain.stderr
    for arguments in (["-R", str(tmp_path)], [str(tmp_path / "**" / "*.yaml")], ["-R", "-f", str(tmp_path)]):
        assert run(*arguments).stdout.count("name: drainproxy\n") == 2, arguments
    with pytest.raises(ManifestError, match="matches no"):
        run(str(tmp_path / "*.json"))
    with pytest.raises(ManifestError, match="-R reads"):
        (tmp_path / "a.yaml").unlink()
        run(str(tmp_path))


def test_without_files_it_says_what_to_name() -> None:
    result = run()
    assert result.exit_code == 2
    assert "- for stdin" in result.stderr


def test_an_image_without_a_registry_is_told_once_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    two = INPUT + "---\n" + INPUT.replace("name: web", "name: api").replace("app: web", "app: api")
    assert run("-", given=two).stderr.count("DRAINPROXY_IMAGE") == 1
    monkeypatch.setenv("DRAINPROXY_IMAGE", "registry.example/drainproxy:9")
    result = run("-", given=two)
    assert len(re.findall(r'image: "?registry\.example/drainproxy:9\b', result.stdout)) == 2
    assert "DRAINPROXY_IMAGE" not in result.stderr
