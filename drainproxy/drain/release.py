"""May the app stop before the floor, because siblings take what still arrives? Only after proof.

In a drain the successor of each route is asked on new connections who answers there. When ready siblings have answered
several times in a row, new requests go there, and the app is needed only for what it is at work on. Whatever else
answers is no proof: then the drain goes its usual way, and the successor is asked again a second later.
"""

from __future__ import annotations

from enum import Enum

NEEDED = 3
"""So many answers of ready siblings in a row are the proof, each on a connection of its own."""
AGAIN_S = 1.0
"""Between two questions once the proof has failed, or was given: it has to hold until the app may stop."""


class Answer(Enum):
    """Who answers at the successor's address. Words of `/status`: API.

    The first three are what a drainproxy says of itself to its siblings.
    """

    READY = "ready"
    """A sibling that is ready for requests."""
    SERVING = "serving"
    """A sibling whose app lives, but which drains or is not ready."""
    GONE = "gone"
    """A sibling whose app is gone, or may stop any moment."""
    OURSELVES = "ourselves"
    """This very process."""
    STRANGER = "stranger"
    """Not a drainproxy, or that of another workload."""
    UNTRUSTED = "untrusted"
    """Somebody without TLS, or whose certificate is not one of the siblings'."""
    NOBODY = "nobody"
    """No connection could be made, or nothing was answered in time."""


class Proof:
    """What the successor of one route has answered since the trigger. Times are the caller's clock, seconds."""

    __slots__ = ("_in_a_row", "ask_at", "last")

    def __init__(self, now: float) -> None:
        self._in_a_row = 0
        self.ask_at: float | None = now
        """When to ask again; None while an answer is awaited."""
        self.last: Answer | None = None

    @property
    def given(self) -> bool:
        """Ready siblings have answered often enough, and nobody else has since."""
        return self._in_a_row >= NEEDED

    def answered(self, answer: Answer, now: float) -> None:
        """Somebody, or nobody, has answered."""
        self.last = answer
        self._in_a_row = self._in_a_row + 1 if answer is Answer.READY else 0
        self.ask_at = now if 0 < self._in_a_row < NEEDED else now + AGAIN_S


class Release:
    """The proofs of one drain, a route each."""

    __slots__ = ("proofs",)

    def __init__(self, routes: int, now: float) -> None:
        self.proofs = [Proof(now) for _ in range(routes)]

    @property
    def proven(self) -> bool:
        """Siblings take what comes, on every route."""
        return all(proof.given for proof in self.proofs)

    def due(self, now: float) -> list[int]:
        """The routes whose successor is to be asked now. Each is told of by `answered`."""
        due = [route for route, proof in enumerate(self.proofs) if proof.ask_at is not None and now >= proof.ask_at]
        for route in due:
            self.proofs[route].ask_at = None
        return due

    def ask_at(self) -> float | None:
        """When somebody is to be asked next; None while answers are awaited."""
        return min((proof.ask_at for proof in self.proofs if proof.ask_at is not None), default=None)

    def answers(self) -> list[Answer]:
        """Who has answered last, a route each; without those that have not been answered yet."""
        return [proof.last for proof in self.proofs if proof.last is not None]

    def answered(self, route: int, answer: Answer, now: float) -> None:
        """Who has answered at this route's successor."""
        self.proofs[route].answered(answer, now)
