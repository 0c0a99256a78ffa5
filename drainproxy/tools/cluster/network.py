"""Where do the miniature cluster's Pods live? Everything that knows addresses and networks is behind this interface.

The demo uses loopback: one address, ports of its own for every Pod. The tests use network namespaces: one address for
every Pod, the same ports in each.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOPBACK = "127.0.0.1"
_PORTS = (15000, 30000)
"""Below the ports that Linux and macOS hand out by themselves: nobody gets one of ours between two uses."""


@dataclass(frozen=True, slots=True)
class Place:
    """A Pod's address, and the real port for every port name of its spec."""

    node: str
    ip: str
    ports: Mapping[str, int]


class Network(Protocol):
    """What the kubelet and the cluster need from a network."""

    async def attach(self, pod: str, node: str, ports: Mapping[str, int]) -> Place:
        """Give the Pod an address on `node`."""

    async def detach(self, pod: str) -> None:
        """Take the address back. The Pod's processes are gone."""

    def wrap(self, pod: str, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` inside the Pod's network."""

    def connector(self, node: str) -> aiohttp.BaseConnector:
        """A connector whose connections start on `node` and are used once, as the kubelet's are."""


class Loopback:
    """Pods as processes side by side on 127.0.0.1, without any privilege."""

    def __init__(self) -> None:
        self._taken: dict[str, set[int]] = {}

    async def attach(self, pod: str, node: str, ports: Mapping[str, int]) -> Place:
        taken = self._taken[pod] = set()
        places = {}
        for name in ports:
            port = self.free_port()
            taken.add(port)
            places[name] = port
        return Place(node, LOOPBACK, places)

    async def detach(self, pod: str) -> None:
        self._taken.pop(pod, None)

    def wrap(self, pod: str, command: Sequence[str]) -> list[str]:
        return list(command)

    def connector(self, node: str) -> aiohttp.BaseConnector:
        return aiohttp.TCPConnector(limit=0, force_close=True)

    def free_port(self) -> int:
        """A port that nobody listens on and no Pod has. Raises OSError if there is none."""
        in_use = {port for taken in self._taken.values() for port in taken}
        for _ in range(1000):
            port = random.randrange(*_PORTS)  # noqa: S311 - not a secret
            if port not in in_use and _is_free(port):
                return port
        raise OSError("no free port found on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
