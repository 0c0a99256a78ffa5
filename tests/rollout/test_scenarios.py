"""Does drainproxy lose requests? Rollouts, scale-downs, node drains and accidents on a real network, each counted."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.cluster.controller import Strategy
from drainproxy.tools.cluster.endpoints import Lag
from drainproxy.tools.cluster.kubelet import EventReason
from drainproxy.tools.cluster.pod import HttpGet, Probe
from drainproxy.tools.cluster.variants import ADMIN_PORT, APP_PORT, App, drained
from drainproxy.tools.probe.load import Traffic
from drainproxy.tools.probe.ws_client import WebSocketClient
from tests.rollout.netns import SERVICE_IP, SERVICE_PORT
from tests.rollout.rig import MIXED, NODES, THREE, TIMES, Rig, enough, events, nothing_lost, rolled, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = [pytest.mark.root, pytest.mark.debian, pytest.mark.slow]

APPS = Path(__file__).parent / "apps"


def app(file: str, *arguments: str) -> App:
    return App((sys.executable, str(APPS / file), "$(APP_PORT)", *arguments))


# --- rolling updates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False], ids=["native sidecar", "classic sidecar"])
async def test_a_rolling_update_loses_no_request_on_kept_or_fresh_connections(rig: Rig, native: bool) -> None:
    async with rig.cluster(drained(App(), TIMES, native=native)) as cluster:
        async with rig.traffic(rig.http(*MIXED), rate=60) as load:
            await enough(load, 60)
            await rolled(cluster)
            await enough(load, 60)
        nothing_lost(load, at_least=200)
        assert not events(cluster, EventReason.HOOK_FAILED)
        assert not events(cluster, EventReason.KILL)


async def test_long_downloads_end_whole(rig: Rig) -> None:
    async with rig.cluster(drained(App(), TIMES)) as cluster:
        async with rig.traffic(rig.http("/drip?s=4"), rate=15) as load:
            await asyncio.sleep(1)
            await rolled(cluster)
        nothing_lost(load, at_least=40)
        assert said(load).longest_s >= 3.8


async def test_slow_uploads_arrive_whole(rig: Rig) -> None:
    pieces, piece = 20, b"x" * 4096

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield piece
            await asyncio.sleep(3 / pieces)

    length = (("Content-Length", str(pieces * len(piece))),)
    async with rig.cluster(drained(App(), TIMES)) as cluster:
        client = rig.http("/", method="POST", body_of=lambda _: upload(), headers=length)
        async with rig.traffic(client, rate=15) as load:
            await asyncio.sleep(1)
            await rolled(cluster)
        nothing_lost(load, at_least=40)
        assert {sample.reply.size for sample in load.samples} == {len(f"{pieces * len(piece)}\n")}


async def test_websockets_are_closed_with_1001_and_no_message_is_lost(rig: Rig) -> None:
    async with rig.cluster(drained(app("websocket.py"), TIMES)) as cluster:
        traffic = Traffic(connections=12, fresh=0.0, timeout_s=10)
        url = f"ws://{SERVICE_IP}:{SERVICE_PORT}/ws"
        client = WebSocketClient(traffic, url, text="hello", connector=rig.network.client(NODES[0]))
        async with rig.traffic(client, rate=40) as load:
            await enough(load, 40)
            await rolled(cluster)
            await enough(load, 40)
        nothing_lost(load, at_least=120)
        assert set(client.closes) == {1001}
        assert client.closes[1001] >= 12  # each of them was on an old Pod at first


async def test_grpc_calls_move_to_other_pods_without_an_error(rig: Rig) -> None:
    spec = drained(app("grpc_app.py", "$(HEALTH_PORT)"), TIMES)
    main, side = spec.containers
    check = Probe(HttpGet("/healthz", 8081), period_s=0.1, failure_threshold=300)
    main = replace(main, ports={**main.ports, "health": 8081}, startup=check)
    async with rig.cluster(replace(spec, containers=(main, side))) as cluster:
        target = f"grpc://{SERVICE_IP}:{SERVICE_PORT}"
        command = [sys.executable, "-m", "drainproxy", "probe", target, "--json", "--rate", "40", "--duration", "60s"]
        probe = await asyncio.create_subprocess_exec(
            *rig.network.on_node(NODES[0], command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.sleep(1.5)
            await rolled(cluster)
            await asyncio.sleep(1)
            probe.send_signal(signal.SIGINT)
            out, _ = await asyncio.wait_for(probe.communicate(), 30)
        finally:
            if probe.returncode is None:
                probe.kill()
                await probe.wait()
        (result,) = json.loads(out)["targets"]
        assert result["failures"] == []
        assert result["sent"] >= 150


# --- other ends -------------------------------------------------------------------------------------------------------


async def test_scale_down_to_zero_serves_what_it_has_and_then_nobody_is_there(rig: Rig) -> None:
    async with rig.cluster(drained(App(), TIMES), Strategy(2), Lag(0.0, 0.3)) as cluster:
        async with rig.traffic(rig.http("/drip?s=3"), rate=10) as load:
            await asyncio.sleep(2)
            cluster.scale(0)
            load.stop()
        nothing_lost(load, at_least=18)
        await cluster.until(lambda: not cluster.pods)
        await asyncio.sleep(0.5)
        client = rig.http("/", fresh=1.0)
        reply = await client.send(0)
        await client.close()
        assert reply.fault == "refused"


async def test_a_node_drain_within_its_disruption_budget_loses_nothing(rig: Rig) -> None:
    async with rig.cluster(drained(App(), TIMES)) as cluster:
        victims = [pod.name for pod in cluster.pods.values() if pod.place.node == NODES[0]]
        async with rig.traffic(rig.http(*MIXED, node=NODES[1]), rate=60) as load:
            await enough(load, 60)
            await cluster.drain_node(NODES[0], min_available=2)
            await enough(load, 60)
        nothing_lost(load, at_least=120)
        assert len(victims) == 2
        assert {pod.place.node for pod in cluster.pods.values()} == {NODES[1]}


async def test_an_app_that_is_restarted_by_its_liveness_probe_loses_nothing_and_comes_back(rig: Rig) -> None:
    spec = drained(app("breakable.py"), TIMES)
    main, side = spec.containers
    main = replace(main, liveness=Probe(HttpGet("/healthz", APP_PORT), period_s=0.2, failure_threshold=2))
    async with rig.cluster(replace(spec, containers=(main, side)), Strategy(2)) as cluster:
        async with rig.traffic(rig.http("/", "/slow?s=1", "/"), rate=30) as load:
            await enough(load, 30)
            client = rig.http("/break", fresh=1.0)
            broken = (await client.send(0)).pod
            await client.close()
            await cluster.until(lambda: bool(events(cluster, EventReason.UNHEALTHY)))
            await cluster.until(lambda: not cluster.pods[broken].serving)
            await cluster.until(lambda: cluster.pods[broken].serving, within_s=20)
            await enough(load, 30)
        nothing_lost(load, at_least=100)
        assert [event.pod for event in events(cluster, EventReason.UNHEALTHY)] == [broken]
        assert not events(cluster, EventReason.DELETED)
        assert said(load).pods[-1][1] > 0


async def test_an_app_that_crashes_during_the_drain_loses_exactly_what_it_had_in_hand(rig: Rig) -> None:
    async with rig.cluster(drained(App(), TIMES), Strategy(1), Lag()) as cluster:
        (pod,) = cluster.pods.values()
        async with rig.traffic(rig.http("/drip?s=30", fresh=1.0), rate=20) as load:
            await asyncio.sleep(0.5)
            load.stop()
            await asyncio.sleep(0.5)
            cluster.scale(0)
            await cluster.until(pod.deleted.is_set)
            await asyncio.sleep(0.5)
            pod._runs["app"].process.kill()
        verdict = said(load)
        assert [(each.name, each.count) for each in verdict.failures] == [("cut body", load.started)]
        assert load.started >= 10
        await cluster.until(lambda: not cluster.pods)
        gone, deleted = events(cluster, EventReason.GONE)[0], events(cluster, EventReason.DELETED)[0]
        assert gone.at_s - deleted.at_s < TIMES.grace_s / 2  # nobody waits for an app that is dead


async def test_propagation_slower_than_the_floor_loses_nothing_while_requests_keep_coming(rig: Rig) -> None:
    times = replace(TIMES, floor_s=0.5, quiet_s=1.0)
    async with rig.cluster(drained(App(), times), THREE, Lag(2.0, 3.0)) as cluster:
        async with rig.traffic(rig.http(*MIXED), rate=60) as load:
            await enough(load, 60)
            await rolled(cluster)
            await enough(load, 120)
        nothing_lost(load, at_least=200)


async def test_a_grace_period_that_is_too_short_loses_what_is_longer_and_says_how_many(rig: Rig) -> None:
    short = replace(TIMES, grace_s=5.0, floor_s=0.5)
    note = rig.logs / "termination-log"
    spec = drained(App(), short, options=("--termination-log", str(note)))
    async with rig.cluster(spec, Strategy(1), Lag()) as cluster:
        async with rig.traffic(rig.http("/drip?s=20", "/drip?s=1", fresh=1.0), rate=20) as load:
            await asyncio.sleep(1)
            load.stop()
            cluster.scale(0)
            await cluster.until(lambda: not cluster.pods)
        long = (load.started + 1) // 2
        failures = [(each.name, each.count) for each in said(load).failures]
        assert failures == [("cut body", long)]
        numbers = [int(number) for number in re.findall(r"\d+", note.read_text())]
        assert long in numbers, note.read_text()
        deleted, gone = events(cluster, EventReason.DELETED)[0], events(cluster, EventReason.GONE)[0]
        assert gone.at_s - deleted.at_s <= short.grace_s + 2.5


def test_the_admin_port_of_the_scenarios_is_the_one_of_the_product() -> None:
    hook = drained(App(), TIMES).mains[0].pre_stop
    assert isinstance(hook, HttpGet)
    assert (hook.path, hook.port) == ("/drain?event=1", ADMIN_PORT)
