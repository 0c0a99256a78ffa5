"""What happens next? Every order of triggers, signals, resumes and work: one drain, one deadline, one end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from drainproxy.config.options import Config
from drainproxy.config.values import AUTO
from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.machine import LastCall
from drainproxy.drain.phase import Outcome, Phase, State, Trigger
from drainproxy.drain.schedule import FORCED_EXIT_S, HURRY_CAP_S
from tests.support.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.drain.ledger import Work

# The defaults: floor 5 s, quiet 1 s, quiet limit 10 s, grace 30 s, app stop 5 s: so the deadline is at 24 s.
FLOOR_S, QUIET_S, QUIET_LIMIT_S, DEADLINE_S, APP_STOP_S, GRACE_S = 5, 1, 10, 24, 5, 30
TO_DRAINED = [Phase.SERVING, Phase.PROPAGATING, Phase.FINISHING, Phase.DRAINED]
TO_FORCED = [Phase.SERVING, Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING, Phase.DRAINED]
BOTH = pytest.mark.parametrize("trigger", [Life.drain, Life.sigterm], ids=["/drain", "SIGTERM"])


# --- before any drain -------------------------------------------------------------------------------------------------


def test_a_process_starts_becomes_ready_and_unready_with_its_app() -> None:
    life = Life(up=False)
    assert life.shows(State.STARTING)
    life.app(up=True, healthy=False)
    assert life.shows(State.STARTING)
    life.app(up=True)
    assert life.shows(State.READY)
    life.app(up=True, gate="the gate is shut")
    assert life.shows(State.UNREADY)
    life.app(up=False)
    assert life.shows(State.UNREADY)
    assert life.machine.answered_once
    assert life.happened == []
    assert life.machine.wake_at() is None


def test_what_happens_without_a_drain_needs_no_timer_and_no_directive() -> None:
    life = Life().visit().scraped().after(1000)
    assert life.resume()
    assert life.happened == []
    assert life.machine.wake_at() is None


# --- one drain --------------------------------------------------------------------------------------------------------


@BOTH
def test_an_idle_process_is_drained_at_floor_and_quiet_period(trigger: Callable[[Life], Life]) -> None:
    life = Life()
    trigger(life).after(FLOOR_S - 0.001)
    assert life.phases == [Phase.SERVING, Phase.PROPAGATING]
    assert life.shows(State.DRAINING)
    life.after(0.001)
    assert life.is_in(Phase.FINISHING)
    life.after(QUIET_S - 0.001)
    assert life.is_in(Phase.FINISHING)
    life.after(0.001)
    assert life.phases == TO_DRAINED
    assert life.shows(State.DRAINED)
    (finish,) = life.finishes
    assert (finish.outcome, finish.duration_s) == (Outcome.CLEAN, FLOOR_S + QUIET_S)
    assert finish.trigger is (Trigger.HTTP if trigger is Life.drain else Trigger.SIGTERM)


@BOTH
def test_work_in_flight_is_waited_for_and_its_end_is_the_drain_s(trigger: Callable[[Life], Life]) -> None:
    life = Life()
    work = life.begin()
    trigger(life).after(12)
    assert life.is_in(Phase.FINISHING)
    life.end(work)
    assert life.is_in(Phase.DRAINED)
    assert life.finishes[0].outcome is Outcome.CLEAN
    assert life.finishes[0].duration_s == 12


@BOTH
def test_at_the_deadline_the_rest_is_forced_and_counted(trigger: Callable[[Life], Life]) -> None:
    life = Life()
    life.begin()
    life.begin(Kind.WEBSOCKET)
    trigger(life).after(DEADLINE_S - 0.001)
    assert life.is_in(Phase.FINISHING)
    life.after(0.001)
    assert life.phases == TO_FORCED
    (finish,) = life.finishes
    assert (finish.outcome, finish.duration_s) == (Outcome.FORCED, DEADLINE_S)
    tally = life.ledger.tally
    assert tally is not None
    assert tally.aborted == {(Kind.HTTP, Ended.CUT): 1, (Kind.WEBSOCKET, Ended.CUT): 1}


def test_an_arrival_within_the_quiet_period_begins_it_anew() -> None:
    life = Life().drain().after(FLOOR_S + 0.5).visit().after(QUIET_S - 0.001)
    assert life.is_in(Phase.FINISHING)
    life.after(0.001)
    assert life.is_in(Phase.DRAINED)
    assert life.finishes[0].duration_s == FLOOR_S + 0.5 + QUIET_S


def test_arrivals_before_the_floor_do_not_shorten_the_quiet_period_after_it() -> None:
    life = Life().drain().after(FLOOR_S - 0.5).visit().after(0.5 + QUIET_S - 0.001)
    assert life.is_in(Phase.FINISHING)
    life.after(0.001)
    assert life.is_in(Phase.DRAINED)


def test_traffic_that_never_stops_is_insisted_on_only_until_the_quiet_limit() -> None:
    life = Life().drain()
    while not life.is_in(Phase.DRAINED):
        life.visit().after(0.25)
    assert life.finishes[0].duration_s == FLOOR_S + QUIET_LIMIT_S
    assert life.finishes[0].outcome is Outcome.STILL_ARRIVING


def test_who_sends_after_the_quiet_limit_while_work_is_in_flight_counts_and_who_has_stopped_does_not() -> None:
    def ends_after(seconds: float) -> Outcome:
        life = Life().drain().after(FLOOR_S)
        work = life.begin()
        life.after(QUIET_LIMIT_S + 1).visit().after(seconds).end(work)
        return life.finishes[0].outcome

    assert ends_after(QUIET_S - 0.001) is Outcome.STILL_ARRIVING
    assert ends_after(QUIET_S) is Outcome.CLEAN


def test_half_a_request_at_the_end_is_one_that_still_arrives() -> None:
    assert Life().half_a_head().drain().after(60).finishes[0].outcome is Outcome.STILL_ARRIVING


def test_who_is_in_a_hurry_learns_that_requests_still_came() -> None:
    assert Life().sigterm().after(2).visit().sigterm().finishes[0].outcome is Outcome.STILL_ARRIVING
    assert Life().visit().sigterm().after(2).sigterm().finishes[0].outcome is Outcome.CLEAN


def test_work_that_ends_after_the_quiet_limit_needs_no_further_quiet() -> None:
    life = Life().drain().after(FLOOR_S + QUIET_LIMIT_S - 0.1)
    work = life.begin()
    life.after(2).end(work)
    assert life.is_in(Phase.DRAINED)


def test_between_two_packets_of_a_head_it_is_not_quiet() -> None:
    life = Life().drain().after(4).half_a_head().after(4)
    assert life.is_in(Phase.FINISHING)
    life.rest_of_a_head()
    assert life.is_in(Phase.DRAINED)


def test_a_head_that_never_comes_is_waited_for_only_until_the_quiet_limit_and_by_nobody_in_a_hurry() -> None:
    life = Life().half_a_head().drain().after(FLOOR_S + QUIET_LIMIT_S)
    assert life.is_in(Phase.DRAINED)
    assert life.finishes[0].duration_s == FLOOR_S + QUIET_LIMIT_S
    assert Life().half_a_head().sigterm().after(1).sigterm().ending() == (1001, 0)


def test_idle_at_the_deadline_nothing_is_cut_but_without_quiet_it_is_not_clean() -> None:
    life = Life(quiet_limit_s=100).drain()
    while not life.is_in(Phase.DRAINED):
        life.visit().after(0.25)
    assert life.finishes[0].outcome is Outcome.STILL_ARRIVING
    assert life.finishes[0].duration_s == DEADLINE_S


def test_late_arrivals_are_counted_by_phase() -> None:
    life = Life().visit().drain().visit().after(FLOOR_S).visit().visit().after(QUIET_S).visit()
    tally = life.ledger.tally
    assert tally is not None
    assert (tally.arrivals, tally.completed) == (4, {Kind.HTTP: 4})
    assert tally.late == {Phase.FINISHING: 2, Phase.DRAINED: 1}
    assert tally.last_arrival_at == life.now


def test_a_zero_budget_ends_at_once() -> None:
    life = Life(propagation_delay_s=0, quiet_period_s=0, drain_timeout_s=0)
    life.begin()
    life.drain()
    assert life.phases == TO_FORCED
    assert life.finishes[0].duration_s == 0


# --- all who join -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [Life.drain, Life.sigterm])
@pytest.mark.parametrize("second", [Life.drain, Life.sigterm])
@pytest.mark.parametrize("at", [0, 3, FLOOR_S + 0.5, 20])
def test_whoever_comes_second_joins_the_same_drain(
    first: Callable[[Life], Life], second: Callable[[Life], Life], at: float
) -> None:
    life = Life()
    work = life.begin()
    first(life)
    deadline_at = life.machine.schedule and life.machine.schedule.deadline_at
    trigger = life.machine.trigger
    life.after(at)
    second(life)
    schedule = life.machine.schedule
    assert schedule is not None
    twice = first is second is Life.sigterm
    assert schedule.deadline_at == (min(life.now + HURRY_CAP_S, deadline_at or 0) if twice else deadline_at)
    assert life.machine.trigger is trigger
    life.after(1).end(work)
    life.after(60)
    assert len(life.finishes) == (2 if life.is_in(Phase.SERVING) else 1)
    assert life.finishes[0].outcome is Outcome.CLEAN


def test_triggers_that_come_before_the_machine_moves_are_one_drain_too() -> None:
    life = Life()
    life.settling = False
    life.drain()
    life.now += 1
    life.visit().sigterm().drain(Trigger.CLI)
    life.settling = True
    life.settle().after(FLOOR_S + QUIET_S)
    assert life.finishes[0].trigger is Trigger.HTTP
    assert life.machine.schedule is not None
    assert life.machine.schedule.started_at == 1000
    assert life.ledger.tally is not None
    assert life.ledger.tally.arrivals == 1


def test_many_callers_join_one_drain() -> None:
    life = Life()
    for _ in range(20):
        life.drain().after(0.1)
    life.after(FLOOR_S + QUIET_S)
    assert len(life.finishes) == 1
    assert life.finishes[0].duration_s == FLOOR_S + QUIET_S


def test_a_drain_after_the_drain_joins_its_result() -> None:
    life = Life(resume_after="never").drain().after(20)
    life.drain().after(1000)
    assert len(life.finishes) == 1
    assert life.phases == TO_DRAINED


# --- exit -------------------------------------------------------------------------------------------------------------


def test_without_sigterm_a_drained_process_stays() -> None:
    life = Life(resume_after="never").drain().after(10_000)
    assert not life.has_exited()


def test_classic_order_exit_when_the_app_has_gone_or_has_had_its_time() -> None:
    """preStop has drained, then SIGTERM to all containers at once."""
    life = Life().drain().after(6).sigterm().after(2)
    assert not life.has_exited()
    life.app(up=False)
    assert life.ending() == (1008, 0)
    life = Life().drain().after(6).sigterm().after(60)
    assert life.ending() == (1006 + APP_STOP_S, 0)


def test_sigterm_at_the_start_exit_when_the_app_has_gone_and_nobody_comes_any_more() -> None:
    life = Life().sigterm().after(3).app(up=False).after(60)
    assert life.ending() == (1000 + 3, 0)
    life = Life().sigterm().after(60)
    assert life.ending() == (1000 + FLOOR_S + QUIET_S + APP_STOP_S, 0)


def test_native_sidecar_order_exit_at_once_when_the_app_has_gone() -> None:
    life = Life(resume_after="auto").drain().after(8).app(up=False).after(5).sigterm()
    assert life.ending() == (1013, 0)


def test_work_that_came_late_keeps_the_process_from_leaving_early_and_not_for_longer() -> None:
    life = Life().drain().after(6)
    work = life.begin()
    life.sigterm().app(up=False).after(1)
    assert not life.has_exited()
    life.end(work)
    assert life.ending() == (1007, 0)
    life = Life().drain().after(6)
    life.begin()
    life.sigterm().app(up=False).after(60)
    assert life.ending() == (1006 + APP_STOP_S, 0)


def test_after_a_forced_drain_the_process_ends_within_a_second() -> None:
    life = Life()
    life.begin()
    life.sigterm().after(60)
    assert life.ending() == (1000 + DEADLINE_S + FORCED_EXIT_S, 0)
    assert FORCED_EXIT_S < 1


def test_sigterm_without_an_app_ends_after_one_quiet_period() -> None:
    """A finished Job's sidecar: nothing that arrives can be served any more."""
    life = Life().app(up=False).sigterm().after(QUIET_S - 0.001)
    assert not life.has_exited()
    life.after(0.001)
    assert life.outcome() is Outcome.CLEAN
    assert life.ending() == (life.now, 0)


