"""What does compiling need that the build stage lacks? A C compiler, Python's headers, and mypyc: fetched here.

Run by the Dockerfile with the pip that builds: `python3 image/compiler.py PIP`. Without DRAINPROXY_COMPILE=1, nothing.
Standard library only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements-compile.txt")


def main(pip: str) -> str | None:
    """None when all is there, or nothing is needed; else what to do."""
    if os.environ.get("DRAINPROXY_COMPILE") != "1":
        return None
    packages = missing()
    if packages and shutil.which("apt-get"):
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    if missing():
        return (
            f"Compiling needs {shlex.join(compiler())} and {headers()}, and BUILD_BASE lacks one of them. Name a "
            f"BUILD_BASE that has both, or build with --build-arg COMPILE=0."
        )
    run(pip, "install", "--no-cache-dir", "--require-hashes", "--only-binary=:all:", f"--requirement={REQUIREMENTS}")
    return None


def missing() -> list[str]:
    """Debian's packages of what this Python does not find. The headers are those of Debian's own Python."""
    found = [] if shutil.which(compiler()[0]) else ["gcc", "libc6-dev"]
    return found if headers().exists() else [*found, "libpython3-dev"]


def compiler() -> list[str]:
    """What this Python was compiled with, and compiles extensions with."""
    return shlex.split(sysconfig.get_config_var("CC"))


def headers() -> Path:
    return Path(sysconfig.get_path("include"), "Python.h")


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)  # noqa: S603 - the commands above


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
