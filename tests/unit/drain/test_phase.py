"""Which phase may follow which? The table, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import drainproxy
from drainproxy.drain.phase import DRAINING, LATE, NEXT, Outcome, Phase, State, Trigger
from drainproxy.tools.docs.drain_page import TRANSITIONS, meanings, page


def test_every_phase_leads_on_and_none_to_itself() -> None:
    assert set(NEXT) == set(Phase)
    for phase, following in NEXT.items():
        assert following
        assert phase not in following


def test_forward_there_is_one_order_and_back_only_to_serving() -> None:
    order = list(Phase)
    for phase, following in NEXT.items():
        for other in following - {Phase.SERVING}:
            assert order.index(other) > order.index(phase)


def test_every_drain_can_end() -> None:
    for phase in Phase:
        reached = {phase}
        while more := set().union(*(NEXT[each] for each in reached)) - reached:
            reached |= more
        assert Phase.DRAINED in reached


def test_cutting_is_never_called_off_half_way() -> None:
    assert NEXT[Phase.FORCING] == {Phase.DRAINED}


def test_draining_is_what_is_neither_serving_nor_drained() -> None:
    assert set(Phase) - {Phase.SERVING, Phase.DRAINED} == DRAINING
    assert set(Phase) - {Phase.SERVING, Phase.PROPAGATING} == LATE


def test_words_that_scripts_and_dashboards_know_do_not_change() -> None:
    assert [each.value for each in Phase] == ["serving", "propagating", "finishing", "forcing", "drained"]
    assert [each.value for each in State] == ["starting", "ready", "unready", "draining", "drained"]
    assert [each.value for each in Trigger] == ["http", "cli", "sigterm", "sigint", "upgrade"]
    assert [each.value for each in Outcome] == ["clean", "still-arriving", "forced", "resumed"]


def test_the_page_gives_a_reason_for_each_step_of_the_table_and_for_no_other() -> None:
    assert set(TRANSITIONS) == {(phase, other) for phase, following in NEXT.items() for other in following}
    text = page()
    for (phase, other), why in TRANSITIONS.items():
        assert f"    {phase.value} --> {other.value}: {why}\n" in text
    for word in (*Phase, *State, *Trigger, *Outcome):
        assert f"`{word.value}`" in text
    assert [phase for phase, _ in meanings()] == list(Phase)
    assert all(meaning.endswith(".") for _, meaning in meanings())


def test_the_page_is_up_to_date() -> None:
    made = Path(drainproxy.__file__).parent.parent / "docs" / "drain.md"
    assert made.read_text(encoding="utf-8") == page(), "run `python -m drainproxy.tools.docs`"