def test_sigterm_to_a_process_whose_app_never_came_is_no_different() -> None:
    life = Life(up=False).sigterm().after(QUIET_S)
    assert life.has_exited()


def test_without_an_app_the_end_waits_for_one_quiet_period_after_the_last_arrival_and_the_floor_at_the_latest() -> None:
    life = Life().app(up=False).sigterm()
    begun_at = life.now
    life.after(0.5).visit().after(0.5).visit().after(QUIET_S)
    assert life.ending() == (begun_at + 1 + QUIET_S, 0)
    life = Life().app(up=False).sigterm()
    begun_at = life.now
    while not life.has_exited():
        life.after(0.25).visit()
    assert life.entered(Phase.DRAINED) <= begun_at + FLOOR_S + 0.25


def test_an_app_that_accepts_nobody_any_more_but_still_answers_is_waited_for() -> None:
    life = Life()
    work = life.begin()
    life.app(up=False).sigterm().after(2 * FLOOR_S)
    assert life.is_in(Phase.FINISHING)
    life.end(work)
    assert life.has_exited()


def test_an_app_that_is_back_after_sigterm_is_served_through_the_floor() -> None:
    life = Life().app(up=False).sigterm().after(QUIET_S / 2).app(up=True).after(FLOOR_S - 1)
    assert life.is_in(Phase.PROPAGATING)


