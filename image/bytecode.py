"""Which modules does the image bring compiled? The standard library's and all that is installed, under one directory.

Run by the Dockerfile with the interpreter that will run drainproxy: `python3 image/bytecode.py DIRECTORY`, where
PYTHONPYCACHEPREFIX then points. Standard library only: nothing of drainproxy is imported.

A hash of the source, not its time, says whether bytecode fits. Building an image rounds times to seconds; each file
that is rounded up would be compiled anew at every start. The hash is checked: a later layer may replace sources.
"""

from __future__ import annotations

import compileall
import re
import sys
import sysconfig
from py_compile import PycInvalidationMode

NOT_NEEDED = (
    "config-[^/]*",
    "ctypes/macholib",
    "curses",
    "dbm",
    "dist-packages",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "sqlite3",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "unittest",
    "venv",
    "xmlrpc",
)
"""Directories of the standard library that no server loads, and other packages of the base."""


def left_out() -> re.Pattern[str]:
    """Matches the path of each module of the standard library that stays uncompiled."""
    library = re.escape(sysconfig.get_path("stdlib"))
    return re.compile(rf"^{library}/(site-packages|{'|'.join(NOT_NEEDED)})/")


def main(target: str) -> int:
    """Exit code: 0 when everything was compiled."""
    sys.pycache_prefix = target
    complete = [
        compileall.compile_dir(
            sysconfig.get_path(place),
            rx=left_out(),
            quiet=1,
            force=True,
            invalidation_mode=PycInvalidationMode.CHECKED_HASH,
        )
        for place in ("stdlib", "purelib")
    ]
    return 0 if all(complete) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
