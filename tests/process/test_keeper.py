"""Which exit code does a supervisor get, when several generations and an app have ended?"""

from __future__ import annotations

import pytest

from drainproxy.process.keeper import APP_ENDED, code_of_all


@pytest.mark.parametrize(
    ("generation", "app", "code"),
    [
        (0, None, 0),
        (0, 137, 0),
        (131, 137, 131),
        (APP_ENDED, 137, 137),
        (APP_ENDED, 0, 0),
        (APP_ENDED, None, APP_ENDED),
    ],
)
def test_a_generation_that_ends_because_its_app_has_gives_the_code_of_the_app(
    generation: int, app: int | None, code: int
) -> None:
    assert code_of_all(generation, app) == code