def test_a_drain_call_without_sigterm_keeps_to_the_floor_though_the_app_is_gone() -> None:
    life = Life().drain().app(up=False).after(FLOOR_S - 0.001)
    assert life.is_in(Phase.PROPAGATING)


def test_a_process_that_was_frozen_past_the_grace_period_is_not_resumed_in_the_same_breath() -> None:
    life = Life().drain()
    life.begin()
    life.now += 10 * GRACE_S
    life.settle()
    assert life.phases == TO_FORCED
    life.after(APP_STOP_S + 0.5)
    assert life.is_in(Phase.DRAINED)
    life.after(0.5)
    assert life.is_in(Phase.SERVING)


def test_a_second_sigterm_skips_floor_and_quiet() -> None:
    life = Life().sigterm().after(1).sigterm()
    assert life.phases == TO_DRAINED
    assert life.ending() == (1001, 0)
    assert life.finishes[0].outcome is Outcome.CLEAN


def test_a_second_sigterm_leaves_five_seconds_to_what_is_in_flight() -> None:
    life = Life()
    work = life.begin()
    life.sigterm().after(1).sigterm().after(2).end(work)
    assert (life.ending(), life.finishes[0].outcome) == ((1003, 0), Outcome.CLEAN)
    life = Life()
    life.begin()
    life.sigterm().after(1).sigterm().after(60)
    assert (life.ending(), life.finishes[0].outcome) == ((1001 + HURRY_CAP_S, 0), Outcome.FORCED)


