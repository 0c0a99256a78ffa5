"""The drain, as Kubernetes drives it and as clients see it. One test a promise."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import free_port, http_server
from tests.support.proxy import Answer, Proxy, serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOOR_S = 0.3
QUIET_S = 0.2
SLACK_S = 3.0
"""What a loaded machine may add to a time that is seen from outside. Exact times are the drain machine's unit tests."""


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for a drain."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def in_flight(proxy: Proxy, count: int) -> None:
    wait_for(lambda: proxy.status()["in_flight"]["http"] == count, f"{count} in flight")


def test_an_idle_pod_is_released_at_floor_plus_quiet(proxy: Proxy) -> None:
    """Not later than 100 ms after; by the proxy's own clock, since the caller shares its cores with other tests."""
    answer = proxy.ask("/drain")
    assert answer.status == 200
    assert answer.json["outcome"] == "clean"
    assert FLOOR_S + QUIET_S <= answer.json["elapsed_s"] < FLOOR_S + QUIET_S + 0.1


def test_readiness_fails_with_the_next_probe_and_liveness_never(proxy: Proxy) -> None:
    assert proxy.ask("/drain?wait=0").status == 202
    assert proxy.ask("/readyz").status == 503
    assert proxy.ask("/livez").status == 200
    proxy.await_state("drained")
    assert proxy.ask("/readyz").status == 503
    assert proxy.ask("/livez").status == 200


def test_a_hundred_requests_of_three_seconds_all_complete(proxy: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(proxy.address)).get("/sleep/3") for _ in range(100)]
        in_flight(proxy, 100)
        proxy.signal(signal.SIGTERM)
        answers = [wire.response() for wire in wires]
        assert [status for status, _, _ in answers] == [200] * 100
        assert {fields["connection"] for _, fields, _ in answers} == {"close"}
    assert proxy.wait() == 0


def test_the_drain_waits_for_what_is_in_flight_and_no_longer(app: str, callers: ThreadPoolExecutor) -> None:
    with serve(app, quiet_limit="10s") as proxy, Wire(proxy.await_ready().address) as wire:
        wire.get("/sleep/1")
        in_flight(proxy, 1)
        drain = callers.submit(proxy.ask, "/drain")
        assert wire.response()[2] == b"slept 1\n"
        ended = time.monotonic()
        assert drain.result().json["completed"] == 1
        assert time.monotonic() - ended < QUIET_S + SLACK_S


def test_every_caller_in_any_order_joins_one_drain(proxy: Proxy, callers: ThreadPoolExecutor) -> None:
    """/drain, SIGTERM, /drain again by many, a caller who leaves: one result for all, at the same time."""
    with Wire(proxy.address) as wire:
        wire.get("/sleep/1")
        in_flight(proxy, 1)
        joiners: list[Future[tuple[float, Answer]]] = [callers.submit(_timed_drain, proxy) for _ in range(5)]
        with socket.create_connection(("127.0.0.1", int(proxy.admin.rpartition(":")[2]))) as leaver:
            leaver.sendall(b"GET /drain HTTP/1.1\r\nHost: a\r\n\r\n")
        proxy.await_state("draining")
        deadline = proxy.status()["drain"]["deadline_in_s"] + time.monotonic()
        proxy.signal(signal.SIGTERM)
        proxy.await_log("SIGTERM")
        joiners += [callers.submit(_timed_drain, proxy) for _ in range(5)]
        assert proxy.status()["drain"]["trigger"] == "http"
        assert abs(proxy.status()["drain"]["deadline_in_s"] + time.monotonic() - deadline) < 0.5
        assert wire.response()[0] == 200
    results = [joiner.result() for joiner in joiners]
    assert {answer.body for _, answer in results} == {results[0][1].body}
    assert max(at for at, _ in results) - min(at for at, _ in results) < SLACK_S
    assert proxy.wait() == 0


