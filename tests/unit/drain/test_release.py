"""May the app stop before the floor? Every order of answers, work and signals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.config.values import parse_route, parse_successor
from drainproxy.drain.ledger import Kind
from drainproxy.drain.machine import CallBound, Divert, LetGo
from drainproxy.drain.phase import Outcome, Phase, State
from drainproxy.drain.readiness import readiness
from drainproxy.drain.release import AGAIN_S, NEEDED, Answer, Proof
from tests.support.life import Life

READY = [Answer.READY] * NEEDED
NO_PROOF = [answer for answer in Answer if answer is not Answer.READY]
# The defaults: floor 5 s, quiet 1 s, quiet limit 10 s, grace 30 s, app stop 5 s: so the deadline is at 24 s.
FLOOR_S, QUIET_S, DEADLINE_S = 5, 1, 24


def replica(**options: Any) -> Life:
    """A process with a successor."""
    return Life(successor=parse_successor("web:80"), **options)


def released(**options: Any) -> Life:
    """One that drains, with work in flight in its app, and whose siblings have answered."""
    life = replica(**options)
    life.begin()
    return life.drain().answers(*READY)


def let_go(life: Life) -> float | None:
    """When those who wait were told that the app may stop; None: not before the end."""
    return life.machine.let_go_at


def standing(life: Life) -> Answer:
    """What is said of us to a sibling now."""
    return life.machine.standing


def diverts(life: Life) -> bool:
    """Whether what comes now goes to siblings."""
    return life.process.routes[0].listener.diverting


def test_three_ready_siblings_in_a_row_are_the_proof_and_an_idle_app_may_stop_at_once() -> None:
    life = replica().drain()
    start = life.now
    life.answers(*READY)
    assert let_go(life) == start
    assert life.is_in(Phase.PROPAGATING)
    assert life.shows(State.DRAINING)
    (told,) = [each.directive for each in life.happened if isinstance(each.directive, LetGo)]
    assert told.finish.outcome is Outcome.CLEAN
    life.after(FLOOR_S + QUIET_S)
    assert life.is_in(Phase.DRAINED)
    assert life.finishes[0].duration_s == FLOOR_S + QUIET_S
    assert life.outcome() is Outcome.CLEAN


@pytest.mark.parametrize("other", NO_PROOF)
def test_whoever_else_answers_is_no_proof_and_the_successor_is_asked_again_a_second_later(other: Answer) -> None:
    life = replica().drain().answers(Answer.READY, Answer.READY, other)
    listener = life.process.routes[0].listener
    assert (let_go(life), life.machine.diverting, listener.asked) == (None, False, [])
    life.after(AGAIN_S - 0.001)
    assert not listener.asked
    life.after(0.001).answers(Answer.READY, Answer.READY)
    assert let_go(life) is None
    life.answers(Answer.READY)
    assert let_go(life) == life.now


def test_without_proof_a_drain_goes_as_ever() -> None:
    life = replica().drain()
    for _ in range(FLOOR_S + QUIET_S):
        life.answers(Answer.OURSELVES).after(1)
    assert life.finishes[0].duration_s == FLOOR_S + QUIET_S
    assert not any(isinstance(each.directive, Divert | LetGo | CallBound) for each in life.happened)


def test_an_answer_that_never_comes_holds_nothing_up() -> None:
    life = replica().drain().after(FLOOR_S + QUIET_S)
    assert life.is_in(Phase.DRAINED)


@pytest.mark.parametrize("options", [{"release": "late", "successor": parse_successor("web:80")}, {}])
def test_late_or_without_a_successor_nobody_is_asked(options: dict[str, Any]) -> None:
    life = Life(**options).drain()
    assert not life.process.routes[0].listener.asked


def test_in_an_upgrade_the_app_stays_and_nobody_is_asked() -> None:
    life = replica()
    life.machine.hand_over(life.now)
    assert life.settle().machine.release is None


def test_with_a_route_that_has_no_successor_nobody_is_asked() -> None:
    routes = parse_route(":1=:2,successor=web:80"), parse_route(":3=:4")
    assert Life(route=routes).drain().machine.release is None


def test_from_the_proof_on_new_requests_go_elsewhere_and_what_is_in_flight_here_is_waited_for() -> None:
    life = released()
    listener = life.process.routes[0].listener
    assert listener.diverting
    assert let_go(life) is None
    life.after(0.5)
    late = life.begin()
    life.ledger.goes_elsewhere(late)
    life.end(life.open[0])
    assert let_go(life) == life.now, "what a sibling has does not hold the app"
    life.after(FLOOR_S + QUIET_S)
    assert life.is_in(Phase.FINISHING), "but it holds the process"
    life.end(late)
    assert life.is_in(Phase.DRAINED)


def test_what_comes_back_from_a_sibling_holds_the_app_again() -> None:
    life = replica().drain()
    late = life.begin()
    life.ledger.goes_elsewhere(late)
    life.ledger.comes_back(late)
    life.answers(*READY)
    assert let_go(life) is None
    life.end(late)
    assert let_go(life) == life.now


def test_a_proof_has_to_hold_until_the_app_may_stop() -> None:
    life = released().after(AGAIN_S).answers(Answer.READY).after(AGAIN_S).answers(Answer.NOBODY)
    assert not diverts(life)
    life.end(life.open[0])
    assert let_go(life) is None
    life.after(AGAIN_S).answers(*READY)
    assert diverts(life)
    assert let_go(life) == life.now


def test_once_the_app_may_stop_nobody_is_asked_any_more_and_what_comes_goes_elsewhere_to_the_end() -> None:
    life = released()
    life.answers(*[]).end(life.open[0]).after(FLOOR_S + QUIET_S)
    assert life.is_in(Phase.DRAINED)
    assert life.process.routes[0].listener.diverting


def test_connections_that_have_the_app_to_themselves_are_asked_to_go_and_their_answers_awaited() -> None:
    life = replica()
    route = life.process.routes[0]
    stream, browser = route.connect("http2", idle=True, answers=True), route.connect("idle keep-alive")
    life.drain().answers(*READY).after(QUIET_S / 2)
    assert stream.asked
    assert not browser.asked, "before the floor it may be about to send something"
    assert let_go(life) is None
    stream.answer()
    life.settle()
    assert let_go(life) == life.now


def test_an_answer_of_a_client_is_awaited_for_one_quiet_period() -> None:
    life = replica()
    life.process.routes[0].connect("http2", idle=True, answers=True)
    life.drain().answers(*READY)
    start = life.now
    life.after(QUIET_S)
    assert let_go(life) == start + QUIET_S


def test_at_the_deadline_what_is_in_flight_here_is_cut_as_ever() -> None:
    life = released().after(DEADLINE_S)
    assert let_go(life) is None
    assert life.outcome() is Outcome.FORCED


def test_when_nobody_waits_for_the_app_clients_that_still_send_are_served_to_the_deadline() -> None:
    life = released()
    life.end(life.open[0])
    for _ in range(DEADLINE_S * 2 - 1):
        life.after(0.5).visit()
        assert life.is_in(Phase.PROPAGATING) or life.is_in(Phase.FINISHING)
    life.after(0.5)
    assert life.outcome() is Outcome.STILL_ARRIVING


def test_native_order_sigterm_after_the_app_has_gone_ends_the_process_at_floor_and_quiet() -> None:
    life = replica().drain().answers(*READY)
    start = life.now
    life.after(1).app(up=False).sigterm().after(FLOOR_S + QUIET_S)
    assert life.exited == (start + FLOOR_S + QUIET_S, 0)


def test_classic_order_sigterm_at_once_and_the_hook_joins() -> None:
    life = replica().sigterm().drain().answers(*READY)
    start = life.now
    assert let_go(life) == start
    assert life.process.app_stops
    life.after(1).app(up=False).after(FLOOR_S + QUIET_S)
    assert life.exited == (start + FLOOR_S + QUIET_S, 0)


def test_an_app_that_comes_back_after_it_was_let_go_calls_the_drain_off() -> None:
    life = replica().drain().answers(*READY).after(1).app(up=False).after(1).app(up=True)
    assert life.shows(State.READY)
    assert not life.process.routes[0].listener.diverting
    assert let_go(life) is None
    life.drain()
    assert not life.machine.diverting, "the next drain needs its own proof"


def test_an_answer_that_comes_after_the_drain_was_called_off_is_nothing() -> None:
    life = replica().drain()
    assert life.resume()
    life.answers(Answer.READY)
    assert life.shows(State.READY)


def test_held_readiness_fails_once_the_app_may_stop() -> None:
    life = replica(readiness_on_drain_s=float("inf")).drain()
    assert readiness(life.machine, life.config, life.now, "")[0]
    life.answers(*READY)
    assert not readiness(life.machine, life.config, life.now, "")[0]


def test_what_is_said_of_us_to_siblings() -> None:
    life = replica(up=False)
    assert standing(life) is Answer.GONE
    life.app(up=True, healthy=False)
    assert standing(life) is Answer.SERVING
    life.app(up=True)
    assert standing(life) is Answer.READY
    life.drain()
    assert standing(life) is Answer.SERVING
    life.answers(*READY)
    assert standing(life) is Answer.GONE, "its app is about to stop"


@given(st.lists(st.sampled_from(Answer)))
def test_a_proof_is_given_exactly_while_the_last_three_answers_were_of_ready_siblings(answers: list[Answer]) -> None:
    proof, now = Proof(0.0), 0.0
    for count, answer in enumerate(answers, 1):
        assert proof.ask_at is not None
        assert proof.ask_at >= now
        now = proof.ask_at
        proof.answered(answer, now)
        assert proof.given == (count >= NEEDED and answers[count - NEEDED : count] == READY)


def test_every_kind_of_work_can_be_a_siblings() -> None:
    life = replica().drain()
    for kind in Kind:
        work = life.begin(kind)
        life.ledger.goes_elsewhere(work)
        assert life.ledger.idle_here
        assert not life.ledger.idle
        assert work in life.ledger.oldest(5)
        assert life.ledger.count() == {kind: 1}
        life.end(work)
    assert life.ledger.tally is not None
    assert life.ledger.tally.handed_over == len(Kind)