def test_more_sigterms_do_not_add_time() -> None:
    life = Life()
    life.begin()
    for _ in range(30):
        life.sigterm().after(1)
    assert life.ending() == (1001 + HURRY_CAP_S, 0)


def test_a_second_sigterm_after_the_drain_ends_the_process() -> None:
    life = Life().drain().after(6).sigterm().after(1).sigterm()
    assert life.ending() == (1007, 0)


def test_near_the_deadline_a_second_sigterm_does_not_move_it_later() -> None:
    life = Life()
    life.begin()
    life.sigterm().after(DEADLINE_S - 1).sigterm().after(60)
    assert life.finishes[0].duration_s == DEADLINE_S


def test_ctrl_c_is_as_a_second_sigterm() -> None:
    life = Life().sigint()
    assert (life.ending(), life.finishes[0].trigger) == ((1000, 0), Trigger.SIGINT)
    life = Life()
    life.begin()
    life.sigint().after(60)
    assert life.ending() == (1000 + HURRY_CAP_S, 0)
    life = Life()
    work = life.begin()
    life.drain().after(2).sigint().after(1).end(work)
    assert life.ending() == (1003, 0)
    life = Life()
    life.begin()
    life.sigterm().after(2).sigint().after(60)
    assert life.ending() == (1002 + HURRY_CAP_S, 0)


def test_ctrl_c_again_or_sigquit_exit_at_once_and_say_so() -> None:
    life = Life()
    life.begin()
    life.sigint().after(1).sigint()
    assert life.ending() == (1001, 130)
    life = Life()
    life.begin()
    life.sigquit()
    assert life.ending() == (1000, 131)
    life = Life()
    life.begin()
    assert life.sigterm().after(1).sigquit().ending() == (1001, 131)


def test_sigterm_after_ctrl_c_changes_nothing() -> None:
    life = Life()
    life.begin()
    life.sigint().after(2).sigterm().after(60)
    assert life.ending() == (1000 + HURRY_CAP_S, 0)


# --- one more scrape --------------------------------------------------------------------------------------------------


def test_the_process_stays_for_one_more_scrape_and_no_longer() -> None:
    def drained() -> Life:
        return Life(final_scrape_wait_s=10).sigterm().after(2).scraped().after(4).app(up=False).after(1)

    assert not drained().has_exited()
    assert drained().scraped().ending() == (1007, 0)
    assert drained().after(60).ending() == (1000 + FLOOR_S + QUIET_S + 10, 0)


def test_the_wait_for_a_scrape_stays_inside_the_grace_period() -> None:
    life = Life(final_scrape_wait_s=1000).sigterm().app(up=False).after(60)
    assert life.ending() == (1000 + GRACE_S - 1, 0)


