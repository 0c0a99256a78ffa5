"""Where does a report go? Files that are opened before the work begins, so that a wrong path costs no measurement."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from drainproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO


@contextlib.contextmanager
def opened(paths: Mapping[str, str | None]) -> Iterator[dict[str, TextIO]]:
    """The files, by the option that names each; options that were not given are left out. Raises ConfigError."""
    with contextlib.ExitStack() as stack:
        files = {}
        for option, path in paths.items():
            if path is not None:
                files[option] = stack.enter_context(_opened(option, path))
        yield files


def _opened(option: str, path: str) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8")  # noqa: PTH123 - the caller's context closes it
    except OSError as error:
        raise ConfigError(option, path, f"a file that can be written ({error.strerror})") from error
