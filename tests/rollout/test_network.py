"""Is the rig's network what it claims to be? Without drainproxy: kube-proxy's promises, and rollouts that do lose."""

from __future__ import annotations

import asyncio

import pytest

from drainproxy.tools.cluster.controller import Strategy
from drainproxy.tools.cluster.endpoints import Lag
from drainproxy.tools.cluster.variants import App, Times, bare, sleeping
from tests.rollout.rig import MIXED, THREE, Rig, enough, said

pytestmark = [pytest.mark.root, pytest.mark.debian, pytest.mark.slow]

TIMES = Times(grace_s=10.0, sleep_s=1.5, probe_period_s=0.2)


async def test_the_service_spreads_new_connections_over_all_pods(rig: Rig) -> None:
    async with rig.cluster(bare(App(), TIMES)) as cluster:
        async with rig.traffic(rig.http("/", fresh=1.0), rate=100) as load:
            await enough(load, 60)
        assert {pod for pod, _ in said(load).pods} == set(cluster.pods)


async def test_an_established_connection_stays_on_its_pod_when_the_endpoints_change(rig: Rig) -> None:
    async with rig.cluster(sleeping(App(), TIMES), Strategy(1), Lag()) as cluster:
        (old,) = cluster.pods.values()
        kept, fresh = rig.http("/", connections=1, fresh=0.0), rig.http("/", fresh=1.0)
        assert (await kept.send(0)).pod == old.name
        cluster.roll_out()
        await cluster.until(old.deleted.is_set)
        again, new = await kept.send(1), await fresh.send(0)
        await kept.close()
        await fresh.close()
        assert (again.fault, again.pod, again.reused) == ("", old.name, True)
        assert (new.fault, new.pod) == ("", next(name for name in cluster.pods if name != old.name))
        await cluster.rolled_out()


async def test_a_service_without_endpoints_refuses(rig: Rig) -> None:
    async with rig.cluster(bare(App(), TIMES), Strategy(1), Lag()) as cluster:
        cluster.scale(0)
        await cluster.until(lambda: not cluster.pods)
        await asyncio.sleep(0.05)
        client = rig.http("/", fresh=1.0)
        reply = await client.send(0)
        await client.close()
        assert reply.fault == "refused"


async def test_a_bare_rollout_loses_requests_on_this_network(rig: Rig) -> None:
    """The control: a rig on which bare loses nothing would prove nothing."""
    async with rig.cluster(bare(App(), TIMES), THREE) as cluster:
        async with rig.traffic(rig.http(*MIXED, timeout_s=4), rate=60) as load:
            await enough(load, 40)
            cluster.roll_out()
            await cluster.rolled_out()
            await enough(load, 40)
        faults = {each.name for each in said(load).failures}
        assert "refused" in faults or "unreachable" in faults or "timeout" in faults, faults  # late traffic
        assert "cut body" in faults, faults  # cut work
        assert "empty reply" in faults, faults


async def test_sleep_saves_late_traffic_but_not_the_work_in_flight(rig: Rig) -> None:
    async with rig.cluster(sleeping(App(), TIMES), THREE) as cluster:
        async with rig.traffic(rig.http(*MIXED), rate=60) as load:
            await enough(load, 40)
            cluster.roll_out()
            await cluster.rolled_out()
            await enough(load, 40)
        faults = {each.name for each in said(load).failures}
        assert faults & {"empty reply", "cut body", "reset"}, faults
        assert not faults & {"refused", "unreachable"}, faults