def _timed_drain(proxy: Proxy) -> tuple[float, Answer]:
    answer = proxy.ask("/drain")
    return time.monotonic(), answer


def test_sigterm_then_drain_is_the_same_drain(proxy: Proxy) -> None:
    proxy.signal(signal.SIGTERM)
    proxy.await_log("SIGTERM")
    assert proxy.ask("/drain").json["trigger"] == "sigterm"
    assert proxy.wait() == 0


def test_classic_order_the_proxy_stays_until_the_app_is_gone() -> None:
    """SIGTERM to both at t0; the app's own hook waits on /drain, then the app dies; then the proxy may go."""
    port = free_port()
    with serve(f"127.0.0.1:{port}", app_stop_time="8s") as proxy:
        with http_server(port):
            proxy.await_ready()
            proxy.signal(signal.SIGTERM)
            assert proxy.ask("/drain").status == 200
            assert httpx.get(f"{proxy.url}/bytes/1").status_code == 200  # late, and served: the app lives
            assert proxy.alive
        ended = time.monotonic()
        assert proxy.wait() == 0
        assert time.monotonic() - ended < 0.5 + SLACK_S  # not the eight seconds


def test_classic_order_an_app_that_does_not_stop_is_not_waited_for_longer_than_its_time(proxy: Proxy) -> None:
    proxy.signal(signal.SIGTERM)
    proxy.ask("/drain")
    ended = time.monotonic()
    assert proxy.wait() == 0
    assert 0.5 < time.monotonic() - ended < 1 + SLACK_S  # app-stop-time is 1s


def test_native_order_sigterm_after_the_app_is_gone_ends_at_once() -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", app_stop_time="8s") as proxy:
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        wait_for(lambda: not proxy.status()["upstream"]["healthy"], "the app's end to be seen")
        with Wire(proxy.address) as wire:
            status, fields, _ = wire.get().response()
            assert (status, fields["retry-after"]) == (503, "1")
        proxy.signal(signal.SIGTERM)
        ended = time.monotonic()
        assert proxy.wait() == 0
        assert time.monotonic() - ended < SLACK_S


def test_the_deadline_cuts_what_is_left_so_that_clients_notice(app: str, callers: ThreadPoolExecutor) -> None:
    with (
        serve(app, drain_timeout="1s") as proxy,
        Wire(proxy.await_ready().address) as unanswered,
        Wire(proxy.address) as half,
    ):
        unanswered.get("/sleep/60")
        half.get(f"/bytes/{1 << 30}")
        half.read(1000)
        in_flight(proxy, 2)
        began = time.monotonic()
        drain = callers.submit(proxy.ask, "/drain")
        status, fields, _ = unanswered.response()
        assert (status, fields["retry-after"], fields["x-drainproxy"]) == (503, "1", "draining")
        answer = drain.result()
        assert 1 <= time.monotonic() - began < 1 + SLACK_S
        assert (answer.status, answer.json["outcome"], answer.json["aborted"]) == (504, "forced", 2)
        with pytest.raises((ConnectionResetError, EOFError)):
            half.read(1 << 30)
        assert proxy.metric("drainproxy_drain_aborted_total", kind="http", by="us") == 2
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(1 + SLACK_S) == 0


def test_work_that_dies_with_the_app_after_the_drain_is_told(tmp_path: Path) -> None:
    message = tmp_path / "termination"
    with http_server() as app, serve(app, resume_after="never", termination_log=str(message)) as proxy:
        proxy.await_ready()
        assert proxy.ask("/drain").json["outcome"] == "clean"
        with Wire(proxy.address) as late, Wire(proxy.address) as last:
            late.get("/sleep/60")
            in_flight(proxy, 1)
            last.get("/exit")
            assert late.response()[0] == 502
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        line = proxy.await_log("after the drain")
        assert (line["level"], line["outcome"]) == ("warning", "clean")
        assert line["lost"] >= 1
        assert "GET /sleep/60" in message.read_text(encoding="utf-8")


