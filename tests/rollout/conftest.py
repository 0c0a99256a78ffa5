"""The rig: a network for each scenario, skipped with the reason where it cannot be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rollout.netns import Namespaces, why_not
from tests.rollout.rig import NODES, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def possible() -> None:
    """Skips every scenario, with the reason, where there can be no network of our own."""
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def network(possible: None) -> Iterator[Namespaces]:
    """A new network for each scenario: the kernel remembers connections, and one scenario's must not meet another's."""
    network = Namespaces(NODES)
    try:
        network.build()
        yield network
    finally:
        network.close()


@pytest.fixture
def rig(network: Namespaces, tmp_path: Path) -> Rig:
    return Rig(network, tmp_path)
