"""Does the image keep its promises? The Dockerfile as it is written; when asked for, an image that is really built.

DRAINPROXY_TEST_IMAGE=1 builds one: as root, with buildah and debootstrap, in some two minutes. pip's certificate and
index are this machine's (PIP_CERT, PIP_INDEX_URL), lent to the build and not part of the image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from drainproxy.cli import VERBS
from drainproxy.config.options import Config
from image import bytecode, compiler
from tests.support.apps import free_port, http_server
from tests.support.collector import collector
from tests.support.proxy import Proxy, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOBODY = 65532
CHOSEN = "image/requirements${EXTRA:+-$EXTRA}.txt"
"""Of the pinned packages, those that the build argument names."""


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    rest: str

    @property
    def argv(self) -> list[str]:
        """The words of an exec form. Raises JSONDecodeError for a shell form."""
        found = json.loads(self.rest)
        assert isinstance(found, list)
        return found


def instructions() -> list[Instruction]:
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    found = [line.split(None, 1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [Instruction(word, " ".join(rest.split())) for word, rest in found]


ALL = instructions()
STARTS = [at for at, each in enumerate(ALL) if each.word == "FROM"]
BUILD, FINAL = ALL[STARTS[0] : STARTS[1]], ALL[STARTS[1] :]


def only(word: str) -> Instruction:
    (found,) = (each for each in FINAL if each.word == word)
    return found


# --- the Dockerfile ---------------------------------------------------------------------------------------------------


def test_both_bases_are_arguments_and_one_follows_the_other() -> None:
    head = dict(each.rest.split("=", 1) for each in ALL[: STARTS[0]])
    assert head == {"BASE": head["BASE"], "BUILD_BASE": "${BASE}"}
    assert [each.rest for each in ALL if each.word == "FROM"] == ["${BUILD_BASE} AS build", "${BASE}"]
    assert head["BASE"].startswith("docker.io/"), "podman and buildah ask which registry a short name is of"


def test_it_runs_as_a_number_that_is_not_root() -> None:
    assert only("USER").rest == f"{NOBODY}:{NOBODY}"


def test_nothing_runs_in_the_final_stage_so_that_the_base_needs_no_shell() -> None:
    assert {each.word for each in FINAL} == {
        "FROM", "ARG", "LABEL", "COPY", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert only("COPY").rest == "--from=build /opt/drainproxy /opt/drainproxy"


def test_every_command_is_in_exec_form() -> None:
    for each in ALL:
        if each.word in ("RUN", "ENTRYPOINT", "CMD"):
            assert all(isinstance(word, str) for word in each.argv)


def test_the_default_command_is_serve_and_drain_is_on_the_path() -> None:
    assert only("CMD").argv == ["serve"]
    assert "serve" in VERBS
    (program,) = only("ENTRYPOINT").argv
    assert f"PATH={Path(program).parent}:" in only("ENV").rest


def test_it_names_the_default_ports_and_the_signal_that_drains() -> None:
    config = Config()
    assert only("EXPOSE").rest.split() == [str(each.port) for each in (config.listen, config.admin)]
    assert only("STOPSIGNAL").rest == "SIGTERM"


def test_every_builder_understands_it() -> None:
    for only_some in ("--mount", "--chmod", "--link", "<<", "SHELL"):
        assert not any(only_some in f"{each.word} {each.rest}" for each in ALL), only_some
    assert not re.search(r"^#\s*(syntax|escape)\s*=", DOCKERFILE, re.MULTILINE | re.IGNORECASE)


def test_it_is_compiled_unless_the_build_is_told_otherwise() -> None:
    said = [(each.word, each.rest) for each in BUILD]
    at = said.index(("ENV", "DRAINPROXY_COMPILE=${COMPILE}"))
    assert said.index(("ARG", "COMPILE=1")) < at
    needs = next(place for place, each in enumerate(BUILD) if "image/compiler.py" in each.rest)
    wheel = next(place for place, each in enumerate(BUILD) if each.word == "RUN" and "wheel" in each.argv)
    assert at < needs < wheel


def test_nothing_is_fetched_for_a_build_that_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAINPROXY_COMPILE", "0")
    monkeypatch.setattr(compiler, "run", lambda *_argv: pytest.fail("nothing is needed"))
    assert compiler.main("pip") is None


def test_a_compiler_is_fetched_where_it_is_missing_and_mypyc_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setenv("DRAINPROXY_COMPILE", "1")
    monkeypatch.setattr(compiler, "missing", lambda: [] if ran else ["gcc", "libc6-dev"])
    monkeypatch.setattr(compiler, "run", lambda *argv: ran.append(argv))
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/apt-get")
    assert compiler.main("pip") is None
    assert ran[1][-2:] == ("gcc", "libc6-dev")
    assert {"--require-hashes", "--only-binary=:all:"} <= set(ran[2])


def test_a_build_that_cannot_be_compiled_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAINPROXY_COMPILE", "1")
    monkeypatch.setattr(compiler, "missing", lambda: ["gcc"])
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "--build-arg COMPILE=0" in str(compiler.main("pip"))


def test_what_is_downloaded_is_a_wheel_and_has_a_known_hash() -> None:
    installs = [each.argv for each in BUILD if each.word == "RUN" and "install" in each.argv]
    assert len(installs) == 3
    for argv in installs:
        assert "--no-index" in argv or {"--require-hashes", "--only-binary=:all:"} <= set(argv), argv


def test_the_labels_say_what_the_project_says() -> None:
    labels = dict(word.split("=", 1) for word in shlex.split(only("LABEL").rest))
    project = PROJECT["project"]
    assert labels == {
        "org.opencontainers.image.title": project["name"],
        "org.opencontainers.image.description": project["description"],
        "org.opencontainers.image.licenses": project["license"],
        "org.opencontainers.image.version": "${VERSION}",
        "org.opencontainers.image.revision": "${REVISION}",
        "org.opencontainers.image.source": "${SOURCE}",
        "org.opencontainers.image.base.name": "${BASE}",
        "org.opencontainers.image.base.digest": "${BASE_DIGEST}",
    }
    given = {each.rest for each in FINAL if each.word == "ARG"}
    assert given == {"BASE", "BASE_DIGEST", "VERSION", "REVISION", "SOURCE"}


def test_the_health_check_is_our_own_command_without_a_shell() -> None:
    options, argv = only("HEALTHCHECK").rest.split(" CMD ")
    assert "--timeout=" in options
    assert json.loads(argv) == [*only("ENTRYPOINT").argv, "status"]
    assert "status" in VERBS


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    first, *rules = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source.removeprefix("./")
        for each in BUILD
        if each.word == "COPY"
        for source in shlex.split(each.rest)[:-1]
    }  # fmt: skip
    copied.remove(CHOSEN)
    assert CHOSEN.startswith("image/"), "which is copied whole"
    assert let_in == copied
    assert all((ROOT / each).exists() for each in copied)
    assert {"drainproxy/tools", "**/__pycache__", "**/*.pyc"} == {rule for rule in rules if not rule.startswith("!")}


# --- exact versions ---------------------------------------------------------------------------------------------------


def pinned(name: str) -> dict[str, str]:
    """Package → version. Each line of a requirements file must be one version with hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / "image" / name).read_text(), flags=re.MULTILINE)
    found: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        assert hashes, line
        assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes), line
        parsed = Requirement(requirement)
        (pin,) = parsed.specifier
        assert pin.operator == "==", line
        found[canonicalize_name(parsed.name)] = pin.version
    return found


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        (PROJECT["project"]["dependencies"], "requirements.txt"),
        (PROJECT["project"]["dependencies"], "requirements-webhook.txt"),
        (PROJECT["project"]["optional-dependencies"]["cluster"], "requirements-webhook.txt"),
        (PROJECT["project"]["dependencies"], "requirements-otel.txt"),
        (PROJECT["project"]["optional-dependencies"]["otel"], "requirements-otel.txt"),
        (PROJECT["build-system"]["requires"], "requirements-build.txt"),
        ([PROJECT["tool"]["drainproxy"]["compiler"]], "requirements-compile.txt"),
    ],
)
def test_the_exact_versions_are_ones_the_project_accepts(wanted: list[str], file: str) -> None:
    there = pinned(file)
    for each in map(Requirement, wanted):
        assert each.specifier.contains(there[canonicalize_name(each.name)]), f"make image/{file} anew: {each}"


