"""What may the admin port do with the process? The supervisor offers this."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from drainproxy.drain.machine import Finish
    from drainproxy.drain.phase import Trigger


class Control(Protocol):
    """What changes the process. What it tells of itself is observe.documents.Process."""

    def drain(self, trigger: Trigger) -> None:
        """Begin the drain, or join the one that runs. Never blocks."""

    async def finished(self) -> Finish:
        """How the drain that runs, or is over, ended: all who wait learn it at the same time."""

    def resume(self) -> bool:
        """Call the drain off. False: SIGTERM was received, the process will end."""

    def scraped(self) -> None:
        """`/metrics` was read."""


class Upgraded(NamedTuple):
    """The process that is in service now."""

    pid: int
    generation: int


class Upgrades(Protocol):
    """Who can put another process in the place of this one."""

    async def upgrade(self, program: str | None) -> Upgraded:
        """Hand over to a new process of this command line, or of `program` with the same arguments.

        Returns once the new one serves; a caller that does not wait so long changes nothing. Raises
        UpgradeRefusedError if it is not begun, HandoverError if it has failed: then this process serves as before.
        """


class Restarted(NamedTuple):
    """The process of the app that serves now; `number`: of those so far."""

    pid: int
    number: int


class Restarts(Protocol):
    """Who can put another process in the place of the app."""

    async def restart(self) -> Restarted:
        """Start the app anew and switch to it. Returns once the new process serves and is there to stay.

        Raises RestartRefusedError if it is not begun, RestartError if it has failed: the message says who serves.
        """


class Holds(Protocol):
    """Who can keep requests waiting."""

    def hold(self, for_s: float | None) -> dict[str, object]:
        """Keep them waiting for so long from now on. Raises RestartRefusedError if that may not be now."""

    def release(self) -> bool:
        """Let them go on. False: none were held."""


class Operations(NamedTuple):
    """What an operator may do besides draining."""

    upgrades: Upgrades
    restarts: Restarts | None
    """None: the app is no child of ours."""
    holds: Holds