def test_a_forced_end_after_sigterm_comes_at_the_deadline_whatever_time_the_app_has_to_stop(app: str) -> None:
    with serve(app, drain_timeout="1s", app_stop_time="5s") as proxy, Wire(proxy.await_ready().address) as wire:
        wire.get("/sleep/60")
        in_flight(proxy, 1)
        began = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert 1 <= time.monotonic() - began < 1 + SLACK_S  # app-stop-time is 5s


def test_a_forced_drain_with_event_closes_without_an_answer(app: str) -> None:
    with serve(app, drain_timeout="1s") as proxy, Wire(proxy.await_ready().address) as wire:
        wire.get("/sleep/60")
        in_flight(proxy, 1)
        with pytest.raises((ConnectionError, httpx.HTTPError, OSError)):
            proxy.ask("/drain?event=1")


def test_responses_say_close_from_the_trigger_on_and_new_connections_are_served(proxy: Proxy) -> None:
    with Wire(proxy.address) as old:
        assert "connection" not in old.get("/bytes/1").response()[1]
        proxy.ask("/drain?wait=0")
        assert old.get("/bytes/1").response()[1]["connection"] == "close"
        assert old.closed()
    with Wire(proxy.address) as new:
        assert new.get("/bytes/1").response()[1]["connection"] == "close"


def test_pipelined_requests_are_all_answered_when_a_drain_begins(proxy: Proxy) -> None:
    with Wire(proxy.address) as wire:
        wire.get("/sleep/0.3").get("/bytes/1").get("/bytes/2")
        in_flight(proxy, 1)
        proxy.ask("/drain?wait=0")
        assert [wire.response()[2] for _ in range(3)] == [b"slept 0.3\n", b"\0", b"\0\1"]
        assert wire.closed()


def test_idle_connections_are_closed_only_after_the_floor_and_spread(app: str) -> None:
    with serve(app, close_spread="1s", quiet_period="2s", drain_timeout="10s") as proxy:
        proxy.await_ready()
        wires = [Wire(proxy.address).get("/bytes/1") for _ in range(20)]
        for wire in wires:
            wire.response()
        began = time.monotonic()
        proxy.ask("/drain?wait=0")
        ends: list[float] = []

        def watch(wire: Wire) -> None:
            if wire.closed():
                ends.append(time.monotonic() - began)

        watchers = [threading.Thread(target=watch, args=(wire,)) for wire in wires]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        for wire in wires:
            wire.sock.close()
        assert len(ends) == 20
        assert min(ends) >= FLOOR_S
        assert 0.7 < max(ends) - min(ends) < 1 + SLACK_S


def test_idle_connections_are_asked_to_go_before_the_app_may_be_stopped(app: str) -> None:
    """However long the spread: what a client sent on one afterwards would find the app gone."""
    with serve(app, close_spread="5s", quiet_period="400ms") as proxy, contextlib.ExitStack() as stack:
        proxy.await_ready()
        wires = [stack.enter_context(Wire(proxy.address)).get("/bytes/1") for _ in range(50)]
        for wire in wires:
            wire.response()
        assert proxy.ask("/drain").json["outcome"] == "clean"
        for wire in wires:
            wire.sock.settimeout(0.5)
            assert wire.closed()


def test_a_resume_stops_the_asking(app: str) -> None:
    with (
        serve(app, close_spread="2s", quiet_period="4s", drain_timeout="10s") as proxy,
        contextlib.ExitStack() as stack,
    ):
        proxy.await_ready()
        wires = [stack.enter_context(Wire(proxy.address)).get("/bytes/1") for _ in range(20)]
        for wire in wires:
            wire.response()
        proxy.ask("/drain?wait=0")
        wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
        assert proxy.ask("/resume", "POST").status == 200
        left = proxy.status()["connections"]["client"]
        assert left > 5
        with pytest.raises(TimeoutError):
            wait_for(lambda: proxy.status()["connections"]["client"] < left, "further closes", patience_s=2.5)


