"""What does a process do that has handed over to another? It drains and ends, unless it is needed again."""

from __future__ import annotations

import pytest

from drainproxy.drain.phase import Outcome, Phase, Trigger
from tests.support.life import Life


def handed_over() -> Life:
    life = Life()
    life.machine.hand_over(life.now)
    return life.settle()


def test_it_drains_by_the_usual_rules_and_exits_without_waiting_for_the_app_to_stop() -> None:
    life = handed_over()
    assert life.machine.trigger is Trigger.UPGRADE
    work = life.begin()
    begun = life.now
    life.after(8)
    assert life.is_in(Phase.FINISHING)
    life.end(work).after(1.1)
    assert life.exited == (begun + 8, 0)
    assert life.outcome() is Outcome.CLEAN


def test_its_deadline_is_that_of_a_drain_that_began_with_the_handover() -> None:
    life = handed_over()
    life.begin()
    life.after(20).sigterm().after(3.9)
    assert life.is_in(Phase.FINISHING)
    life.after(0.2)
    assert life.outcome() is Outcome.FORCED


def test_it_is_not_called_off_by_hand() -> None:
    life = handed_over()
    assert not life.resume()
    assert life.is_in(Phase.PROPAGATING)


def test_when_the_new_one_has_ended_it_serves_again_and_may_hand_over_once_more() -> None:
    life = handed_over()
    life.after(2)
    assert life.machine.take_back()
    life.settle()
    assert life.is_in(Phase.SERVING)
    assert life.outcome() is Outcome.RESUMED
    life.machine.hand_over(life.now)
    assert life.settle().is_in(Phase.PROPAGATING)


@pytest.mark.parametrize("too_late", ["SIGTERM", "the deadline"])
def test_it_does_not_serve_again_if_it_was_told_to_end_or_has_cut_what_it_had(too_late: str) -> None:
    life = handed_over()
    if too_late == "SIGTERM":
        life.sigterm()
    else:
        life.begin()
        life.after(23.9)
        life.settling = False
        life.now += 0.2
        life.machine.advance(life.now)
        assert life.is_in(Phase.FORCING)
    assert not life.machine.take_back()