def test_a_scrape_does_not_cut_the_app_s_own_time_short() -> None:
    life = Life(final_scrape_wait_s=1).sigterm().after(7).scraped()
    assert not life.has_exited()
    assert life.after(60).ending() == (1000 + FLOOR_S + QUIET_S + APP_STOP_S, 0)


def test_a_scrape_after_an_earlier_drain_does_not_count_for_this_one() -> None:
    life = Life(final_scrape_wait_s=10).drain().after(7).scraped()
    assert life.resume()
    life.sigterm().app(up=False).after(10)
    assert not life.has_exited()
    assert life.scraped().has_exited()


def scraped_every(seconds: float, life: Life, until: float) -> Life:
    """`/metrics` is read regularly, until a time behind the start."""
    while life.now - 1000 + seconds <= until:
        life.scraped().after(seconds)
    return life.after(until - life.now + 1000)


def forced(every_s: float, **options: Any) -> Life:
    """A drain that cuts something, and is scraped up to its end."""
    life = scraped_every(every_s, Life(**options), 2 * every_s)
    life.begin()
    return scraped_every(every_s, life.sigterm(), life.now - 1000 + DEADLINE_S)


def stays_s(life: Life) -> float:
    """How long the process lives behind its drain, if the app ends at once and nobody scrapes any more."""
    life.app(up=False).after(100)
    ending = life.ending()
    assert ending is not None
    return round(ending[0] - life.entered(Phase.DRAINED), 6)


def test_by_default_a_forced_drain_waits_for_the_next_scrape_and_a_clean_one_for_nobody() -> None:
    assert stays_s(forced(3)) == 3
    assert stays_s(scraped_every(3, scraped_every(3, Life(), 12).sigterm(), 12 + FLOOR_S + QUIET_S)) == 0
    life = forced(3).app(up=False).after(1).scraped()
    assert life.ending() == (life.entered(Phase.DRAINED) + 1, 0)


def test_the_last_values_wait_inside_the_grace_period_and_thirty_seconds_at_most() -> None:
    assert stays_s(forced(12)) == GRACE_S - 1 - DEADLINE_S
    assert stays_s(forced(12, grace_period_s=300, drain_timeout_s=DEADLINE_S)) == 12
    assert stays_s(forced(60, grace_period_s=300, drain_timeout_s=DEADLINE_S)) == 30


def test_nobody_is_waited_for_who_does_not_scrape_or_has_stopped() -> None:
    def cuts(life: Life) -> Life:
        life.begin()
        return life.sigterm().after(DEADLINE_S)

    assert stays_s(cuts(Life())) == 0
    assert stays_s(cuts(Life().scraped())) == 0
    assert stays_s(cuts(scraped_every(3, Life(), 12))) == 0


@pytest.mark.parametrize("ended", [each for each in Ended if each is not Ended.LOST])
@pytest.mark.parametrize("at", [1, FLOOR_S + 0.5])
def test_work_that_came_late_or_ended_badly_is_worth_a_scrape_and_a_refused_request_is_not(
    ended: Ended, at: float
) -> None:
    life = scraped_every(1, scraped_every(1, Life(), 12).sigterm(), 12 + at)
    life.process.end(life.begin(), ended)
    scraped_every(1, life, 12 + FLOOR_S + 0.5 + QUIET_S)
    assert life.is_in(Phase.DRAINED)
    dull = at < FLOOR_S and ended in (Ended.WELL, Ended.REFUSED)
    assert life.app(up=False).has_exited() is dull


def test_who_is_in_a_hurry_does_not_wait_for_a_scrape() -> None:
    assert Life(final_scrape_wait_s=10).sigterm().sigterm().ending() == (1000, 0)


# --- resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, FLOOR_S + 0.5, 10])
def test_resume_by_hand_goes_back_to_ready_from_any_phase(at: float) -> None:
    life = Life().drain().after(at)
    drained = life.is_in(Phase.DRAINED)
    assert life.resume()
    assert life.is_in(Phase.SERVING)
    assert life.shows(State.READY)
    assert [finish.outcome for finish in life.finishes] == [Outcome.CLEAN] * drained + [Outcome.RESUMED]
    assert life.machine.wake_at() is None
    assert life.outcome() is Outcome.RESUMED
    assert life.drain().outcome() is None
    life.after(6)  # and the next drain is a drain of its own
    assert life.finishes[-1].outcome is Outcome.CLEAN
    assert life.finishes[-1].duration_s == FLOOR_S + QUIET_S


def test_resume_leaves_what_is_in_flight_alone() -> None:
    life = Life()
    work = life.begin()
    life.drain().after(10)
    assert life.resume()
    life.end(work).after(100)
    assert life.phases[-1] is Phase.SERVING