def test_late_requests_are_served_and_counted(proxy: Proxy, callers: ThreadPoolExecutor) -> None:
    held = callers.submit(httpx.get, f"{proxy.url}/sleep/4")  # keeps the drain from ending before the late one comes
    wait_for(lambda: proxy.status()["in_flight"]["http"], "work in flight")
    drain = callers.submit(proxy.ask, "/drain")
    wait_for(lambda: (proxy.status()["drain"] or {}).get("floor_in_s", 1) <= 0, "the floor")
    assert held.running()
    assert httpx.get(f"{proxy.url}/bytes/1").status_code == 200
    summary = drain.result().json
    assert summary["late"] == 1
    assert summary["last_arrival_s"] >= FLOOR_S
    assert proxy.metric("drainproxy_drain_late_total", phase="finishing") == 1


def test_health_checks_do_not_hold_the_drain(app: str) -> None:
    stop = threading.Event()

    def probe() -> None:
        while not stop.is_set():
            httpx.get(f"{proxy.url}/bytes/1", headers={"User-Agent": "kube-probe/1.36"})

    with serve(app, quiet_limit="10s") as proxy:
        proxy.await_ready()
        prober = threading.Thread(target=probe)
        prober.start()
        try:
            began = time.monotonic()
            summary = proxy.ask("/drain").json
            assert time.monotonic() - began < FLOOR_S + QUIET_S + SLACK_S
            assert summary["arrivals"] == 0
        finally:
            stop.set()
            prober.join()


def test_a_second_sigterm_skips_the_waiting(app: str) -> None:
    with serve(app, propagation_delay="10s") as proxy:
        proxy.await_ready()
        proxy.signal(signal.SIGTERM)
        proxy.await_log("SIGTERM")
        began = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert time.monotonic() - began < 0.5 + SLACK_S  # not the ten seconds


def test_ctrl_c_finishes_what_is_in_flight(proxy: Proxy) -> None:
    with Wire(proxy.address) as wire:
        wire.get("/sleep/0.5")
        in_flight(proxy, 1)
        proxy.signal(signal.SIGINT)
        assert wire.response()[0] == 200
    assert proxy.wait() == 0


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGQUIT], 131)])
def test_ctrl_c_twice_and_sigquit_end_at_once(proxy: Proxy, signals: list[int], code: int) -> None:
    with Wire(proxy.address) as wire:
        wire.get("/sleep/60")
        in_flight(proxy, 1)
        for number in signals:
            proxy.signal(number)
            proxy.await_log(signal.Signals(number).name)
        assert proxy.wait(2) == code


def test_resume_by_hand_and_drain_again(proxy: Proxy, callers: ThreadPoolExecutor) -> None:
    joined = callers.submit(proxy.ask, "/drain")
    proxy.await_state("draining")
    assert proxy.ask("/drain", "DELETE").status == 200
    assert joined.result().json["outcome"] == "resumed"
    assert proxy.ask("/readyz").status == 200
    assert proxy.status()["drain"]["outcome"] == "resumed"
    with Wire(proxy.address) as wire:
        assert "connection" not in wire.get("/bytes/1").response()[1]
    assert proxy.ask("/drain").json["outcome"] == "clean"
    assert proxy.metric("drainproxy_drains_total", trigger="http", outcome="resumed") == 1
    assert proxy.metric("drainproxy_drains_total", trigger="http", outcome="clean") == 1


def test_resume_after_sigterm_is_refused(proxy: Proxy) -> None:
    proxy.signal(signal.SIGTERM)
    proxy.await_log("SIGTERM")
    assert proxy.ask("/resume", "POST").status == 409


def test_a_restart_of_the_app_alone_leaves_the_pod_in_service() -> None:
    """A liveness kill: preStop runs, the app's container restarts, nobody sends the proxy a SIGTERM."""
    port = free_port()
    with serve(f"127.0.0.1:{port}") as proxy:
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        wait_for(lambda: not proxy.status()["upstream"]["healthy"], "the app's end to be seen")
        with http_server(port):
            proxy.await_ready()
            assert proxy.status()["state"] == "ready"
            assert httpx.get(f"{proxy.url}/bytes/1").status_code == 200


