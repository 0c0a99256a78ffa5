"""What happens to workloads while Prometheus watches? One story each, and the alerts it must set off: no others."""

from __future__ import annotations

import signal
import threading
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.oncall.prometheus import prometheus
from tests.support.apps import free_port, http_server
from tests.support.proxy import serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.oncall.prometheus import Prometheus
    from tests.support.proxy import Proxy

NAMESPACE = "shop"
TOGETHER = 3
"""Stories that are told at the same time: each has a few processes."""


@dataclass(frozen=True)
class Story:
    """A workload's name, what happens to it, and which alerts fire."""

    name: str
    happens: Callable[[Stage, str], None]
    fires: frozenset[str]


@dataclass
class Stage:
    """Where stories happen: Prometheus and an app that works. `until` is set when all have been told."""

    watch: Prometheus
    app: str
    until: threading.Event

    @contextmanager
    def pod(self, workload: str, number: int, revision: str = "1", app: str = "", **options: str) -> Iterator[Proxy]:
        """A Pod's proxy, scraped from its readiness to its end."""
        with serve(app or self.app, stock_loop=False, **options) as proxy:
            address = proxy.await_ready().admin.removeprefix("http://")
            pod = f"{workload}-{revision}-{number}"
            self.watch.scrape(address, namespace=NAMESPACE, workload=workload, revision=revision, pod=pod)
            yield proxy
            self.watch.forget(address)


@contextmanager
def traffic(proxy: Proxy) -> Iterator[None]:
    """A request after the other, on new connections, as long as this lasts."""
    stop = threading.Event()
    url = f"{proxy.url}/bytes/100"

    def send() -> None:
        while not stop.wait(0.01):
            with suppress(OSError):
                urllib.request.urlopen(url, timeout=5).close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_for(lambda: proxy.metric("drainproxy_requests_total", method="GET", code="200") > 20, "traffic")
        yield
    finally:
        stop.set()
        sender.join()


@contextmanager
def request(proxy: Proxy, path: str) -> Iterator[None]:
    """One request, under way."""

    def send() -> None:
        with suppress(OSError):
            urllib.request.urlopen(proxy.url + path, timeout=60).close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_for(lambda: proxy.status()["in_flight"]["http"], "the request")
        yield
    finally:
        sender.join()


def end(proxy: Proxy) -> None:
    """The kubelet's part once the hook has returned: SIGTERM, and the Pod is gone when all have exited."""
    proxy.signal(signal.SIGTERM)
    proxy.wait()


def passed(proxy: Proxy, seconds: float) -> bool:
    """The drain that runs is so old."""
    drain = proxy.status()["drain"]
    return bool(drain) and drain["elapsed_s"] > seconds


def calm(stage: Stage, name: str) -> None:
    with stage.pod(name, 1) as first, stage.pod(name, 2) as second:
        for number, old in enumerate((first, second), start=1):
            with stage.pod(name, number, "2") as new, traffic(new):
                with traffic(old):
                    old.ask("/drain?wait=0")
                old.ask("/drain")
                end(old)


def forced(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, drain_timeout="2s", propagation_delay="1s") as proxy, request(proxy, "/sleep/20"):
        proxy.ask("/drain")
        end(proxy)


def late(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, quiet_period="2s", quiet_limit="10s") as proxy:
        with traffic(proxy):
            proxy.ask("/drain?wait=0")
            wait_for(lambda: passed(proxy, 1.0), "arrivals after the floor")
        proxy.ask("/drain")
        end(proxy)


def near(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, drain_timeout="7s") as proxy, request(proxy, "/sleep/6.2"):
        proxy.ask("/drain")
        end(proxy)


def endless(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, quiet_limit="1s") as proxy, traffic(proxy):
        proxy.ask("/drain")
        wait_for(lambda: proxy.metric("drainproxy_drain_late_total", phase="drained") > 3, "arrivals after the end")
        end(proxy)


def broken(stage: Stage, name: str) -> None:
    with http_server() as app, stage.pod(name, 1, app=app, propagation_delay="1s") as proxy:
        with traffic(proxy):
            pass
        with request(proxy, "/sleep/20"):
            proxy.ask("/drain?wait=0")
            urllib.request.urlopen(f"http://{app}/exit", timeout=5).close()
        proxy.ask("/drain")
        end(proxy)


