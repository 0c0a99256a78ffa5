"""Should traffic come here? The row `/readyz` of the states table."""

from __future__ import annotations

from typing import Any

import pytest

from drainproxy.drain.phase import Phase
from drainproxy.drain.readiness import readiness
from tests.support.life import Life


def ready(life: Life) -> tuple[bool, str]:
    return readiness(life.machine, life.config, life.now, "the app says so")


def in_phase(phase: Phase, **options: Any) -> Life:
    """A life that has come this far, with the app healthy."""
    life = Life(resume_after="never", **options)
    if phase is Phase.SERVING:
        return life
    if phase is Phase.FORCING:
        life.begin()
        life.drain().after(23)
        life.settling = False
        life.now += 1
        life.machine.advance(life.now)
    else:
        life.drain().after({Phase.PROPAGATING: 1, Phase.FINISHING: 5.5, Phase.DRAINED: 8}[phase])
    assert life.is_in(phase)
    return life


@pytest.mark.parametrize("phase", Phase)
def test_readiness_fails_at_once_with_the_drain_and_says_in_which_phase(phase: Phase) -> None:
    yes, why = ready(in_phase(phase))
    assert yes is (phase is Phase.SERVING)
    assert phase is Phase.SERVING or why.endswith(phase.value)
    assert "\n" not in why


@pytest.mark.parametrize("phase", Phase)
def test_readiness_that_is_held_fails_only_when_the_app_may_be_stopped(phase: Phase) -> None:
    life = in_phase(phase, readiness_on_drain_s=float("inf"))
    yes, why = ready(life)
    assert yes is (phase not in (Phase.FORCING, Phase.DRAINED))
    assert ("held" in why) is (phase in (Phase.PROPAGATING, Phase.FINISHING))


@pytest.mark.parametrize("phase", [Phase.PROPAGATING, Phase.FINISHING])
def test_readiness_that_is_held_still_fails_with_the_app(phase: Phase) -> None:
    life = in_phase(phase, readiness_on_drain_s=float("inf"))
    life.machine.upstream(reachable=False, healthy=False, gate=None)
    assert ready(life) == (False, "unready: the app says so")


def test_readiness_may_fail_some_time_after_the_trigger() -> None:
    life = Life(readiness_on_drain_s=3).drain().after(2.999)
    assert ready(life)[0]
    assert not ready(life.after(0.001))[0]


def test_without_a_drain_the_app_and_the_gate_decide() -> None:
    life = Life(up=False)
    assert ready(life) == (False, "starting: the app says so")
    life.app(up=True, healthy=False)
    assert ready(life) == (False, "starting: the app says so")
    assert ready(life.app(up=True)) == (True, "ready")
    assert ready(life.app(up=True, gate="/gate does not exist")) == (False, "unready: /gate does not exist")
    assert ready(life.app(up=False)) == (False, "unready: the app says so")
    assert ready(life.app(up=True)) == (True, "ready")


def test_readiness_is_back_after_a_resume() -> None:
    life = Life().drain().after(1)
    assert not ready(life)[0]
    life.resume()
    assert ready(life) == (True, "ready")


def test_a_probe_that_meets_the_trigger_itself_sees_the_drain() -> None:
    """The next probe after `/drain` fails, even before the machine has moved."""
    life = Life()
    life.settling = False
    life.drain()
    assert not ready(life)[0]


def test_a_process_that_has_handed_over_speaks_for_the_port() -> None:
    life = Life()
    life.machine.hand_over(life.now)
    assert ready(life.settle()) == (True, "ready: a new generation serves")