@pytest.mark.parametrize("signal", [Life.sigterm, Life.sigint])
def test_resume_is_refused_after_a_signal_to_end(signal: Callable[[Life], Life]) -> None:
    life = Life()
    life.begin()
    signal(life)
    assert not life.resume()
    life.after(1)
    assert not life.resume()
    life.after(60)
    assert life.has_exited()
    assert Phase.SERVING not in life.phases[1:]


def test_resume_counts_the_drain_that_it_ends_and_those_before() -> None:
    life = Life().drain().visit()
    life.resume()
    life.visit().drain().visit()
    assert life.ledger.tally is not None
    assert life.ledger.tally.arrivals == 1
    assert life.ledger.total().arrivals == 2


def test_resume_that_comes_before_the_machine_moves_still_calls_the_drain_off() -> None:
    life = Life()
    life.settling = False
    life.drain()
    assert life.resume()
    life.settling = True
    life.settle().after(100)
    assert life.is_in(Phase.SERVING)
    assert [finish.outcome for finish in life.finishes] == [Outcome.RESUMED]


def test_resume_while_the_rest_is_being_cut_waits_for_the_cutting() -> None:
    life = Life()
    work = life.begin()
    life.drain().after(DEADLINE_S - 1)
    life.settling = False
    life.now += 1
    assert [str(each) for each in life.machine.advance(life.now)] == ["Enter(phase=<Phase.FORCING: 'forcing'>)"]
    assert life.machine.resume()
    life.ledger.leave(work, life.now, Ended.BROKEN)
    life.machine.advance(life.now)
    assert life.is_in(Phase.DRAINED)
    life.machine.advance(life.now)
    assert life.is_in(Phase.SERVING)


def test_sigterm_that_comes_with_a_resume_wins() -> None:
    """Else the process would serve on until it is killed."""

    def by_hand(life: Life) -> None:
        assert life.resume()

    def by_restart(life: Life) -> None:
        life.app(up=False).app(up=True)

    for call_off in (by_hand, by_restart):
        life = Life().drain().after(6)
        life.settling = False
        call_off(life)
        life.sigint()
        life.settling = True
        assert life.settle().ending() == (1006, 0)
        life = Life().drain().after(6)
        life.settling = False
        call_off(life)
        life.sigterm()
        life.settling = True
        life.settle().after(60)
        assert life.ending() == (1006 + APP_STOP_S, 0)


def test_an_app_that_went_and_came_back_after_the_drain_was_restarted_so_the_pod_stays() -> None:
    life = Life().drain().after(6).app(up=False).after(3)
    assert life.is_in(Phase.DRAINED)
    life.app(up=True)
    assert life.is_in(Phase.SERVING)
    assert "restarted" in life.finishes[-1].why


def test_an_app_that_was_gone_when_the_drain_ended_and_comes_back_was_restarted_too() -> None:
    life = Life().drain().after(3).app(up=False).after(3)
    assert life.is_in(Phase.DRAINED)
    life.after(1).app(up=True)
    assert life.is_in(Phase.SERVING)


def test_an_app_that_is_alive_after_the_grace_period_was_not_to_end() -> None:
    life = Life().drain().after(GRACE_S - 0.001)
    assert life.is_in(Phase.DRAINED)
    life.after(0.001)
    assert (life.machine.phase, life.finishes[-1].outcome) == (Phase.SERVING, Outcome.RESUMED)
    assert "grace period" in life.finishes[-1].why


def test_an_app_that_stays_away_is_waited_for() -> None:
    life = Life().drain().after(6).app(up=False).after(1000)
    assert life.is_in(Phase.DRAINED)
    assert life.machine.wake_at() is None
    life.app(up=True)
    assert life.is_in(Phase.SERVING)


def test_who_does_not_want_it_is_not_resumed_automatically() -> None:
    life = Life(resume_after="never").drain().after(6).app(up=False).app(up=True).after(1000)
    assert life.is_in(Phase.DRAINED)
    assert life.resume()
    assert life.is_in(Phase.SERVING)


@pytest.mark.parametrize("signal", [Life.sigterm, Life.sigint])
def test_a_drain_by_signal_is_never_resumed_automatically(signal: Callable[[Life], Life]) -> None:
    life = Life(app_stop_time_s=1)
    signal(life).after(6).app(up=False).app(up=True).after(1000)
    assert life.has_exited()
    assert Phase.SERVING not in life.phases[1:]


