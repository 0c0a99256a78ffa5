"""What holds for every connection of a route? Its limits."""

from __future__ import annotations

from typing import Any, cast

import pytest

from drainproxy.config.options import Config
from drainproxy.net.listener import Listener
from drainproxy.session.ports import Wait


def limits(**options: float) -> dict[Wait, float]:
    """The limits of a listener that was only made: it touches none of its parts."""
    config = Config(**cast("Any", options))
    unused = cast("Any", None)
    parts = dict.fromkeys(("pool", "ledger", "turns", "timers", "observer", "tasks"), unused)
    return Listener(unused, config.routes[0], config, max_connections=1, **parts).limits


@pytest.mark.parametrize(("response_s", "stream_s", "limit_s"), [(0, 0, 0), (0, 3, 3), (5, 0, 5), (5, 3, 3), (3, 5, 3)])
def test_a_silent_app_is_held_to_both_limits_that_are_set(response_s: float, stream_s: float, limit_s: float) -> None:
    found = limits(response_timeout_s=response_s, stream_idle_timeout_s=stream_s)
    assert found[Wait.RESPONSE] == limit_s
    assert found[Wait.STREAM] == stream_s
