"""`drainproxy version`: what exactly runs here? For people, and for a bug report."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

from drainproxy import __version__, compiled
from drainproxy.cli._output import output_option

PACKAGES = ("uvloop", "aiohttp", "prometheus-client", "click")


@click.command(
    "version",
    help="""Show the versions of drainproxy, of Python and of the packages that serving needs.

    Exit code: 0 on success; 2 when an option cannot be used.
    """,
)
@output_option()
def command(*, output: str) -> None:
    facts = {
        "version": __version__,
        "compiled": compiled(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _installed(name) for name in PACKAGES},
    }
    if output == "json":
        print(json.dumps(facts))
        return
    print(f"drainproxy {facts['version']}")
    build = "compiled" if facts["compiled"] else "pure Python"
    print(f"{build} on {facts['implementation']} {facts['python']}, {facts['system']} {facts['machine']}")
    print(", ".join(f"{name} {_installed(name) or 'is missing'}" for name in PACKAGES))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
