"""What is in flight, and what became of it? Admitting and counting are one step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.drain.ledger import BY, MOST_NAMED, Ended, Kind, Ledger, Work
from drainproxy.drain.phase import Phase


def work(kind: Kind = Kind.HTTP) -> Work:
    return Work(kind, "client")


def test_work_is_open_from_enter_to_leave() -> None:
    ledger = Ledger()
    first, second = work(), work(Kind.TCP)
    ledger.enter(first, 1.0)
    ledger.enter(second, 2.0)
    assert not ledger.idle
    assert ledger.count() == {Kind.HTTP: 1, Kind.TCP: 1}
    ledger.leave(first, 5.0, Ended.WELL)
    assert ledger.count() == {Kind.TCP: 1}
    ledger.leave(second, 5.0, Ended.CUT)
    assert ledger.count() == {}


def test_the_oldest_come_first_also_when_a_connection_s_work_comes_again() -> None:
    ledger = Ledger()
    keep_alive, other = work(), work()
    ledger.enter(keep_alive, 1.0)
    ledger.enter(other, 2.0)
    ledger.leave(keep_alive, 5.0, Ended.WELL)
    ledger.enter(keep_alive, 3.0)
    assert list(ledger.oldest(20)) == [other, keep_alive]
    assert [each.started_at for each in ledger.oldest(1)] == [2.0]
    assert list(ledger.oldest(0)) == []


def test_what_leaves_twice_is_a_bug_and_not_a_count() -> None:
    ledger = Ledger()
    once = work()
    ledger.enter(once, 1.0)
    ledger.leave(once, 5.0, Ended.WELL)
    with pytest.raises(KeyError):
        ledger.leave(once, 5.0, Ended.WELL)


def test_without_a_drain_nothing_is_tallied_and_nobody_is_called() -> None:
    ledger = Ledger()
    calls: list[int] = []
    ledger.on_idle = lambda: calls.append(1)
    once = work()
    ledger.enter(once, 1.0)
    ledger.leave(once, 5.0, Ended.WELL)
    assert ledger.tally is None
    assert not calls
    assert ledger.total().arrivals == 0


def test_in_a_drain_the_last_to_leave_is_told_of() -> None:
    ledger = Ledger()
    calls: list[int] = []
    ledger.on_idle = lambda: calls.append(1)
    ledger.begin()
    first, second = work(), work()
    ledger.enter(first, 1.0)
    ledger.enter(second, 1.0)
    ledger.leave(first, 5.0, Ended.WELL)
    assert calls == []
    ledger.leave(second, 5.0, Ended.WELL)
    assert calls == [1]


@pytest.mark.parametrize("phase", Phase)
def test_an_arrival_is_late_once_the_floor_has_passed(phase: Phase) -> None:
    ledger = Ledger()
    ledger.begin()
    ledger.phase = phase
    ledger.enter(work(), 7.0)
    assert ledger.tally is not None
    late = phase in (Phase.FINISHING, Phase.FORCING, Phase.DRAINED)
    assert ledger.tally.late == ({phase: 1} if late else {})
    assert (ledger.tally.arrivals, ledger.tally.last_arrival_at) == (1, 7.0)


def test_what_was_in_flight_at_the_trigger_counts_as_completed_and_not_as_arrival() -> None:
    ledger = Ledger()
    before = work()
    ledger.enter(before, 1.0)
    ledger.begin()
    ledger.leave(before, 5.0, Ended.WELL)
    assert ledger.tally is not None
    assert (ledger.tally.arrivals, ledger.tally.last_arrival_at) == (0, None)
    assert ledger.tally.completed == {Kind.HTTP: 1}


def test_work_that_was_upgraded_leaves_as_what_it_became() -> None:
    ledger = Ledger()
    ledger.begin()
    upgraded = work()
    ledger.enter(upgraded, 1.0)
    upgraded.kind = Kind.WEBSOCKET
    assert ledger.count() == {Kind.WEBSOCKET: 1}
    ledger.leave(upgraded, 5.0, Ended.CUT)
    assert ledger.tally is not None
    assert ledger.tally.aborted == {(Kind.WEBSOCKET, Ended.CUT): 1}


def named(number: int) -> Work:
    each = work()
    each.method, each.target = "GET", f"/{number}"
    return each


def test_of_what_the_deadline_cuts_the_oldest_are_remembered_by_name_and_all_are_counted() -> None:
    ledger = Ledger()
    ledger.begin()
    ledger.phase = Phase.FORCING
    open_work = [named(number) for number in range(8)]
    for number, each in enumerate(open_work):
        ledger.enter(each, float(number))
    for each in reversed(open_work):
        ledger.leave(each, 10.0, Ended.CUT)
    assert ledger.tally is not None
    cut = ledger.tally.cut
    assert cut.count == 8
    assert [(loss.target, loss.age_s) for loss in cut.oldest] == [(f"/{n}", 10.0 - n) for n in range(MOST_NAMED)]
    open_work[0].target = "/the next on this connection"
    assert cut.oldest[0].target == "/0", "work is used again: what was lost is kept as it was"


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("ended", [each for each in Ended if each is not Ended.LOST])
def test_cut_is_what_the_deadline_ends_and_lost_is_what_fails_once_the_app_may_stop(phase: Phase, ended: Ended) -> None:
    ledger = Ledger()
    ledger.begin()
    ledger.phase = phase
    once = work()
    ledger.enter(once, 1.0)
    ledger.leave(once, 2.0, ended)
    tally = ledger.tally
    assert tally is not None
    over = phase is Phase.DRAINED
    assert tally.cut.count == (ended is Ended.CUT and not over)
    assert tally.lost.count == (ended in (Ended.CUT, Ended.BROKEN) and over)
    assert tally.completed.total() == (ended is Ended.WELL)
    assert tally.aborted.total() == (ended is not Ended.WELL)
    assert tally.count(Ended.LOST) == tally.lost.count


def test_for_every_end_that_is_not_well_somebody_is_named() -> None:
    assert set(BY) == set(Ended) - {Ended.WELL}


def test_the_end_of_a_drain_that_did_not_run_changes_nothing() -> None:
    ledger = Ledger()
    ledger.end()
    assert ledger.total().arrivals == 0


STEPS = st.lists(
    st.sampled_from(["begin", "end", "arrive", "complete", "abort", *Phase]) | st.sampled_from(Kind), max_size=60
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(STEPS)
def test_totals_are_what_happened_in_drains_and_never_go_down(steps: list[str | Phase | Kind]) -> None:
    ledger = Ledger()
    open_work: list[Work] = []
    arrivals = completed = aborted = late = 0
    before = (0, 0, 0, 0)
    kind = Kind.HTTP
    for now, step in enumerate(steps):
        counting = ledger.tally is not None
        if isinstance(step, Kind):
            kind = step
        elif isinstance(step, Phase):
            ledger.phase = step
        elif step == "begin" and not counting:
            ledger.begin()
        elif step == "end":
            ledger.end()
        elif step == "arrive":
            open_work.append(work(kind))
            ledger.enter(open_work[-1], float(now))
            arrivals += counting
            late += counting and ledger.phase in (Phase.FINISHING, Phase.FORCING, Phase.DRAINED)
        elif open_work and step in ("complete", "abort"):
            ledger.leave(open_work.pop(0), float(now), Ended.WELL if step == "complete" else Ended.DEPARTED)
            completed += counting and step == "complete"
            aborted += counting and step == "abort"
        total = ledger.total()
        seen = (total.arrivals, total.late.total(), total.completed.total(), total.aborted.total())
        assert seen == (arrivals, late, completed, aborted)
        assert all(now >= then for now, then in zip(seen, before, strict=True))
        assert ledger.idle is not bool(open_work)
        assert ledger.count().total() == len(open_work)
        before = seen


def test_the_last_answer_to_a_farewell_is_told_of_during_a_drain() -> None:
    ledger, told = Ledger(), []
    ledger.on_idle = lambda: told.append(ledger.farewells)
    ledger.farewell_begun()
    ledger.farewell_ended()
    assert told == []
    ledger.begin()
    ledger.farewell_begun()
    ledger.farewell_begun()
    ledger.farewell_ended()
    assert told == []
    ledger.farewell_ended()
    assert told == [0]


def test_work_of_another_process_of_the_service_is_waited_for_and_its_end_is_told_of() -> None:
    ledger, told = Ledger(), list[str]()
    ledger.on_idle = lambda: told.append("idle")
    ledger.also_elsewhere(there=True)
    ledger.begin()
    assert (ledger.idle, ledger.idle_here, told) == (False, False, [])
    ledger.also_elsewhere(there=False)
    assert (ledger.idle, ledger.idle_here, told) == (True, True, ["idle"])