def test_sigterm_long_after_a_resume_is_a_drain_of_its_own() -> None:
    life = Life().drain().after(GRACE_S).after(500)
    assert life.is_in(Phase.SERVING)
    life.sigterm().after(60)
    assert life.finishes[-1].duration_s == FLOOR_S + QUIET_S
    assert life.has_exited()


def test_sigterm_long_after_the_drain_gives_the_app_its_time_and_no_more() -> None:
    life = Life(resume_after="never", final_scrape_wait_s=10).drain().after(1000).sigterm().after(60)
    assert life.ending() == (2000 + APP_STOP_S, 0)


# --- whatever happens -------------------------------------------------------------------------------------------------

DURATIONS = st.sampled_from([0.0, 0.001, 0.5, 1.0, 5.0, 9.0])


class AnyLife(RuleBasedStateMachine):
    """Facts in any order at any time. What must hold always is checked by Life after each of them."""

    @initialize(
        floor_s=DURATIONS,
        quiet_s=DURATIONS,
        quiet_limit_s=DURATIONS,
        scrape_s=DURATIONS | st.just(AUTO),
        app_stop_s=DURATIONS,
        resume_after=st.sampled_from(["auto", "never"]),
        up=st.booleans(),
    )
    def born(
        self,
        floor_s: float,
        quiet_s: float,
        quiet_limit_s: float,
        scrape_s: float,
        app_stop_s: float,
        resume_after: str,
        up: bool,
    ) -> None:
        self.life = Life(
            up=up,
            propagation_delay_s=floor_s,
            quiet_period_s=quiet_s,
            quiet_limit_s=quiet_limit_s,
            final_scrape_wait_s=scrape_s,
            app_stop_time_s=app_stop_s,
            resume_after=resume_after,
        )
        self.signalled_at: float | None = None
        self.hurried_at: float | None = None
        self.triggered_at: float | None = None

    @precondition(lambda self: self.life.exited is None)
    @rule(soon=st.booleans())
    def together(self, soon: bool) -> None:
        """Whether the next facts come before the machine may move."""
        self.life.settling = not soon
        self.life.settle()

    @precondition(lambda self: self.life.exited is None)
    @rule(trigger=st.sampled_from([Trigger.HTTP, Trigger.CLI]))
    def drain(self, trigger: Trigger) -> None:
        self._triggered()
        self.life.drain(trigger)

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def sigterm(self) -> None:
        self._triggered()
        if self.signalled_at is not None:
            self._hurried()
        self._signalled()
        self.life.sigterm()

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def sigint(self) -> None:
        self._triggered()
        self._signalled()
        self._hurried()
        self.life.sigint()

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def resume(self) -> None:
        assert self.life.resume() is (self.signalled_at is None)

    @precondition(lambda self: self.life.exited is None)
    @rule(up=st.booleans(), healthy=st.booleans())
    def look(self, up: bool, healthy: bool) -> None:
        self.life.app(up=up, healthy=up and healthy)

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def scrape(self) -> None:
        self.life.scraped()

    @precondition(lambda self: self.life.exited is None)
    @rule(kind=st.sampled_from(Kind))
    def arrive(self, kind: Kind) -> None:
        self.life.begin(kind)

    @precondition(lambda self: self.life.exited is None and self.life.open)
    @rule(completed=st.booleans(), which=st.integers(0, 100))
    def leave(self, completed: bool, which: int) -> None:
        work: Work = self.life.open[which % len(self.life.open)]
        self.life.end(work, completed=completed)

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def half_a_head(self) -> None:
        self.life.half_a_head()

    @precondition(lambda self: self.life.exited is None and self.life.heads)
    @rule()
    def rest_of_a_head(self) -> None:
        self.life.rest_of_a_head()

    @precondition(lambda self: self.life.exited is None)
    @rule()
    def ask(self) -> None:
        self.life.ledger.farewell_begun()

    @precondition(lambda self: self.life.exited is None and self.life.ledger.farewells)
    @rule()
    def answer(self) -> None:
        self.life.ledger.farewell_ended()
        self.life.settle()

    @precondition(lambda self: self.life.exited is None)
    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 1.0, 4.0, 12.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.life.settling = True
        self.life.settle().after(seconds)

    @precondition(lambda self: self.life.exited is not None)
    @rule()
    def over(self) -> None:
        """Nothing follows."""

    @invariant()
    def one_result_a_drain(self) -> None:
        drains = self.life.phases.count(Phase.PROPAGATING)
        outcomes = [finish.outcome for finish in self.life.finishes]
        assert len(outcomes) - outcomes.count(Outcome.RESUMED) == self.life.phases.count(Phase.DRAINED)
        assert outcomes.count(Outcome.RESUMED) == self.life.phases[1:].count(Phase.SERVING) <= drains

    def teardown(self) -> None:
        life = getattr(self, "life", None)
        if life is None:
            return
        life.settling = True
        life.settle()
        if life.exited is None:
            self._triggered()
            if self.signalled_at is None:
                self._signalled()
                life.sigterm()
            life.after(200)
        assert life.exited is not None, f"never ends: {life.machine.phase}"
        at, code = life.exited
        grace_s, stop_s = life.config.grace_period_s, life.config.app_stop_time_s
        assert self.signalled_at is not None
        assert self.triggered_at is not None
        assert code == 130 or at <= max(self.triggered_at + grace_s - 1, self.signalled_at + stop_s) + 1e-9
        assert code == 130 or self.hurried_at is None or at <= self.hurried_at + HURRY_CAP_S + 1e-9

    def _triggered(self) -> None:
        if self.life.machine.schedule is None:
            self.triggered_at = self.life.now

    def _signalled(self) -> None:
        if self.signalled_at is None:
            self.signalled_at = self.life.now

    def _hurried(self) -> None:
        if self.hurried_at is None:
            self.hurried_at = self.life.now