def refused(stage: Stage, name: str) -> None:
    with stage.pod(name, 1) as proxy:
        assert proxy.ask("/drain", headers={"Origin": "https://elsewhere.example"}).status == 403
        stage.until.wait(300)


def untold(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, on_drain="PUT http://127.0.0.1:1/out", hook_limit="500ms") as proxy:
        proxy.ask("/drain")
        end(proxy)


def left(stage: Stage, name: str) -> None:
    with stage.pod(name, 1, resume_after="never") as proxy:
        proxy.ask("/drain")
        stage.until.wait(300)


def down(stage: Stage, name: str) -> None:
    port = free_port()
    with http_server(port) as app, stage.pod(name, 1, app=app, connect_wait="100ms") as proxy, traffic(proxy):
        urllib.request.urlopen(f"http://{app}/exit", timeout=5).close()
        stage.until.wait(300)


def alone(stage: Stage, name: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with (
        http_server() as app,
        stage.pod(name, 1, app=app, connect_wait="100ms", successor=nobody) as proxy,
        traffic(proxy),
    ):
        urllib.request.urlopen(f"http://{app}/exit", timeout=5).close()
        stage.until.wait(300)


SHORT = (
    Story("calm", calm, frozenset()),
    Story("forced", forced, frozenset({"DrainproxyDrainForced"})),
    Story("late", late, frozenset({"DrainproxyLateArrivals"})),
)
STORIES = (
    *SHORT,
    Story("near", near, frozenset({"DrainproxyNearDeadline"})),
    Story(
        "endless",
        endless,
        frozenset({"DrainproxyStillArriving", "DrainproxyLateArrivals", "DrainproxyArrivedAfterEnd"}),
    ),
    Story("broken", broken, frozenset({"DrainproxyAppBrokeWork", "DrainproxyAppErrors"})),
    Story("refused", refused, frozenset({"DrainproxyDrainRefused"})),
    Story("untold", untold, frozenset({"DrainproxyDiscoveryNotTold"})),
    Story("left", left, frozenset({"DrainproxyLeftDrained"})),
    Story("down", down, frozenset({"DrainproxyAppDown", "DrainproxyAppErrors"})),
    Story("alone", alone, frozenset({"DrainproxyNotHandedOver", "DrainproxyAppDown", "DrainproxyAppErrors"})),
)


@contextmanager
def told(folder: Path, stories: tuple[Story, ...]) -> Iterator[Prometheus]:
    """A Prometheus that has seen all of them, and one Pod that goes on serving."""
    with prometheus(folder) as watch, http_server() as app:
        stage = Stage(watch, app, threading.Event())
        with stage.pod("standing", 1):
            _tell(stage, stories)
            yield watch


def _tell(stage: Stage, stories: tuple[Story, ...]) -> None:
    """Let all of them happen. Those that only end when all is told hold a place until the alerts have been seen."""
    watch, until = stage.watch, stage.until
    with ThreadPoolExecutor(len(stories)) as pool:
        places = threading.Semaphore(TOGETHER)
        lasting = (refused, left, down, alone)

        def one(story: Story) -> None:
            if story.happens in lasting:
                story.happens(stage, story.name)
                return
            with places:
                story.happens(stage, story.name)

        running = [pool.submit(one, story) for story in stories]
        try:
            for each, story in zip(running, stories, strict=True):
                if story.happens not in lasting:
                    each.result()
            wait_for(lambda: missing(watch, stories) == set() or any(map(_failed, running)), "the alerts", 60)
            watch.await_evaluation()
        finally:
            until.set()
        for each in running:
            each.result()


def _failed(running: Future[None]) -> bool:
    return running.done() and running.exception() is not None


def expected(stories: tuple[Story, ...]) -> set[tuple[str, str]]:
    """Alerts with their workloads."""
    return {(alert, story.name) for story in stories for alert in story.fires}


def missing(watch: Prometheus, stories: tuple[Story, ...]) -> set[tuple[str, str]]:
    """What has not fired yet."""
    return expected(stories) - watch.fired()
