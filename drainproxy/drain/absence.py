"""Must a request ask an app that refuses connections? Once it has refused for a while, only one in TRY_S seconds.

Only where siblings answer in its place: else each request is held for the app, however long it has been away.
"""

from __future__ import annotations

TRY_S = 0.05
"""While the app is away, a request asks it this often, to learn whether it is back."""


class Absence:
    """Since when the app has refused connections, by what requests and health checks have seen.

    `patience_s`: for so long what comes is held for it. Times are the caller's clock, seconds.
    """

    __slots__ = ("_patience_s", "_try_at", "since")

    def __init__(self, patience_s: float) -> None:
        self.since: float | None = None
        """When it was first seen to refuse; None: it did not when it was seen last."""
        self._patience_s = patience_s
        self._try_at = 0.0

    def refuses(self, now: float) -> None:
        """It has refused a connection."""
        if self.since is None:
            self.since = now
            self._try_at = now + TRY_S

    def accepts(self) -> None:
        """It has accepted one, or is another process."""
        self.since = None

    def held_until(self, now: float) -> float:
        """How long what comes now is held for it: less, the longer it has been away."""
        return now + self._patience_s if self.since is None else max(now, self.since + self._patience_s)

    def is_to_skip(self, now: float, *, expected: bool, asked: bool = False) -> bool:
        """Whether what comes now leaves the app out. False is the word for one request: whoever hears it asks the app.

        `expected`: the app may be back in a moment; else nothing is held for it. `asked`: somebody asks it already.
        """
        if self.since is None or (expected and now < self.since + self._patience_s):
            return False
        if asked or now < self._try_at:
            return True
        self._try_at = now + TRY_S
        return False
