"""What the end-to-end tests share: an app, and a drainproxy in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import http_server
from tests.support.proxy import Proxy, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The plain app's address."""
    with http_server() as address:
        yield address


@pytest.fixture(scope="module", params=["uvloop", "stock"])
def shared(request: pytest.FixtureRequest, app: str) -> Iterator[Proxy]:
    """A ready proxy that the tests of one module share: for tests that leave it as they found it. On both loops."""
    with serve(app, stock_loop=request.param == "stock") as proxy:
        yield proxy.await_ready()


@pytest.fixture
def proxy(app: str) -> Iterator[Proxy]:
    """A ready proxy of the test's own."""
    with serve(app) as proxy:
        yield proxy.await_ready()
