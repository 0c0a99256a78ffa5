"""Who gets traffic, as a node sees it? The fallback, and changes that arrive late but in order."""

from __future__ import annotations

import asyncio
import random

from drainproxy.tools.cluster.endpoints import Endpoint, Lag, NodeView, usable


def endpoint(pod: str, *, serving: bool = True, terminating: bool = False) -> Endpoint:
    return Endpoint(pod, "127.0.0.1", 80, serving, terminating)


def test_a_terminating_endpoint_is_not_ready_whatever_its_probe_says() -> None:
    assert not endpoint("a", serving=True, terminating=True).ready
    assert endpoint("a").ready


def test_only_ready_endpoints_get_traffic() -> None:
    ready = endpoint("a")
    assert usable([ready, endpoint("b", serving=False), endpoint("c", terminating=True)]) == (ready,)


def test_without_ready_endpoints_traffic_falls_back_to_serving_terminating_ones() -> None:
    ending = endpoint("c", terminating=True)
    assert usable([endpoint("b", serving=False), ending, endpoint("d", serving=False, terminating=True)]) == (ending,)
    assert usable([endpoint("b", serving=False)]) == ()


async def test_changes_arrive_late_and_never_overtake_each_other() -> None:
    seen: list[tuple[Endpoint, ...]] = []
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def apply(endpoints: tuple[Endpoint, ...]) -> None:
        seen.append(endpoints)
        if len(seen) == 20:
            arrived.set()

    view = NodeView(Lag(0.05, 0.2), random.Random(3), apply)
    begin = loop.time()
    published = [(endpoint(f"pod-{n}"),) for n in range(20)]
    for each in published:
        view.publish(each)
    assert seen == []
    await arrived.wait()
    assert seen == published
    assert loop.time() - begin >= 0.05
    view.close()


async def test_a_closed_view_hears_no_more() -> None:
    seen: list[object] = []
    view = NodeView(Lag(0.01, 0.02), random.Random(3), seen.append)
    view.publish([endpoint("a")])
    view.close()
    await asyncio.sleep(0.05)
    assert seen == []
