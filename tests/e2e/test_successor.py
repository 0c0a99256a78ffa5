"""Does a request that finds the app gone reach a sibling? Real replicas, each an app with its drainproxy."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.apps import free_port, http_server, uvicorn
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = "127.0.0.1:1"
"""Where nobody listens."""


def at(proxy: Proxy) -> str:
    """Its data port."""
    return "{}:{}".format(*proxy.address)


@pytest.fixture(scope="module")
def sibling(app: str) -> Iterator[Proxy]:
    """A replica whose app lives. It has a successor, too, as all replicas of a workload do."""
    with serve(app, successor=NOBODY) as proxy:
        yield proxy.await_ready()


@contextmanager
def orphan(successor: str, upstream: str = "", **options: str) -> Iterator[Proxy]:
    """A replica without an app."""
    with serve(upstream or f"127.0.0.1:{free_port()}", successor=successor, **options) as proxy:  # type: ignore[arg-type]  # none is named stock_loop
        proxy.await_log("started")
        yield proxy


def counted(proxy: Proxy) -> dict[str, int]:
    """What became of its attempts to hand something over."""
    return {outcome: count for outcome, count in proxy.status()["handed_over"].items() if count}


def get(proxy: Proxy, path: str = "/echo", **headers: str) -> httpx.Response:
    return httpx.get(proxy.url + path, headers=headers, timeout=20)


def test_the_app_of_a_sibling_sees_the_request_as_if_it_had_come_straight(sibling: Proxy) -> None:
    with orphan(at(sibling)) as proxy:
        response = get(proxy)
        seen = {name.lower(): value for name, value in response.json()["headers"]}
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-host"] == at(proxy)
        assert "x-drainproxy-hop" not in seen
        assert proxy.metric("drainproxy_handed_over_total", reason="app-gone", outcome="sent") == 1
        assert proxy.status()["handed_over"]["sent"] == 1
        assert proxy.ask("/readyz").status == 503


def test_bodies_pass_both_ways(sibling: Proxy) -> None:
    with orphan(at(sibling)) as proxy:
        size = 3 << 20
        assert httpx.post(f"{proxy.url}/echo", content=b"x" * size, timeout=20).json()["body"] == str(size)
        assert len(get(proxy, f"/bytes/{size}").content) == size
        assert get(proxy, "/chunks/70000").content == get(sibling, "/chunks/70000").content


def test_no_request_of_a_crowd_is_lost_while_the_app_is_killed_and_comes_back(sibling: Proxy) -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", successor=at(sibling), successor_after="50ms") as proxy:
        with http_server(port):
            proxy.await_ready()
            assert get(proxy).status_code == 200
        with ThreadPoolExecutor(20) as crowd, httpx.Client(timeout=20) as client:
            codes = list(crowd.map(lambda _: client.get(proxy.url + "/echo").status_code, range(300)))
        assert set(codes) == {200}
        sent = proxy.status()["handed_over"]["sent"]
        assert sent == 300
        with http_server(port):
            proxy.await_ready()
            assert get(proxy).status_code == 200
            assert proxy.status()["handed_over"]["sent"] == sent


def test_a_websocket_opens_at_a_sibling() -> None:
    with uvicorn() as app, serve(app, successor=NOBODY) as sibling:
        sibling.await_ready()
        with orphan(at(sibling)) as proxy, connect(f"ws://{at(proxy)}/ws") as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=10)


def test_a_late_request_that_comes_when_the_app_was_stopped_is_answered_by_a_sibling(sibling: Proxy) -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", successor=at(sibling), app_stop_time="10s") as proxy:
        with http_server(port):
            proxy.await_ready()
            assert proxy.ask("/drain").status == 200
        assert get(proxy).status_code == 200
        assert proxy.metric("drainproxy_handed_over_total", reason="drain", outcome="sent") == 1


def test_when_all_replicas_are_down_each_is_asked_at_most_three_times_and_the_client_is_told_soon() -> None:
    with orphan(NOBODY) as second, orphan(at(second)) as first:
        response = get(first)
        assert (response.status_code, response.headers["X-Drainproxy"]) == (503, "app-unavailable")
        assert response.elapsed.total_seconds() < 4, "not held as long as connect-wait says"
        assert counted(first) == {"not-ready": 3}
        assert second.metric("drainproxy_requests_total", method="GET", code="503") == 0, "it was asked who it is"
        assert counted(second) == {}, "what came by a hop is handed on by nobody"


def test_two_replicas_that_are_each_others_successor_do_not_send_a_request_around() -> None:
    ports = free_port(), free_port()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(orphan(f"127.0.0.1:{other}", listen=f"127.0.0.1:{port}"))
            for port, other in (ports, ports[::-1])
        )
        assert get(first).status_code == 503
        assert [counted(each) for each in (first, second)] == [{"not-ready": 3}, {}]


def test_where_no_sibling_can_be_reached_a_request_is_held_for_the_app_as_ever() -> None:
    port = free_port()
    with orphan(NOBODY, f"127.0.0.1:{port}", connect_wait="20s") as proxy, ThreadPoolExecutor(1) as one:
        waiting = one.submit(get, proxy)
        wait_for(lambda: proxy.status()["handed_over"]["unreachable"] >= 3, "three attempts in vain")
        assert not waiting.done()
        with http_server(port):
            assert waiting.result().status_code == 200


def test_in_an_outage_without_any_sibling_the_first_requests_are_held_and_the_later_ones_told_at_once() -> None:
    port, wait_s = free_port(), 2.0
    with serve(f"127.0.0.1:{port}", successor=NOBODY, connect_wait=f"{wait_s}s") as proxy:
        with http_server(port):
            proxy.await_ready()
            assert get(proxy).status_code == 200
        first = get(proxy)
        assert first.status_code == 503
        assert first.elapsed.total_seconds() > wait_s / 2, "the app may be back in a moment"
        later = [get(proxy) for _ in range(10)]
        assert max(each.elapsed.total_seconds() for each in later) < wait_s / 2, "none of them is held"
        assert {(each.status_code, each.headers["Retry-After"]) for each in later} == {(503, "1")}
        with http_server(port):
            wait_for(lambda: get(proxy).status_code == 200, "the app answers again")


def test_while_the_app_is_away_few_requests_ask_it_and_the_first_after_its_return_gets_it(sibling: Proxy) -> None:
    port = free_port()
    with serve(f"127.0.0.1:{port}", successor=at(sibling)) as proxy, httpx.Client(timeout=20) as client:
        with http_server(port):
            proxy.await_ready()
            assert client.get(proxy.url + "/echo").status_code == 200
        began = time.monotonic()
        for _ in range(100):
            assert client.get(proxy.url + "/echo").status_code == 200
        assert time.monotonic() - began < 100 * 0.2, "not each of them is held for successor-after"
        assert proxy.metric("drainproxy_upstream_errors_total", reason="connect-refused") == 100
        with http_server(port):
            proxy.await_ready()
            sent = proxy.status()["handed_over"]["sent"]
            assert client.get(proxy.url + "/echo").status_code == 200
            assert proxy.status()["handed_over"]["sent"] == sent == 100


def test_an_outage_does_not_multiply_what_comes() -> None:
    options = {"successor_after": "0s", "connect_wait": "0s"}
    with orphan(NOBODY, **options) as second, orphan(at(second), **options) as first:
        with ThreadPoolExecutor(20) as crowd, httpx.Client(timeout=20) as client:
            codes = list(crowd.map(lambda _: client.get(first.url + "/").status_code, range(1500)))
        assert set(codes) == {503}
        counts = counted(first)
        assert counts["over-budget"] > 0
        assert counts["not-ready"] < 1500 * 2.5


def test_a_service_whose_variables_are_not_set_is_told_of_and_nothing_else_changes(app: str) -> None:
    with serve(app, successor="env:NO-SUCH") as proxy:
        proxy.await_ready()
        assert any("NO_SUCH_SERVICE_HOST" in line["msg"] for line in proxy.log)
        assert get(proxy).status_code == 200
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