@pytest.mark.slow
def test_no_order_of_facts_breaks_a_rule_and_after_sigterm_it_always_ends_in_the_budget() -> None:
    run_state_machine_as_test(
        AnyLife, settings=settings(max_examples=120, stateful_step_count=25, deadline=None, derandomize=True)
    )


# The last call.


def calls(life: Life) -> list[float]:
    """When everybody was asked to go, seconds after the trigger."""
    return [each.at - 1000 for each in life.happened if isinstance(each.directive, LastCall)]


def asked_and_silent(**options: Any) -> Life:
    """A connection was asked at the floor, and has not answered. The drain's first second after it has passed."""
    life = Life(**options).drain().after(FLOOR_S)
    life.ledger.farewell_begun()
    return life.after(QUIET_S)


def answered(life: Life) -> Life:
    """The connection has answered."""
    life.ledger.farewell_ended()
    return life.settle()


def test_the_drain_ends_when_all_who_were_asked_have_answered() -> None:
    life = asked_and_silent().after(0.4)
    assert (life.is_in(Phase.FINISHING), calls(life)) == (True, [FLOOR_S + QUIET_S])
    assert answered(life).is_in(Phase.DRAINED)
    assert life.finishes[0].duration_s == pytest.approx(FLOOR_S + QUIET_S + 0.4)


def test_answers_are_awaited_for_one_quiet_period_and_not_beyond_the_deadline() -> None:
    life = asked_and_silent().after(QUIET_S - 0.001)
    assert life.is_in(Phase.FINISHING)
    assert life.after(0.001).is_in(Phase.DRAINED)
    assert life.finishes[0].outcome is Outcome.CLEAN
    short = asked_and_silent(drain_timeout_s=6.5).after(0.5)
    assert short.entered(Phase.DRAINED) == 1006.5


def test_what_was_sent_before_the_client_knew_is_finished_first_and_then_everybody_is_asked_again() -> None:
    life = asked_and_silent().after(0.1)
    crossing = life.begin()
    answered(life).after(3)
    assert life.is_in(Phase.FINISHING)
    life.end(crossing)
    assert life.is_in(Phase.DRAINED)
    assert calls(life) == pytest.approx([6, 9.1])


def test_after_the_quiet_limit_one_call_is_the_last_however_much_arrives() -> None:
    life = Life().drain().after(FLOOR_S)
    held = life.begin()
    life.after(QUIET_LIMIT_S + 2)
    life.ledger.farewell_begun()
    life.end(held)
    for _ in range(9):
        life.visit().after(0.1)
    assert life.is_in(Phase.FINISHING)
    life.after(0.1)
    assert life.is_in(Phase.DRAINED)
    assert calls(life) == [FLOOR_S + QUIET_LIMIT_S + 2]


def test_every_drain_has_a_last_call_of_its_own() -> None:
    life = Life(resume_after="never").drain().after(10)
    assert life.resume()
    life.drain().after(10)
    assert calls(life) == [6, 16]


def test_the_figures_of_these_tests_are_the_defaults() -> None:
    config = Config()
    assert (config.propagation_delay_s, config.quiet_period_s, config.quiet_limit_s) == (
        FLOOR_S,
        QUIET_S,
        QUIET_LIMIT_S,
    )
    assert (config.budget_s, config.app_stop_time_s, config.grace_period_s) == (DEADLINE_S, APP_STOP_S, GRACE_S)
    assert replace(config, drain_timeout_s=7.0).budget_s == 7
