"""Does drainproxy lose a request now and then? Rollout after rollout on a real network, under traffic all the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drainproxy.tools.cluster.controller import Strategy
from drainproxy.tools.cluster.endpoints import Lag
from drainproxy.tools.cluster.kubelet import EventReason
from drainproxy.tools.cluster.variants import App, drained
from tests.rollout.rig import TIMES, events, nothing_lost, rolled

if TYPE_CHECKING:
    from tests.rollout.rig import Rig

pytestmark = [pytest.mark.root, pytest.mark.debian, pytest.mark.slow]


@pytest.mark.timeout(300)
async def test_twenty_rollouts_in_a_row_lose_nothing(rig: Rig) -> None:
    quick = replace(TIMES, floor_s=1.0, quiet_s=0.2, spread_s=0.2)
    paths = ("/", "/", "/slow?s=0.5", "/", "/", "/drip?s=0.5", "/")
    async with rig.cluster(drained(App(), quick), Strategy(2, max_surge=2), Lag(0.0, 0.4)) as cluster:
        async with rig.traffic(rig.http(*paths), rate=50) as load:
            await rolled(cluster, times=20)
        nothing_lost(load, at_least=600)
        assert len(events(cluster, EventReason.GONE)) == 40
