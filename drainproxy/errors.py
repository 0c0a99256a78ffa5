"""Which failures do we expect? Each class here is one, and knows the exit code it deserves.

Anything else that is raised is a bug: an AssertionError with a sentence, or what Python itself raises.
"""

from __future__ import annotations


class DrainproxyError(Exception):
    """An expected failure, told to the user in one line. Commands exit with `exit_code`."""

    exit_code = 1


class ConfigError(DrainproxyError):
    """An option that cannot be used: which one, what came, what was expected."""

    exit_code = 2

    def __init__(self, option: str, got: object, expected: str) -> None:
        super().__init__(f"{option}: got {got!r}, expected {expected}")


class BudgetError(DrainproxyError):
    """Durations that cannot fit into the grace period; the message shows the sum."""

    exit_code = 2


class BindError(DrainproxyError):
    """A listening address that cannot be bound."""


class ChildError(DrainproxyError):
    """The app's command cannot be run. Exit codes are those of a shell: 127 not found, 126 not allowed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class HandoverError(DrainproxyError):
    """A new generation cannot take over from the running one."""


class UpgradeRefusedError(DrainproxyError):
    """An upgrade that was not begun: what stands against it."""


class RestartError(DrainproxyError):
    """A restart of the app that did not come about: what serves now, and why."""


class RestartRefusedError(DrainproxyError):
    """A restart, or a hold, that was not begun: what stands against it."""


class AdminError(DrainproxyError):
    """The admin port of a running drainproxy did not give the answer that was asked for."""


class ManifestError(DrainproxyError):
    """Kubernetes YAML that cannot be read, or cannot be changed safely."""

    exit_code = 2
