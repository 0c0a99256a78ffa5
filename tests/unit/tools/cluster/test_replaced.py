"""What does the demo of replaced processes conclude, and what does it draw from the log?"""

from __future__ import annotations

import pytest

from drainproxy.tools.cluster.demo import Run
from drainproxy.tools.cluster.replaced import RESTARTED, STEPS, STOPPED, UPGRADED, Life, conclusion
from drainproxy.tools.probe.verdict import Reply, Sample, judge


def _run(name: str, lost: int) -> Run:
    samples = tuple(Sample(at, at, at + 0.1, Reply("refused" if at < lost else "")) for at in range(10))
    return Run(name, judge(samples, during=(1.0, 2.0)), samples, (), 1.0)


@pytest.mark.parametrize(
    ("lost", "good", "words"),
    [
        ((3, 0, 0), True, "drainproxy lost no request; stop and start lost 3."),
        ((3, 0, 1), False, "upgrade lost 1: that is a bug, please report it with --html."),
        (
            (0, 0, 0),
            False,
            "Stop and start lost nothing either, so this proves nothing: raise --rate, or run it again.",
        ),
    ],
)
def test_it_is_good_only_if_requests_are_lost_without_drainproxy_and_none_with_it(
    lost: tuple[int, int, int], good: bool, words: str
) -> None:
    runs = [_run(name, count) for name, count in zip((STOPPED, RESTARTED, UPGRADED), lost, strict=True)]
    verdict, sentence = conclusion(runs)
    assert verdict is good
    assert sentence.startswith(words)


@pytest.mark.parametrize("verb", STEPS)
def test_the_log_tells_when_each_process_began_served_and_went(verb: str) -> None:
    lives = [Life("app 1", 0.0, 0.5)]
    for at, step in enumerate(STEPS[verb].values(), start=1):
        step(lives, float(at))
    assert lives == [Life("app 1", 0.0, 0.5, leaving=2.0, gone=3.0), Life("app 2", 1.0, ready=2.0)]
