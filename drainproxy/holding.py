"""May requests wait while somebody works on what is behind the app? For a time that ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import RestartRefusedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from drainproxy.config.options import Config
    from drainproxy.observe.log import Log
    from drainproxy.view import RouteAtWork


class Holding:
    """Requests wait from `hold` to `release`, or until the time is over. What is under way goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: Config, routes: list[RouteAtWork], log: Log) -> None:
        self._loop = loop
        self._config = config
        self._routes = routes
        self._log = log
        self._end: asyncio.TimerHandle | None = None
        self.obstacle: Callable[[], str | None] = _none
        """Why nothing may be held now."""

    def hold(self, for_s: float | None) -> dict[str, object]:
        """Begin, or go on for so long from now; None: as long as one request waits. Raises RestartRefusedError."""
        refusal = self.obstacle()
        if refusal is not None:
            raise RestartRefusedError(refusal)
        for_s = self._config.hold_limit_s if for_s is None else for_s
        if self._end is not None:
            self._end.cancel()
        else:
            for at_work in self._routes:
                at_work.listener.hold(self._config.hold_limit_s)
        self._end = self._loop.call_later(for_s, self._over)
        self._log.info("requests wait", for_s=for_s, each_at_most_s=self._config.hold_limit_s)
        return self.told() or {}

    def _over(self) -> None:
        self._log.warning("the time to hold requests is over")
        self.release()

    def release(self) -> bool:
        """Let all who wait go to the app. False: nothing was held."""
        if self._end is None:
            return False
        self._end.cancel()
        self._end = None
        self._log.info("requests go on", waiting=self._waiting())
        for at_work in self._routes:
            at_work.listener.release()
        return True

    def told(self) -> dict[str, object] | None:
        """For `/status`: None while nothing is held by hand."""
        if self._end is None:
            return None
        left_s = max(0.0, self._end.when() - self._loop.time())
        return {"waiting": self._waiting(), "ends_in_s": round(left_s, 3)}

    @property
    def why(self) -> str | None:
        """Why nothing else may keep requests waiting; None: it may."""
        return None if self._end is None else "requests are held: release them first"

    def _waiting(self) -> int:
        return sum(at_work.listener.held or 0 for at_work in self._routes)


def _none() -> None:
    return None
