"""Does each socket of an exchange learn what the other can take, and only of its own exchange?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from drainproxy.net.pair import Pair
from drainproxy.session.ports import Hold
from tests.support.transports import ScriptedEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.net.flow import End
    from drainproxy.session.ports import Passed


class ScriptedSplice:
    """A body that passes unread, as far as a pair sees it."""

    def __init__(self, source: End, target: End) -> None:
        self.ends = (source, target)
        self.went_on = 0
        self.stopped = False

    def go(self) -> None:
        self.went_on += 1

    def stop(self) -> None:
        self.stopped = True


class ScriptedSplices:
    def __init__(self) -> None:
        self.begun: list[ScriptedSplice] = []

    def begin(
        self, source: End, target: End, size: int, count: Callable[[int], None], passed: Passed
    ) -> ScriptedSplice:
        self.begun.append(ScriptedSplice(source, target))
        return self.begun[-1]


def pair_of(client: ScriptedEnd) -> tuple[Pair, ScriptedSplices]:
    splices = ScriptedSplices()
    return Pair(client, cast("Any", None), cast("Any", splices)), splices


def ignore(size: int) -> None:
    """Not asked about."""


def test_while_the_client_is_full_the_app_is_not_read() -> None:
    client, app = ScriptedEnd(), ScriptedEnd()
    pair, _ = pair_of(client)
    pair.join(app)
    pair.client_full()
    assert not app.scripted.is_reading()
    assert client.scripted.is_reading()
    pair.client_drained()
    assert app.scripted.is_reading()


def test_while_the_app_is_full_the_client_is_not_read() -> None:
    client, app = ScriptedEnd(), ScriptedEnd()
    pair, _ = pair_of(client)
    pair.join(app)
    pair.upstream_full()
    assert not client.scripted.is_reading()
    assert app.scripted.is_reading()
    pair.upstream_drained()
    assert client.scripted.is_reading()


def test_the_next_connection_to_the_app_is_not_read_while_the_client_is_still_full() -> None:
    client, first, second = ScriptedEnd(), ScriptedEnd(), ScriptedEnd()
    pair, _ = pair_of(client)
    pair.join(first)
    client.full = True
    pair.client_full()
    pair.part()
    assert first.scripted.is_reading(), "it may be lent to another client, whose session reads it"
    pair.join(second)
    assert not second.scripted.is_reading()
    client.full = False
    pair.client_drained()
    assert second.scripted.is_reading()


def test_the_next_client_of_a_connection_that_is_still_full_is_not_read() -> None:
    app = ScriptedEnd(full=True)
    client = ScriptedEnd()
    pair, _ = pair_of(client)
    pair.join(app)
    assert not client.scripted.is_reading()
    pair.part()
    assert client.scripted.is_reading()


def test_parting_leaves_other_reasons_not_to_read_as_they_are() -> None:
    client, app = ScriptedEnd(), ScriptedEnd()
    pair, _ = pair_of(client)
    pair.join(app)
    client.gate.hold(Hold.PIPELINE)
    pair.upstream_full()
    pair.part()
    assert not client.scripted.is_reading()
    client.gate.unhold(Hold.PIPELINE)
    assert client.scripted.is_reading()


def test_without_a_connection_to_the_app_nothing_is_held_and_nothing_passes() -> None:
    client = ScriptedEnd()
    pair, splices = pair_of(client)
    pair.client_full()
    pair.client_drained()
    pair.pass_up(1, ignore, ignore)
    pair.pass_down(1, ignore, ignore)
    assert not splices.begun


def test_a_target_that_has_caught_up_lets_its_body_go_on() -> None:
    client, app = ScriptedEnd(), ScriptedEnd()
    pair, splices = pair_of(client)
    pair.join(app)
    pair.pass_up(1, ignore, ignore)
    pair.pass_down(1, ignore, ignore)
    up, down = splices.begun
    assert (up.ends, down.ends) == ((client, app), (app, client))
    pair.upstream_drained()
    assert (up.went_on, down.went_on) == (1, 0)
    pair.client_drained()
    assert (up.went_on, down.went_on) == (1, 1)


def test_parting_stops_the_bodies_that_pass_unread() -> None:
    client, app = ScriptedEnd(), ScriptedEnd()
    pair, splices = pair_of(client)
    pair.join(app)
    pair.pass_up(1, ignore, ignore)
    pair.pass_down(1, ignore, ignore)
    pair.part()
    assert all(splice.stopped for splice in splices.begun)
    pair.client_drained()
    pair.upstream_drained()
    assert not any(splice.went_on for splice in splices.begun)
