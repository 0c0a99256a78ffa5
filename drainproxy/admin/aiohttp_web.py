"""aiohttp's server, without the price of the rest: import its classes from here.

`import aiohttp` loads its client, its router and its runner, of which the admin port uses nothing: half of what the
package costs in memory and time (docs/benchmarks.md). So the package is entered here without running its `__init__`,
and the modules of the server are imported by their names. Who asks the package for anything else, such as a client for
`--on-drain`, makes `__init__` run then: it finds those modules and adds what is missing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any


def _enter() -> None:
    spec = find_spec("aiohttp")
    assert spec is not None, "it is a dependency"
    assert spec.loader is not None, "and a package with code"
    loader, package = spec.loader, module_from_spec(spec)
    package.__dict__["__version__"] = "unknown"  # aiohttp.http puts it into a header that our answers replace

    def found(name: str) -> Any:
        if find_spec(f"aiohttp.{name}") is not None:
            return import_module(f"aiohttp.{name}")
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = found  # PEP 562: called for names that are not there
    sys.modules["aiohttp"] = package


if "aiohttp" not in sys.modules:
    _enter()

from aiohttp.web_request import BaseRequest  # noqa: E402 - the package must have been entered
from aiohttp.web_response import Response, StreamResponse  # noqa: E402 - as above
from aiohttp.web_server import Server  # noqa: E402 - as above

__all__ = ["BaseRequest", "Response", "Server", "StreamResponse"]
