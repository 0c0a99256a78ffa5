"""When is a call tried again, and what is filled in?"""

from __future__ import annotations

import pytest

from drainproxy.drain.announcement import FIRST_PAUSE_S, LONGEST_PAUSE_S, Occasion, Told, filled, pause_s


def test_pauses_double_up_to_a_second() -> None:
    assert [pause_s(n) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert (pause_s(1), pause_s(1_000_000)) == (FIRST_PAUSE_S, LONGEST_PAUSE_S)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h/$ADDRESS:$PORT", "http://h/10.0.0.1:9080"),
        ('{"port": $PORT}', '{"port": 9080}'),
        ("${PORT}0", "90800"),
        ("$UNKNOWN costs $$5", "$UNKNOWN costs $5"),
    ],
)
def test_what_is_known_is_filled_in_and_the_rest_stays(text: str, expected: str) -> None:
    assert filled(text, {"ADDRESS": "10.0.0.1", "PORT": "9080"}) == expected


def test_a_call_without_an_error_is_a_success() -> None:
    assert Told(Occasion.DRAIN, 1, 0.1, None).result == "ok"
    assert Told(Occasion.DRAIN, 1, 0.1, "403").result == "failed"