@pytest.mark.parametrize("file", ["requirements-webhook.txt", "requirements-otel.txt"])
def test_all_images_have_the_same_version_of_what_they_share(file: str) -> None:
    assert pinned("requirements.txt").items() <= pinned(file).items()


def test_no_extra_is_in_the_image() -> None:
    extras = {
        canonicalize_name(Requirement(each).name)
        for group in PROJECT["project"]["optional-dependencies"].values()
        for each in group
    }
    own = {canonicalize_name(Requirement(each).name) for each in PROJECT["project"]["dependencies"]}
    assert extras - own
    assert not (extras - own) & set(pinned("requirements.txt"))


def test_what_serving_loads_is_not_among_what_is_left_uncompiled() -> None:
    code = (
        "import sys, drainproxy.app\n"
        "from drainproxy.cli import drain, run, serve, status\n"
        "print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(loaded) > 100
    left_out = bytecode.left_out()
    assert [each for each in loaded if "site-packages" not in each and left_out.search(each)] == []


# --- an image that is really built ------------------------------------------------------------------------------------

SHELLS = ("sh", "bash", "dash")
ENTER = """
set -e; root=$1; shift
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"; mount -t proc -o ro proc "$root/proc"
exec setpriv --no-new-privs --inh-caps=-all \
  unshare --pid --fork --kill-child --root "$root" --setgid {nobody} --setuid {nobody} "$@"
"""
"""A mount namespace with the root read-only and /proc, nothing else; then the image's user, for the kernel too."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image, unpacked; its shells are removed."""

    id: str
    root: Path
    config: dict[str, Any]

    def command(self, *argv: str, **env: str) -> tuple[list[str], dict[str, str]]:
        script = ENTER.format(nobody=self.config["User"].split(":")[0])
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # for the way in; the image's own follows in `env`
        inside = [f"{name}={value}" for name, value in env.items()]
        words = ["/bin/sh", "-c", script, "sh", str(self.root), "/usr/bin/env", *self.config["Env"], *inside, *argv]
        return ["unshare", "--mount", "--ipc", *words], {"PATH": path}

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        words, outer = self.command(*argv, **env)
        return subprocess.run(words, env=outer, capture_output=True, text=True, timeout=60, check=False)


def sh(*argv: str | Path) -> str:
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Builder:
    """buildah, with a storage of its own in `home`."""

    home: Path

    def buildah(self, *argv: str | Path) -> str:
        return sh("buildah", "--root", self.home / "storage", "--runroot", self.home / "run", *argv)

    def make_base(self) -> None:
        """Debian's python3 without bytecode: as most bases come."""
        base = self.home / "base"
        packages = "--include=python3,python3-venv,ca-certificates"
        sh("debootstrap", "--variant=minbase", packages, "bookworm", base)
        for each in base.rglob("*.pyc"):
            each.unlink()
        container = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", container, base, "/")
        self.buildah("commit", "--quiet", "--rm", container, "localhost/base")

    def build(self, context: Path, tag: str, *arguments: str) -> str:
        """The image's id. `arguments`: build arguments, as NAME=VALUE."""
        lines = [
            f"{key} = {os.environ[name]}"
            for key, name in (("cert", "PIP_CERT"), ("index-url", "PIP_INDEX_URL"))
            if name in os.environ
        ]
        pip = self.home / "pip.conf"
        pip.write_text("\n".join(["[global]", *lines, ""]))
        lent = ["--volume", f"{pip}:/etc/pip.conf:ro", "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        how = ["--isolation", "chroot", "--network", "host", "--no-cache", "--timestamp", "0"]
        given = [word for each in ("BASE=localhost/base", *arguments) for word in ("--build-arg", each)]
        out = self.buildah("bud", *how, *lent, *given, "--tag", tag, context)
        return out.splitlines()[-1]


def why_not() -> str | None:
    if not os.environ.get("DRAINPROXY_TEST_IMAGE"):
        return "DRAINPROXY_TEST_IMAGE=1 builds an image and tries it"
    missing = [each for each in ("buildah", "debootstrap", "setpriv", "unshare") if shutil.which(each) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if os.geteuid() == 0 else "needs root"


real = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
takes_minutes = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    made = Builder(tmp_path_factory.mktemp("buildah"))
    made.make_base()
    return made


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree's files of the context, as they were when the test began."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    for name in ("image", "drainproxy"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def image(builder: Builder, context: Path) -> Iterator[Image]:
    with unpacked(builder, builder.build(context, "localhost/drainproxy")) as found:
        yield found


@contextmanager
def unpacked(builder: Builder, digest: str) -> Iterator[Image]:
    config = json.loads(builder.buildah("inspect", "--type", "image", digest))["OCIv1"]["config"]
    container = builder.buildah("from", digest)
    root = Path(builder.buildah("mount", container))
    for shell in SHELLS:
        (root / "bin" / shell).unlink(missing_ok=True)
    yield Image(digest, root, config)
    builder.buildah("rm", container)


@contextmanager
def default_command(image: Image, **env: str) -> Iterator[Proxy]:
    """The image's own ENTRYPOINT and CMD."""
    argv, outer = image.command(*image.config["Entrypoint"], *image.config["Cmd"], **env)
    process = subprocess.Popen(argv, env=outer, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    proxy = Proxy(process)
    try:
        yield proxy
    finally:
        if process.poll() is None and (inside := below(process.pid)) is not None:
            os.kill(int(inside.name), signal.SIGKILL)  # --kill-child does not outlive the change of user
        process.kill()
        proxy.wait()
        assert process.stderr is not None
        process.stderr.close()


@real
@takes_minutes
def test_the_default_command_serves_and_drains_as_nobody_without_shell_or_writable_place(image: Image) -> None:
    port, admin = free_port(), free_port()
    short = {"DRAINPROXY_PROPAGATION_DELAY": "0s", "DRAINPROXY_QUIET_PERIOD": "100ms", "DRAINPROXY_APP_STOP_TIME": "0s"}
    listen = {"DRAINPROXY_LISTEN": f"127.0.0.1:{port}", "DRAINPROXY_ADMIN": f"127.0.0.1:{admin}"}
    assert not any((image.root / "bin" / shell).exists() for shell in SHELLS)
    with (
        http_server() as upstream,
        default_command(image, DRAINPROXY_UPSTREAM=upstream, **listen, **short) as it,
    ):
        it.await_ready()
        with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
        inside = wait_for(lambda: below(it.process.pid), "the process in the image")
        status = dict(line.split(":\t", 1) for line in (inside / "status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
        assert {int(status[each], 16) for each in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        options = [line.split()[3].split(",") for line in (inside / "mounts").read_text().splitlines()]
        assert options
        assert all("ro" in each for each in options)
        drained = image.run("drainproxy", "drain", DRAINPROXY_ADMIN=listen["DRAINPROXY_ADMIN"])
        assert (drained.returncode, drained.stdout.split(" after")[0]) == (0, "drained cleanly"), drained
        os.kill(int(inside.name), signal.SIGTERM)
        assert it.wait() == 0


def below(pid: int) -> Path | None:
    """The last of the processes that `pid` started, one below the other."""
    children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    return (below(int(children[0])) or Path("/proc") / children[0]) if children else None


@real
@takes_minutes
def test_the_path_of_the_bytes_is_machine_code_without_a_compiler_being_there(image: Image) -> None:
    assert image.run("drainproxy", "--version").stdout.endswith(" (compiled)\n")
    assert not any((image.root / "usr/bin" / each).exists() for each in ("gcc", "cc", "x86_64-linux-gnu-gcc"))


@real
@takes_minutes
def test_with_the_extra_otel_spans_reach_a_collector(builder: Builder, context: Path) -> None:
    short = {"DRAINPROXY_PROPAGATION_DELAY": "0s", "DRAINPROXY_QUIET_PERIOD": "100ms"}
    listen = {"DRAINPROXY_LISTEN": f"127.0.0.1:{free_port()}", "DRAINPROXY_ADMIN": f"127.0.0.1:{free_port()}"}
    with (
        unpacked(builder, builder.build(context, "localhost/traced", "EXTRA=otel")) as traced,
        collector() as (to, spans),
        http_server() as app,
        default_command(traced, DRAINPROXY_UPSTREAM=app, DRAINPROXY_OTLP_ENDPOINT=to, **listen, **short) as it,
    ):
        it.await_ready()
        drained = traced.run("drainproxy", "drain", DRAINPROXY_ADMIN=listen["DRAINPROXY_ADMIN"])
        assert drained.returncode == 0, drained
        wait_for(lambda: [span.name for span in spans] == ["drain"], "the span of the drain")


@real
@takes_minutes
def test_without_the_extra_an_endpoint_is_refused(image: Image) -> None:
    done = image.run("drainproxy", "serve", DRAINPROXY_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "EXTRA=otel" in done.stderr


@real
@takes_minutes
def test_all_that_is_loaded_comes_as_bytecode_or_machine_code(image: Image) -> None:
    code = "import drainproxy.app, drainproxy.cli.serve, drainproxy.cli.drain, drainproxy.cli.status, uvloop"
    done = image.run("/opt/drainproxy/bin/python3", "-v", "-c", code)
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stderr.splitlines() if "code object from" in line]
    assert len(loaded) > 100
    assert [line for line in loaded if ".pyc" not in line] == []
    assert "bytecode is stale" not in done.stderr


@real
@takes_minutes
def test_what_is_added_has_no_build_tool_no_extra_and_no_owner_but_root(image: Image) -> None:
    added = list((image.root / "opt" / "drainproxy").rglob("*"))
    names = {each.name.split("-")[0] for each in added}
    unwanted = {"pip", "setuptools", "wheel", "ruamel", "ruamel.yaml", "rich", "pytest", "gcc", "cc", "__pycache__"}
    assert names & unwanted == set()
    for each in added:
        facts = each.lstat()
        assert (facts.st_uid, facts.st_gid) == (0, 0), each
        assert each.is_symlink() or not facts.st_mode & 0o022, each


@real
@takes_minutes
@pytest.mark.parametrize(
    "argv", [("inject", "-f", "-"), ("check", "-f", "-"), ("probe", "http://127.0.0.1:9/"), ("demo",)]
)
def test_what_the_image_leaves_out_says_where_it_is(image: Image, argv: tuple[str, ...]) -> None:
    done = image.run("drainproxy", *argv)
    assert done.returncode == 2, done
    assert f"{argv[0]} is not in this image" in done.stderr
    assert f"\n  {argv[0]} " not in image.run("drainproxy", "--help").stdout


@real
@takes_minutes
def test_the_same_sources_give_the_same_image(builder: Builder, context: Path, image: Image) -> None:
    assert builder.build(context, "localhost/again") == image.id
