"""What does a Deployment do next? Its decisions one by one, and whole rollouts by simulation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.tools.cluster.controller import PodFact, Strategy, next_step


def pod(name: str, revision: int = 1, ready: float | None = 0.0, terminating: bool = False) -> PodFact:
    return PodFact(name, revision, terminating, ready)


OLD = [pod("a"), pod("b"), pod("c")]
SURGE = Strategy(replicas=3, max_surge=1, max_unavailable=0)


def test_surge_comes_first_when_nothing_may_be_unavailable() -> None:
    step = next_step(SURGE, 2, OLD, 10)
    assert (step.create, step.delete, step.done) == (1, (), False)


def test_an_old_pod_goes_when_a_new_one_is_available() -> None:
    step = next_step(SURGE, 2, [*OLD, pod("d", 2)], 10)
    assert (step.create, step.delete) == (0, ("a",))


def test_a_new_pod_that_is_not_ready_lets_no_old_one_go() -> None:
    assert next_step(SURGE, 2, [*OLD, pod("d", 2, ready=None)], 10).delete == ()


def test_terminating_pods_do_not_count() -> None:
    pods = [pod("a", terminating=True), pod("b"), pod("c"), pod("d", 2)]
    step = next_step(SURGE, 2, pods, 10)
    assert (step.create, step.delete) == (1, ())


def test_unavailable_old_pods_go_before_healthy_ones() -> None:
    pods = [pod("a"), pod("b", ready=None), pod("c"), pod("d", 2)]
    assert next_step(SURGE, 2, pods, 10).delete == ("b",)


def test_max_unavailable_lets_old_pods_go_at_once() -> None:
    step = next_step(Strategy(3, max_surge=0, max_unavailable=2), 2, OLD, 10)
    assert (step.create, step.delete) == (0, ("a", "b"))


def test_min_ready_seconds_delay_availability_and_say_when_to_look_again() -> None:
    waiting = next_step(Strategy(3, 1, 0, min_ready_s=5), 2, [*OLD, pod("d", 2, ready=8)], 10)
    assert (waiting.delete, waiting.look_again_s) == ((), 3)
    assert next_step(Strategy(3, 1, 0, min_ready_s=5), 2, [*OLD, pod("d", 2, ready=8)], 13).delete == ("a",)


def test_scaling_down_deletes_what_is_too_many_unready_first() -> None:
    pods = [pod("a", 1), pod("b", 1, ready=None), pod("c", 1)]
    assert next_step(Strategy(2), 1, pods, 10).delete == ("b",)
    assert set(next_step(Strategy(0), 1, pods, 10).delete) == {"a", "b", "c"}


def test_done_when_only_available_pods_of_the_new_revision_are_left() -> None:
    new = [pod(name, 2) for name in "def"]
    assert next_step(SURGE, 2, new, 10).done
    assert next_step(SURGE, 2, [*new, pod("a", terminating=True)], 10).done
    assert not next_step(SURGE, 2, [*new, pod("a")], 10).done


@given(replicas=st.integers(1, 6), surge=st.integers(0, 3), unavailable=st.integers(0, 3), start_s=st.integers(1, 4))
def test_a_rollout_always_ends_and_keeps_its_bounds(replicas: int, surge: int, unavailable: int, start_s: int) -> None:
    if surge == 0 and unavailable == 0:
        surge = 1  # Kubernetes refuses both zero
    strategy = Strategy(replicas, surge, unavailable)
    pods = {f"o{n}": (1, 0.0) for n in range(replicas)}
    born = 0
    for now in range(200):
        facts = [pod(name, rev, ready if ready <= now else None) for name, (rev, ready) in pods.items()]
        step = next_step(strategy, 2, facts, now)
        if step.done:
            assert [rev for rev, _ in pods.values()] == [2] * replicas
            return
        for name in step.delete:
            del pods[name]
        for _ in range(step.create):
            born += 1
            pods[f"n{born}"] = (2, float(now + start_s))
        assert len(pods) <= replicas + surge
        assert sum(ready <= now for _, ready in pods.values()) >= replicas - unavailable
    raise AssertionError("the rollout did not end")
