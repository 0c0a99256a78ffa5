"""Is a package there that only the laptop's commands need? If not: what to install, said in one line."""

from __future__ import annotations

from drainproxy.errors import DrainproxyError


class MissingPackageError(DrainproxyError):
    """A package that the sidecar does without is not installed."""

    exit_code = 2

    def __init__(self, package: str) -> None:
        super().__init__(f"this command needs the package {package}: pip install {package}")


def missing(error: ImportError, *packages: str) -> MissingPackageError:
    """The expected failure for an import that failed for want of one of `packages`; any other is raised as it is."""
    package = (error.name or "").partition(".")[0]
    if package not in packages:
        raise error
    return MissingPackageError(package)
