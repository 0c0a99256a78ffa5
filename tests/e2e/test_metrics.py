"""The counters add up exactly to what a load generator sent, drains included."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.apps import need
from tests.support.proxy import Proxy, serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable


def samples(proxy: Proxy) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of `/metrics`."""
    families = parse_text(proxy.ask("/metrics").body)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(proxy: Proxy, name: str) -> float:
    return sum(value for (sample, _), value in samples(proxy).items() if sample == name)


def requests(counts: Iterable[tuple[str, str]]) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
    return Counter(("drainproxy_requests_total", (("code", code), ("method", method))) for method, code in counts)


def test_every_request_is_counted_once_by_method_and_code(app: str) -> None:
    plan = [
        ("GET", "/bytes/10", "200"),
        ("POST", "/echo", "200"),
        ("GET", "/status/404", "404"),
        ("PURGE", "/echo", "200"),
    ]
    plan += [("HEAD", "/bytes/10", "200"), ("DELETE", "/status/204", "204")]
    with serve(app) as proxy, httpx.Client(base_url=proxy.await_ready().url) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: client.request(step[0], step[1]), plan * 50))
        counted = {
            key: value for key, value in samples(proxy).items() if key[0] == "drainproxy_requests_total" and value
        }
        expected = requests((method if method != "PURGE" else "other", code) for method, _, code in plan * 50)
        assert counted == expected
        assert total(proxy, "drainproxy_request_duration_seconds_count") == 300
        assert total(proxy, "drainproxy_in_flight") == 0


def test_bytes_are_counted_both_ways(proxy: Proxy) -> None:
    request = b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\n\r\n"
    with Wire(proxy.address) as wire:
        received = 0
        for _ in range(10):
            wire.send(request)
            received += len(wire.read_until(b"\r\n\r\n")) + len(wire.read(1000))
        assert proxy.metric("drainproxy_bytes_total", direction="in") == 10 * len(request)
        assert proxy.metric("drainproxy_bytes_total", direction="out") == received


def test_a_load_generator_and_the_counters_agree_through_a_drain(proxy: Proxy) -> None:
    """h2load speaks HTTP/1.1 here and reports every answer; the drain begins under its load and cuts nothing."""
    h2load = need("h2load", "nghttp2-client")
    load = subprocess.Popen(
        [h2load, "--h1", "-n", "3000", "-c", "8", f"{proxy.url}/bytes/10"], stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: proxy.metric("drainproxy_requests_total", method="GET", code="200") > 100, "the load")
    summary = proxy.ask("/drain").json
    output, _ = load.communicate(timeout=60)
    succeeded = int(output.split(" succeeded")[0].rsplit(maxsplit=1)[1])
    counted = proxy.metric("drainproxy_requests_total", method="GET", code="200")
    assert succeeded <= counted <= succeeded + 8  # an answer may be on its way when h2load's connection is closed
    assert summary["aborted"] == 0
    assert total(proxy, "drainproxy_drain_aborted_total") == 0


def test_a_forced_drain_is_counted_in_full(app: str) -> None:
    with serve(app, drain_timeout="1s") as proxy, Wire(proxy.await_ready().address) as wire:
        wire.get("/sleep/60")
        wait_for(lambda: proxy.status()["in_flight"]["http"] == 1, "the request")
        proxy.ask("/drain")
        assert proxy.metric("drainproxy_drains_total", trigger="http", outcome="forced") == 1
        assert proxy.metric("drainproxy_drain_aborted_total", kind="http", by="us") == 1
        assert proxy.metric("drainproxy_requests_total", method="GET", code="503") == 1
        assert proxy.metric("drainproxy_rejected_total", reason="draining") == 1
        assert proxy.metric("drainproxy_state", state="drained") == 1


@pytest.mark.parametrize("kind", ["application/openmetrics-text; version=1.0.0", "text/plain"])
def test_prometheus_own_parsers_read_both_formats(proxy: Proxy, kind: str) -> None:
    httpx.get(f"{proxy.url}/bytes/1")
    answer = proxy.ask("/metrics", headers={"Accept": kind})
    assert answer.headers["Content-Type"].startswith(kind.partition(";")[0])
    parse = parse_openmetrics if "openmetrics" in kind else parse_text
    assert {"drainproxy_requests", "drainproxy_requests_total"} & {family.name for family in parse(answer.body)}


def test_status_is_json_with_every_field_of_the_contract(proxy: Proxy) -> None:
    status = json.loads(proxy.ask("/status").body)
    fields = ["version", "state", "phase", "since", "upstream", "in_flight", "connections", "oldest", "drain", "config"]
    assert set(fields) <= set(status)
    assert set(status["upstream"]) == {"address", "healthy", "reason"}
    assert set(status["in_flight"]) == {"http", "http2", "websocket", "tcp"}
    assert set(status["connections"]) == {"client", "upstream_idle", "upstream_busy", "handshakes"}
