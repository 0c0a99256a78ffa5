"""Which modules are compiled? None, unless DRAINPROXY_COMPILE=1: then those that pyproject.toml lists, by way of C.

What else there is to say of the package stands in pyproject.toml. See docs/compiled.md.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import setup

if TYPE_CHECKING:
    from setuptools import Extension

SETTINGS = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["drainproxy"]
COMPILES = os.environ.get("DRAINPROXY_COMPILE", "0") == "1"
BUILDS = {"bdist_wheel", "build_ext", "editable_wheel"}
"""Other commands of setuptools only ask, and the compiler may not be there yet."""


def extensions() -> list[Extension]:
    """One shared library, and a small one for each module that points into it. Without a C compiler, this fails."""
    from mypyc.build import mypycify  # noqa: PLC0415 - a build has it only when it was asked for

    # The types were checked with all that drainproxy imports; here that need not be installed.
    options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    found: list[Extension] = mypycify([*options, *SETTINGS["compiled"]], group_name="drainproxy", debug_level="0")
    return found


setup(
    setup_requires=[SETTINGS["compiler"]] if COMPILES else [],
    ext_modules=extensions() if COMPILES and BUILDS.intersection(sys.argv) else [],
)
