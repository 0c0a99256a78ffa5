"""Do spans reach a collector, and does the proxy care when there is none?"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.apps import http_server
from tests.support.collector import collector
from tests.support.proxy import Proxy, serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


def seen_by_app(proxy: Proxy, **headers: str) -> list[str]:
    """Every traceparent that the app got."""
    answer = httpx.get(f"{proxy.url}/echo", headers=headers)
    return [value for name, value in json.loads(answer.text)["headers"] if name.lower() == "traceparent"]


def test_by_default_a_trace_passes_and_none_is_made(app: str) -> None:
    with serve(app) as proxy:
        proxy.await_ready()
        assert seen_by_app(proxy) == []
        given = f"00-{TRACE}-{SPAN}-01"
        assert seen_by_app(proxy, traceparent=given, tracestate="a=1") == [given]


def test_a_trace_is_made_and_named_in_the_log(app: str) -> None:
    with serve(app, trace="on", access_log="all") as proxy:
        proxy.await_ready()
        (made,) = seen_by_app(proxy)
        assert proxy.await_log("request")["trace_id"] == made.split("-")[1]


def test_spans_of_sampled_requests_and_of_the_drain_reach_the_collector(app: str) -> None:
    with collector() as (endpoint, spans), serve(app, otlp_endpoint=endpoint, trace_sample="0%") as proxy:
        proxy.await_ready()
        (passed_on,) = seen_by_app(proxy, traceparent=f"00-{TRACE}-{SPAN}-01")
        seen_by_app(proxy)
        proxy.ask("/drain")
        wait_for(lambda: len(spans) == 2, "two spans")
        by_name = {span.name: span for span in spans}
        request, drain = by_name["GET"], by_name["drain"]
        assert request.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == SPAN
        assert passed_on == f"00-{TRACE}-{request.span_id.hex()}-01"
        assert [event.name for event in drain.events] == ["propagating", "finishing", "drained"]
        assert drain.end_time_unix_nano > drain.events[-1].time_unix_nano >= drain.start_time_unix_nano
        wait_for(lambda: proxy.metric("drainproxy_spans_total", result="exported") == 2, "the count")


def test_the_last_spans_leave_with_the_process(app: str) -> None:
    with collector() as (endpoint, spans), serve(app, otlp_endpoint=endpoint) as proxy:
        proxy.await_ready().process.terminate()
        assert proxy.wait() == 0
        assert [span.name for span in spans] == ["drain"]


def test_a_collector_that_is_down_costs_spans_and_nothing_else(app: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        reserved.close()
        with serve(app, otlp_endpoint=endpoint, trace_sample="100%") as proxy:
            proxy.await_ready()
            with httpx.Client() as client:
                for _ in range(50):
                    assert client.get(f"{proxy.url}/bytes/10").status_code == 200
            wait_for(lambda: proxy.metric("drainproxy_spans_total", result="dropped") == 50, "the count")
            assert proxy.ask("/drain").json["outcome"] == "clean"


def test_a_collector_that_never_answers_fills_the_queue_and_no_more(app: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serve(app, otlp_endpoint=endpoint, trace_sample="100%") as proxy:
            proxy.await_ready()
            with httpx.Client() as client:
                for _ in range(30):
                    assert client.get(f"{proxy.url}/bytes/10").status_code == 200
            proxy.process.terminate()
            assert proxy.wait() == 0