def test_a_drain_that_was_not_the_end_is_called_off_after_the_grace_period(app: str) -> None:
    with serve(app, grace_period="4s") as proxy:
        proxy.await_ready()
        began = time.monotonic()
        assert proxy.ask("/drain").status == 200
        proxy.await_ready()
        assert 3.5 < time.monotonic() - began < 4 + SLACK_S


def test_the_listener_never_closes_before_the_process(proxy: Proxy) -> None:
    proxy.signal(signal.SIGTERM)
    refused = 0  # one request may meet the process's very last moment
    while proxy.alive:
        try:
            httpx.get(f"{proxy.url}/bytes/1", timeout=5)
        except httpx.TransportError:
            refused += 1
            proxy.wait(1)
    assert refused <= 1
    assert proxy.process.returncode == 0


@pytest.mark.slow
def test_slow_readers_get_their_last_bytes_after_the_app_is_gone() -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}") as proxy:
        with http_server(port):
            proxy.await_ready()
            wire = Wire(proxy.address)
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.get("/bytes/300000")
            head = wire.read_until(b"\r\n\r\n")
            assert b"300000" in head
            in_flight(proxy, 0)
            proxy.signal(signal.SIGTERM)
            proxy.await_log("SIGTERM")
            proxy.ask("/drain")
        assert len(wire.rest()) == 300000
        wire.sock.close()
        assert proxy.wait() == 0


def test_the_summary_is_in_the_log_and_in_the_termination_message(app: str, tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    with serve(app, termination_log=str(path)) as proxy:
        proxy.await_ready()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        line = proxy.logged("drain finished")
        assert line is not None
        assert line["outcome"] == "clean"
        assert "clean" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grace-period": "5s", "app-stop-time": "5s"}, "5s - app-stop-time 5s - 1s margin = -1s"),
        ({"grace-period": "10s", "drain-timeout": "9s"}, "--drain-timeout 9s is more than grace-period 10s"),
        ({"propagation-delay": "30s"}, "propagation-delay 30s + quiet-period 200ms"),
        ({"grace-period": "soon"}, "--grace-period: got 'soon', expected a duration"),
    ],
)
def test_impossible_options_stop_the_start_with_one_line(options: dict[str, str], says: str) -> None:
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.raises(AssertionError, match="ended with 2") as failure, serve("127.0.0.1:1", *flags):
        pass
    assert says in str(failure.value)


def test_a_request_that_has_arrived_in_part_is_waited_for(proxy: Proxy, callers: ThreadPoolExecutor) -> None:
    with Wire(proxy.address) as wire:
        wire.send(b"GET /bytes/1 HTTP/1.1\r\nHo")
        drain = callers.submit(proxy.ask, "/drain")
        proxy.await_state("draining")
        wait_for(
            lambda: (proxy.status()["drain"] or {}).get("elapsed_s", 0) > FLOOR_S + QUIET_S + 0.3, "more than quiet"
        )
        assert not drain.done()
        wire.send(b"st: a\r\n\r\n")
        assert wire.response()[0] == 200
        assert drain.result().json["outcome"] == "clean"


def test_a_connection_that_is_just_being_made_is_not_closed_in_its_face(app: str) -> None:
    with serve(app, close_spread="0", quiet_period="3s", drain_timeout="10s") as proxy:
        proxy.await_ready()
        proxy.ask("/drain?wait=0")
        wait_for(lambda: proxy.status()["drain"]["floor_in_s"] < 0.1, "the floor to be near")
        with Wire(proxy.address) as wire:
            wait_for(lambda: proxy.status()["phase"] == "finishing", "the floor")
            assert wire.get("/bytes/1").response()[0] == 200
