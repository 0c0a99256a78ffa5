"""Who carries out what the drain machine decides? Facts in, effects out, one timer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from drainproxy.config.options import Config
from drainproxy.config.values import parse_hook, parse_successor
from drainproxy.drain.announcement import Occasion, Told
from drainproxy.drain.ledger import Ended
from drainproxy.drain.phase import Outcome, Phase, State, Trigger
from drainproxy.drain.release import Answer
from drainproxy.drain.turns import ASK_AGAIN_S
from tests.support.process import GONE, ILL, WELL, ScriptedConnection, ScriptedProcess

if TYPE_CHECKING:
    from pathlib import Path

START = 1000.0
# The defaults: floor 5 s, quiet 1 s, deadline 24 s, app stop 5 s.
FLOOR, DRAINED, DEADLINE = START + 5, START + 6, START + 24


def process(*, routes: int = 1, **options: object) -> ScriptedProcess:
    """One whose app is well."""
    made = ScriptedProcess(Config(**options), routes=routes)  # type: ignore[arg-type]  # the options of this test
    made.look(*[WELL] * routes)
    return made


def asked(connections: list[ScriptedConnection]) -> list[float]:
    """When each was asked first, seconds after the floor."""
    return [round(connection.asked[0] - FLOOR, 6) for connection in connections]


def test_each_route_is_told_what_the_health_check_of_its_own_app_has_seen() -> None:
    one = process(routes=2)
    one.look(WELL, GONE)
    assert [route.listener.reachable for route in one.routes] == [True, False]


# Turns.


def test_idle_connections_are_asked_within_half_of_the_quiet_period_and_busy_ones_within_close_spread() -> None:
    one = process(close_spread_s=8.0)
    held = one.begin()
    idle = [one.routes[0].connect(f"idle {n}") for n in range(4)]
    busy = [one.routes[0].connect(f"busy {n}", idle=False) for n in range(4)]
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(4.999)
    assert not any(connection.asked for connection in idle + busy), "before the floor"
    one.clock.advance(10)
    assert sorted(asked(idle)) == [0, 0.125, 0.25, 0.375]
    assert sorted(asked(busy)) == [0, 2, 4, 6]
    one.end(held)


def test_connections_of_all_routes_take_turns_together() -> None:
    one = process(routes=2, close_spread_s=8.0)
    one.begin()
    busy = [route.connect("busy", idle=False) for route in one.routes]
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(15)
    assert sorted(asked(busy)) == [0, 4]


def test_whoever_was_not_asked_is_asked_at_the_end_of_the_drain() -> None:
    one = process(close_spread_s=10.0)
    late = [one.routes[0].connect(f"late {n}", idle=False) for n in range(3)]
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(5.1)
    new = one.routes[0].connect("new")
    one.clock.advance(0.9)
    assert one.machine.phase is Phase.DRAINED
    assert sorted(asked(late)) == [0, 1, 1]
    assert asked([new]) == [1]


def test_one_more_turn_is_taken_in_time_however_far_the_next_is() -> None:
    one = process()
    one.begin()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(7)
    again = one.routes[0].connect("again", idle=False)
    one.turns.again(again, one.clock.time())  # type: ignore[arg-type]  # a connection of these tests
    one.clock.advance(ASK_AGAIN_S)
    assert again.asked == [START + 8]


def test_turns_of_a_drain_that_was_called_off_are_not_taken_in_the_next() -> None:
    one = process(close_spread_s=15.0)
    held = one.begin()
    busy = [one.routes[0].connect(f"busy {n}", idle=False) for n in range(5)]
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(5)
    assert sum(len(connection.asked) for connection in busy) == 1
    one.supervisor.resume()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(4.999)
    assert sum(len(connection.asked) for connection in busy) == 1, "before the floor of the second drain"
    one.end(held)


def test_a_connection_that_was_busy_until_the_last_moment_is_asked_and_its_answer_awaited() -> None:
    one = process(close_spread_s=10.0)
    both = [one.routes[0].connect(name, idle=False, answers=True) for name in "ab"]
    held = one.begin()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(6)
    first, late = sorted(both, key=lambda connection: not connection.asked)
    first.answer()
    late.idle = True
    one.end(held)
    assert late.asked == [DRAINED]
    assert one.machine.drained_at is None, "what it sent before it knew may still come"
    crossing = one.begin()
    late.answer()
    one.clock.advance(2)
    assert one.machine.drained_at is None
    one.end(crossing)
    assert one.machine.drained_at == DRAINED + 2


def test_after_the_last_call_the_loop_reads_once_what_waits_in_the_sockets() -> None:
    one = process()
    one.supervisor.drain(Trigger.HTTP)
    held = one.begin()
    one.clock.advance(6)
    one.ledger.leave(held, one.clock.time(), Ended.WELL)
    one.clock.turn()  # the last call
    one.clock.turn()  # the loop reads in this one, or between it and the next
    assert one.machine.drained_at is None
    crossing = one.begin()
    one.clock.run()
    assert one.machine.drained_at is None
    one.end(crossing)
    one.clock.advance(1)
    assert one.machine.drained_at == DRAINED + 1


# Siblings answer what comes.


def test_who_has_the_app_to_itself_takes_turns_as_soon_as_siblings_have_answered() -> None:
    one = process(successor=parse_successor("web:80"), close_spread_s=4.0)
    held = one.begin()
    bound = [one.routes[0].connect(f"bound {n}", idle=False) for n in range(4)]
    idle = one.routes[0].connect("idle")
    one.supervisor.drain(Trigger.HTTP)
    for _ in range(3):
        one.routes[0].listener.asked.pop()(Answer.READY)
    assert one.routes[0].listener.diverting
    one.clock.advance(2.5)
    assert [len(each.asked) for each in bound].count(1) == 3
    last = next(each for each in bound if not each.asked)
    last.idle = True
    one.clock.advance(2.4)
    assert not last.asked, "it has answered meanwhile, and its client may be about to ask again"
    assert not idle.asked
    one.clock.advance(1)
    assert last.asked
    assert idle.asked, "after the floor, as ever"
    one.end(held)


def test_a_proof_that_fails_gives_the_app_its_requests_back() -> None:
    one = process(successor=parse_successor("web:80"))
    held = one.begin()
    one.supervisor.drain(Trigger.HTTP)
    for _ in range(3):
        one.routes[0].listener.asked.pop()(Answer.READY)
    one.clock.advance(1)
    one.routes[0].listener.asked.pop()(Answer.NOBODY)
    assert not one.routes[0].listener.diverting
    one.end(held)
    assert one.machine.let_go_at is None


def test_who_waits_is_answered_when_the_app_may_stop_and_the_summary_follows_at_the_end() -> None:
    one = process(successor=parse_successor("web:80"))
    one.supervisor.drain(Trigger.HTTP)
    for _ in range(3):
        one.routes[0].listener.asked.pop()(Answer.READY)
    one.clock.run()
    summary = one.view.last_drain
    assert summary is not None
    assert (summary["outcome"], summary["let_go_s"], summary["released"]) == ("clean", 0.0, True)
    assert one.machine.phase is Phase.PROPAGATING
    assert one.meter.drains.total() == 0
    one.clock.advance(6)
    assert one.meter.drains.total() == 1


# Phases, and the end of a drain.


def test_every_route_hears_of_every_phase_in_order() -> None:
    one = process(routes=2)
    one.begin()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(25)
    for route in one.routes:
        assert route.listener.phases == [Phase.PROPAGATING, Phase.FINISHING, Phase.FORCING, Phase.DRAINED]
    assert one.machine.outcome is Outcome.FORCED
    assert one.ledger.idle


def test_the_last_work_that_ends_ends_the_drain_without_waiting_for_a_timer() -> None:
    one = process()
    held = one.begin()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(10)
    assert one.machine.drained_at is None
    one.end(held)
    assert one.machine.drained_at == START + 10


def test_there_is_one_timer_at_most() -> None:
    one = process(close_spread_s=5.0)
    for n in range(10):
        one.routes[0].connect(f"{n}", idle=n % 2 == 0)
    assert one.clock.armed == []
    one.supervisor.drain(Trigger.HTTP)
    while one.clock.time() < START + 40:
        assert len(one.clock.armed) <= 1
        one.look(WELL)
        one.clock.advance(0.5)


def test_what_a_drain_left_is_told_of_before_its_counts_are_put_away(tmp_path: Path) -> None:
    message = tmp_path / "termination"
    one = process(termination_log=str(message))
    one.supervisor.drain(Trigger.CLI)
    one.end(one.begin())
    one.clock.advance(1)
    one.supervisor.resume()
    assert one.view.last_drain is not None
    assert one.view.last_drain["completed"] == 1
    assert one.view.last_drain["outcome"] == "resumed"
    assert "drain called off" in message.read_text(encoding="utf-8")
    assert one.ledger.tally is None
    assert one.meter.drains[(Trigger.CLI, Outcome.RESUMED)] == 1


async def test_all_who_wait_for_a_drain_learn_its_end_and_nobody_that_of_the_one_before() -> None:
    one = process()
    one.supervisor.drain(Trigger.HTTP)
    waiting = [asyncio.create_task(one.supervisor.finished()) for _ in range(2)]
    await asyncio.sleep(0)
    one.clock.advance(10)
    assert [(await each).outcome for each in waiting] == [Outcome.CLEAN] * 2
    assert (await one.supervisor.finished()).outcome is Outcome.CLEAN, "over, and still known"
    one.supervisor.resume()
    one.supervisor.drain(Trigger.HTTP)
    later = asyncio.create_task(one.supervisor.finished())
    await asyncio.sleep(0)
    assert not later.done()
    one.supervisor.resume()
    assert (await later).outcome is Outcome.RESUMED


async def test_who_gives_up_waiting_spoils_it_for_nobody() -> None:
    one = process()
    one.supervisor.drain(Trigger.HTTP)
    gone, stays = [asyncio.create_task(one.supervisor.finished()) for _ in range(2)]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    one.clock.advance(10)
    assert (await stays).outcome is Outcome.CLEAN


# The app, and the end of the process.


def test_the_app_is_there_if_one_is_and_well_if_all_are() -> None:
    one = ScriptedProcess(routes=2)
    one.look(WELL, GONE)
    assert (one.machine.reachable, one.machine.healthy) == (True, False)
    one.look(WELL, ILL)
    assert (one.machine.reachable, one.machine.healthy) == (True, False)
    one.look(WELL, WELL)
    assert (one.machine.reachable, one.machine.healthy) == (True, True)
    one.look(GONE, GONE)
    assert (one.machine.reachable, one.machine.healthy) == (False, False)


def test_the_readiness_gate_is_looked_at_with_the_app(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = process(ready_gate=str(gate))
    assert one.machine.gate == f"gate {gate} does not exist"
    assert one.machine.state is State.UNREADY
    gate.write_text("true", encoding="utf-8")
    one.look(WELL)
    assert one.machine.state.value == "ready"


def test_the_app_is_looked_at_often_once_it_may_be_stopped_and_as_usual_before_and_after_a_resume() -> None:
    one = process(routes=2)
    paces = [route.monitor for route in one.routes]
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(5)
    assert {each.pace for each in paces} == {"usual"}
    one.clock.advance(1)
    assert {each.pace for each in paces} == {"often"}
    one.look(WELL, WELL)
    assert {each.pace for each in paces} == {"often"}
    one.supervisor.resume()
    one.look(WELL, WELL)
    assert {each.pace for each in paces} == {"usual"}
    one.supervisor.terminate()
    assert {each.pace for each in paces} == {"often"}


def test_the_app_is_stopped_when_sigterm_was_received_and_nothing_is_in_flight() -> None:
    one = process()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(10)
    assert one.app_stops == 0
    one.supervisor.terminate()
    assert one.app_stops > 0
    assert one.exited() is None
    one.look(GONE)
    assert one.exited() == 0


@pytest.mark.parametrize("told", [False, True])
def test_the_process_ends_with_its_child_unless_the_child_was_told_to(told: bool) -> None:
    one = process()
    if told:
        one.supervisor.terminate()
        one.clock.advance(6)
    one.supervisor.app_ended(7)
    assert one.exited() == (None if told else 7)


def test_signals_end_the_process_each_with_its_own_code_and_the_first_stands() -> None:
    one = process()
    one.supervisor.quit()
    assert one.exited() == 131
    one.supervisor.interrupt()
    one.supervisor.app_ended(7)
    assert one.exited() == 131
    two = process()
    two.begin()
    two.supervisor.interrupt()
    assert two.exited() is None
    two.supervisor.interrupt()
    assert two.exited() == 130


def test_after_the_last_scrape_of_a_terminated_process_it_ends() -> None:
    one = process(final_scrape_wait_s=10.0, app_stop_time_s=1.0)
    one.supervisor.terminate()
    one.clock.advance(8)
    assert one.exited() is None
    one.supervisor.scraped()
    one.clock.run()
    assert one.exited() == 0


# What is seen of it.


def test_the_view_tells_of_every_route_and_since_when_the_state_is() -> None:
    one = process(routes=2)
    one.look(WELL, ILL)
    assert [(view.listen, view.healthy) for view in one.view.upstreams()] == [(":9080", True), (":9081", False)]
    for route in one.routes:
        route.connect("client")
        route.pool.idle, route.pool.busy = 2, 3
    counts = one.view.connections()
    assert (counts.client, counts.upstream_idle, counts.upstream_busy) == (2, 4, 6)
    assert [route.listener.reported for route in one.routes] == [1, 1]
    since = one.view.since
    one.look(WELL, ILL)
    assert one.view.since == since
    one.supervisor.drain(Trigger.HTTP)
    assert one.view.since > since


# Other discovery.


def phase_of(one: ScriptedProcess) -> Phase:
    return one.machine.phase


def told(one: ScriptedProcess, occasion: Occasion, error: str | None = None) -> None:
    one.supervisor.told(Told(occasion, attempts=1, took_s=0.5, error=error))


def test_other_discovery_is_told_once_of_the_first_ready_then_of_each_drain_and_each_way_back() -> None:
    one = process()
    one.look(ILL)
    one.look(WELL)
    one.supervisor.drain(Trigger.HTTP)
    one.supervisor.drain(Trigger.CLI)
    one.supervisor.resume()
    one.supervisor.drain(Trigger.HTTP)
    assert one.occasions == [Occasion.READY, Occasion.DRAIN, Occasion.RESUME, Occasion.DRAIN]


@pytest.mark.parametrize("error", [None, "403"])
def test_the_floor_counts_from_the_end_of_the_call_whatever_became_of_it(error: str | None) -> None:
    one = process(on_drain=parse_hook("true"), hook_limit_s=8.0)
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(3)
    told(one, Occasion.DRAIN, error)
    one.clock.advance(4.999)
    assert phase_of(one) is Phase.PROPAGATING
    one.clock.advance(0.001)
    assert phase_of(one) is Phase.FINISHING
    one.clock.advance(1)
    assert one.view.last_drain is not None
    assert one.view.last_drain["told"] == {
        "result": "failed" if error else "ok",
        "attempts": 1,
        "took_s": 0.5,
        "error": error,
    }


def test_a_call_of_which_nothing_is_heard_holds_the_floor_to_its_limit_only() -> None:
    one = process(on_drain=parse_hook("true"), hook_limit_s=8.0)
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(13)
    assert phase_of(one) is Phase.FINISHING


def test_what_is_heard_too_late_changes_nothing() -> None:
    one = process(on_drain=parse_hook("true"), hook_limit_s=1.0)
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(6.5)
    told(one, Occasion.DRAIN)
    one.clock.advance(0.5)
    assert phase_of(one) is Phase.DRAINED
    one.supervisor.resume()
    told(one, Occasion.DRAIN)
    assert phase_of(one) is Phase.SERVING


def test_what_was_told_of_one_drain_is_not_said_of_the_next() -> None:
    one = process(on_drain=parse_hook("true"))
    one.supervisor.drain(Trigger.HTTP)
    told(one, Occasion.DRAIN)
    one.supervisor.resume()
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(40)
    assert one.view.last_drain is not None
    assert one.view.last_drain["told"] is None


# What is written down.


def lines(caplog: pytest.LogCaptureFixture, *events: str) -> list[tuple[str, str, dict[str, object]]]:
    """Level, event and fields of each line of these events."""
    records = [each for each in caplog.records if each.getMessage() in events]
    return [(each.levelname, each.getMessage(), dict(each.__dict__["fields"])) for each in records]


def test_work_that_dies_with_the_app_after_the_drain_is_told_when_the_process_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    message = tmp_path / "termination"
    one = process(termination_log=str(message))
    one.supervisor.drain(Trigger.HTTP)
    one.clock.advance(6)
    assert "lost" not in message.read_text(encoding="utf-8").splitlines()[0]
    late = one.begin(target="/late")
    one.clock.advance(2)
    one.end(late, Ended.BROKEN)
    one.supervisor.terminate()
    one.look(GONE)
    with caplog.at_level("INFO"):
        one.supervisor.conclude()
    ((level, _, fields),) = lines(caplog, "after the drain")
    assert (level, fields["lost"], fields["late"]) == ("WARNING", 1, 1)
    said = message.read_text(encoding="utf-8").splitlines()
    assert "1 lost after the end" in said[0]
    assert said[1] == "lost after the end: GET /late after 2.0s, from 192.0.2.7"


def test_a_drain_after_which_nothing_came_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    one = process()
    one.supervisor.terminate()
    one.clock.advance(6)
    with caplog.at_level("INFO"):
        one.supervisor.conclude()
        process().supervisor.conclude()
    assert lines(caplog, "after the drain") == []


def test_why_an_app_cannot_be_reached_is_told_once_a_change(caplog: pytest.LogCaptureFixture) -> None:
    two = ScriptedProcess(routes=2)
    with caplog.at_level("INFO"):
        for seen in ((GONE, GONE), (GONE, WELL), (GONE, WELL), (WELL, WELL), (ILL, WELL), (ILL, WELL), (WELL, WELL)):
            two.look(*seen)
        two.supervisor.drain(Trigger.HTTP)
        two.clock.advance(6)
        two.look(GONE, WELL)
    told = lines(caplog, "app is healthy", "app is not healthy", "app is not reachable")
    assert [(level, event, fields["upstream"], fields["reason"]) for level, event, fields in told] == [
        ("INFO", "app is healthy", "127.0.0.1:9181", WELL.reason),
        ("INFO", "app is healthy", "127.0.0.1:9180", WELL.reason),
        ("WARNING", "app is not healthy", "127.0.0.1:9180", ILL.reason),
        ("INFO", "app is healthy", "127.0.0.1:9180", WELL.reason),
        ("INFO", "app is not reachable", "127.0.0.1:9180", GONE.reason),
    ]


# An upgrade.


def test_a_drain_that_is_asked_for_after_the_handover_is_passed_on() -> None:
    one, passed_on = process(), list[Trigger]()
    one.supervisor.pass_on = passed_on.append
    one.supervisor.hand_over()
    one.supervisor.drain(Trigger.HTTP)
    assert passed_on == [Trigger.HTTP]
    assert one.machine.trigger is Trigger.UPGRADE


def test_other_discovery_does_not_learn_of_a_handover() -> None:
    one = process(on_drain=parse_hook("true"))
    one.supervisor.hand_over()
    assert Occasion.DRAIN not in one.occasions
