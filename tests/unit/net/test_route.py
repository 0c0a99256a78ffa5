"""What holds for every connection of a route? Its time limits."""

from __future__ import annotations

import pytest

from drainproxy.config.options import Config
from drainproxy.net.route import time_limits
from drainproxy.session.ports import Wait


@pytest.mark.parametrize(("response_s", "stream_s", "limit_s"), [(0, 0, 0), (0, 3, 3), (5, 0, 5), (5, 3, 3), (3, 5, 3)])
def test_a_silent_app_is_held_to_both_limits_that_are_set(response_s: float, stream_s: float, limit_s: float) -> None:
    limits = time_limits(Config(response_timeout_s=response_s, stream_idle_timeout_s=stream_s))
    assert limits[Wait.RESPONSE] == limit_s
    assert limits[Wait.STREAM] == stream_s


def test_each_wait_has_the_limit_that_was_set_for_it() -> None:
    limits = time_limits(Config(idle_timeout_s=1, header_timeout_s=2, response_timeout_s=3, stream_idle_timeout_s=4))
    assert [limits[wait] for wait in (Wait.IDLE, Wait.HEADER, Wait.RESPONSE, Wait.STREAM)] == [1, 2, 3, 4]
