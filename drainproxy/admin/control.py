"""What may the admin port do with the process? The supervisor offers this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
