"""Does `/status` tell what is going on, in the words of the contract?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy import __version__, compiled
from drainproxy.config.options import Config
from drainproxy.config.values import Route, parse_address
from drainproxy.drain.ledger import Ended, Kind
from drainproxy.drain.phase import Trigger
from drainproxy.observe.documents import MOST_SHOWN, brief, loss_lines, sentence, shown_target, status
from tests.support.control import EPOCH, ScriptedControl, view

FIELDS = [
    "version",
    "compiled",
    "pid",
    "generation",
    "upgraded_at",
    "state",
    "phase",
    "since",
    "upstream",
    "in_flight",
    "connections",
    "handed_over",
    "oldest",
    "drain",
    "told",
    "config",
]
DRAIN_FIELDS = [
    *("trigger", "started_at", "elapsed_s", "deadline_in_s", "floor_in_s"),
    *("arrivals", "late", "last_arrival_s", "completed", "aborted"),
    *("departed", "broken", "lost", "lost_work", "cut_total", "cut"),
    *("handed_over", "released", "let_go_s", "successor", "outcome", "advice"),
]


def test_ready_shows_every_field_of_the_contract() -> None:
    control = ScriptedControl()
    document = status(control)
    assert list(document) == FIELDS
    assert document["version"] == __version__
    assert document["compiled"] is compiled()
    assert (document["state"], document["phase"], document["since"]) == ("ready", "serving", EPOCH + control.now())
    assert document["upstream"] == {"address": "127.0.0.1:8080", "healthy": True, "reason": "accepts connections"}
    assert document["in_flight"] == {"http": 0, "http2": 0, "websocket": 0, "tcp": 0}
    assert document["connections"] == {"client": 0, "upstream_idle": 0, "upstream_busy": 0, "handshakes": 0}
    assert document["oldest"] == []
    assert document["drain"] is None


def test_secrets_are_not_in_it() -> None:
    document = status(ScriptedControl(Config(drain_token="s3cret")))
    assert "s3cret" not in json.dumps(document)
    assert document["config"]["drain-token"] == "(set)"  # type: ignore[index]


def test_several_routes_are_all_told_of_and_the_first_is_upstream() -> None:
    routes = tuple(Route(parse_address(f":{port}"), parse_address(f"127.0.0.1:{port + 1}")) for port in (9080, 9082))
    config = Config(route=routes)
    control = ScriptedControl(config)
    other = view(config, healthy=False, reason="connection refused")
    control.views.append(other)
    document = status(control)
    assert document["upstream"]["address"] == "127.0.0.1:9081"  # type: ignore[index]
    assert [route["healthy"] for route in document["routes"]] == [True, False]  # type: ignore[attr-defined]


def test_the_oldest_work_comes_first_with_its_age_and_no_more_than_twenty() -> None:
    control = ScriptedControl()
    control.open("/first?token=s3cret", method="POST", client="2001:db8::1")
    control.tick(2.5)
    for n in range(30):
        control.open(f"/{n}", kind=Kind.WEBSOCKET)
    document = status(control)
    oldest = document["oldest"]
    assert isinstance(oldest, list)
    assert len(oldest) == MOST_SHOWN
    assert oldest[0] == {
        "kind": "http",
        "method": "POST",
        "target": "/first?…",
        "age_s": 2.5,
        "client": "2001:db8::1",
        "client_left": False,
    }
    assert document["in_flight"] == {"http": 1, "http2": 0, "websocket": 30, "tcp": 0}


def test_a_query_and_the_end_of_a_long_path_are_not_shown() -> None:
    assert shown_target("/a?b=c") == "/a?…"
    assert shown_target("/a") == "/a"
    assert shown_target("/" + "x" * 500 + "?q") == "/" + "x" * 199 + "…?…"


def test_a_drain_is_told_from_its_trigger_to_its_end() -> None:
    control = ScriptedControl()
    before = control.open()
    control.drain(Trigger.HTTP)
    started = control.wall()
    control.tick(2)
    control.end(control.open())
    block = status(control)["drain"]
    assert list(block) == DRAIN_FIELDS  # type: ignore[call-overload]
    assert block == {
        "trigger": "http",
        "started_at": started,
        "elapsed_s": 2.0,
        "deadline_in_s": 22.0,
        "floor_in_s": 3.0,
        "arrivals": 1,
        "late": 0,
        "last_arrival_s": 2.0,
        "completed": 1,
        "aborted": 0,
        "departed": 0,
        "broken": 0,
        "lost": 0,
        "lost_work": [],
        "cut_total": 0,
        "cut": [],
        "handed_over": 0,
        "released": False,
        "let_go_s": None,
        "successor": [],
        "outcome": None,
        "advice": None,
    }
    control.tick(4)
    control.end(control.open())
    control.end(before, ended=Ended.DEPARTED)
    control.tick(1)
    document = status(control)
    assert (document["state"], document["phase"]) == ("drained", "drained")
    over = document["drain"]
    control.tick(5)
    later = status(control)["drain"]
    assert over == {
        **block,
        "elapsed_s": 7.0,
        "deadline_in_s": 17.0,
        "floor_in_s": 0.0,
        "arrivals": 2,
        "late": 1,
        "last_arrival_s": 6.0,
        "completed": 2,
        "aborted": 1,
        "departed": 1,
        "outcome": "clean",
        "advice": "requests kept arriving for 6s, past the floor of 5s: set propagation-delay to 8s",
    }
    assert later["elapsed_s"] == 7.0, "a drain that is over gets no older"  # type: ignore[index]


def test_a_forced_drain_says_what_was_cut() -> None:
    control = ScriptedControl()
    control.open("/report?token=s3cret", method="POST")
    control.drain(Trigger.SIGTERM)
    control.wait(26)
    block = status(control)["drain"]
    assert (block["outcome"], block["aborted"], block["elapsed_s"]) == ("forced", 1, 24.0)  # type: ignore[index]
    assert control.last_drain is not None
    assert sentence(control.last_drain) == (
        "drain forced at the deadline after 24.0s (the deadline passed with work in flight): "
        "0 completed, 1 cut, 0 late, nothing arrived; trigger sigterm"
    )
    assert block["cut"] == [  # type: ignore[index]
        {
            "kind": "http",
            "method": "POST",
            "target": "/report?…",
            "age_s": 24.0,
            "client": "192.0.2.7",
            "client_left": False,
        }
    ]
    assert list(loss_lines(control.last_drain)) == ["cut: POST /report?… after 24.0s, from 192.0.2.7"]


def test_the_five_oldest_that_were_cut_are_named_and_the_others_counted() -> None:
    control = ScriptedControl()
    control.drain(Trigger.HTTP)
    for number in range(7):
        control.open(f"/{number}" if number else "/\x1b[31m\x85", kind=Kind.HTTP2 if number == 2 else Kind.HTTP)
        control.tick(1)
    control.wait(26)
    assert control.last_drain is not None
    lines = list(loss_lines(control.last_drain))
    assert lines[0] == "cut: GET /?[31m? after 24.0s, from 192.0.2.7", "what clients send must not steer a terminal"
    assert lines[4:] == ["cut: GET /4 after 20.0s, from 192.0.2.7", "cut: 2 more"]
    stream = {**control.last_drain["cut"][2], "method": "", "target": "", "client_left": True}
    others: Any = {**control.last_drain, "cut": [stream], "cut_total": 1}
    assert list(loss_lines(others)) == ["cut: http2 after 22.0s, from 192.0.2.7, which had left"]


def test_who_ended_what_was_not_cut_is_told_too() -> None:
    control = ScriptedControl()
    control.drain(Trigger.HTTP)
    for ended in Ended:
        control.end(control.open(), ended=ended)
    control.wait(7)
    assert control.last_drain is not None
    assert "1 completed, 1 cut, 1 left by their clients, 1 broken off by the app, 0 late" in sentence(
        control.last_drain
    )
    assert control.last_drain["aborted"] == len(Ended) - 1


def test_a_drain_that_was_called_off_is_still_told_of() -> None:
    control = ScriptedControl()
    control.drain(Trigger.CLI)
    control.tick(1)
    control.end(control.open())
    control.tick(1)
    assert control.resume()
    document = status(control)
    block = document["drain"]
    assert document["state"] == "ready"
    assert list(block) == DRAIN_FIELDS  # type: ignore[call-overload]
    assert (block["outcome"], block["elapsed_s"], block["arrivals"]) == ("resumed", 2.0, 1)  # type: ignore[index]
    assert (block["deadline_in_s"], block["floor_in_s"]) == (0.0, 0.0)  # type: ignore[index]
    control.drain(Trigger.HTTP)
    again = status(control)["drain"]
    assert (again["trigger"], again["arrivals"], again["outcome"]) == ("http", 0, None)  # type: ignore[index]


def test_a_drain_that_was_called_off_gives_no_advice_even_if_work_came_late() -> None:
    advice = []
    for resumed in (True, False):
        control = ScriptedControl()
        control.drain(Trigger.CLI)
        control.tick(5.5)  # behind the floor
        control.end(control.open())
        if resumed:
            assert control.resume()
        else:
            control.tick(10)
        assert control.last_drain is not None
        advice.append(control.last_drain["advice"])
    assert advice[0] is None
    assert advice[1] is not None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0s"), (59.94, "59.9s"), (60, "1m"), (95, "1m35s")])
def test_durations_are_brief(seconds: float, text: str) -> None:
    assert brief(seconds) == text


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.sampled_from(Ended)), max_size=20))
def test_every_arrival_in_a_drain_is_completed_cut_or_in_flight(steps: list[tuple[float, bool, Ended]]) -> None:
    control = ScriptedControl(Config(resume_after="never"))
    control.drain(Trigger.HTTP)
    for seconds, ends, ended in steps:
        work = control.open()
        control.tick(seconds)
        if ends and work in set(control.ledger.oldest(100)):
            control.end(work, ended=ended)
        control.tick(0)
        document = status(control)
        block, open_now = document["drain"], document["in_flight"]
        assert block["arrivals"] == block["completed"] + block["aborted"] + sum(open_now.values())  # type: ignore[index,attr-defined]
        assert 0 <= block["late"] <= block["arrivals"]  # type: ignore[index]
        assert block["last_arrival_s"] <= block["elapsed_s"] or document["state"] == "drained"  # type: ignore[index]


def test_what_comes_and_fails_after_the_end_is_in_the_summary_from_then_on() -> None:
    control = ScriptedControl(Config(resume_after="never"))
    control.drain(Trigger.HTTP)
    control.wait(7)
    assert control.summary_by_now() is None
    late = control.open("/late")
    control.tick(1)
    control.end(late, ended=Ended.BROKEN)
    summary = control.summary_by_now()
    assert summary is not None
    assert (summary["outcome"], summary["elapsed_s"], summary["aborted"], summary["lost"]) == ("clean", 6.0, 1, 1)
    assert ", 1 lost after the end, 1 late, " in sentence(summary)
    assert list(loss_lines(summary)) == ["lost after the end: GET /late after 1.0s, from 192.0.2.7"]
    assert "requests came after the end of the drain" in str(summary["advice"])
    assert control.resume()
    assert control.summary_by_now() is None
    assert control.last_drain is not None
    assert (control.last_drain["outcome"], control.last_drain["lost"]) == ("resumed", 1)
