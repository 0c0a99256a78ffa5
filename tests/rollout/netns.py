"""How does the rig get a real network? Namespaces joined by a bridge, and a Service address programmed with nftables.

    client -> node namespace --(DNAT, random per connection, conntrack)--> bridge --> Pod namespace

Each Pod has a namespace and an address of its own; each node programs the Service address as kube-proxy does (nftables
mode): `numgen random` picks an endpoint for a new connection, conntrack keeps established ones where they are, and
without endpoints connections are rejected. Nothing leaves these namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from drainproxy.tools.cluster.network import Place
from drainproxy.tools.probe.http_client import KEEP_IDLE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from drainproxy.tools.cluster.endpoints import Endpoint

SERVICE_IP, SERVICE_PORT = "10.96.0.1", 80
PREFIX = "dprig"
_RUN = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """The reason why the rig cannot run on this machine; empty if it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root, to make network namespaces"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"needs {program} (Debian package {package})"
    name = f"{PREFIX}{os.getpid()}-try"
    try:
        _sh(f"ip netns add {name}")
        _nft(name, "add table ip t; add chain ip t c { type nat hook output priority -100; }")
    except subprocess.CalledProcessError as error:
        return f"the kernel refuses network namespaces or nftables NAT: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


class Namespaces:
    """A bridge, node namespaces, and Pods that come and go. `build` before use, `close` at the end, always."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._id = f"{PREFIX}{os.getpid()}"
        self._nodes = {name: f"{self._id}-{name}" for name in nodes}
        self._hub = f"{self._id}-hub"
        self._pods: dict[str, str] = {}
        self._count = 0

    def build(self) -> None:
        sweep()
        hub = self._hub
        _sh(f"ip netns add {hub} && ip -n {hub} link add br0 type bridge && ip -n {hub} link set br0 up")
        for number, namespace in enumerate(self._nodes.values(), start=1):
            _sh(self._join(namespace, f"10.77.0.{number}", f"n{number}"))
            _sh(f"ip -n {namespace} route add 10.96.0.0/16 dev eth0")
            _nft(namespace, CONNTRACK)
            _nft(namespace, service_rules(()))

    def close(self) -> None:
        for namespace in (*self._pods.values(), *self._nodes.values(), self._hub):
            _remove(namespace)
        self._pods.clear()

    # --- the Network of the kubelet and the cluster ----------------------------------------------------------------

    async def attach(self, pod: str, node: str, ports: Mapping[str, int]) -> Place:
        self._count += 1
        number = self._count
        namespace = self._pods[pod] = f"{self._id}-{pod}"
        ip = f"10.77.{1 + number // 250}.{number % 250 + 1}"
        process = await asyncio.create_subprocess_exec("sh", "-ec", self._join(namespace, ip, f"p{number}"))
        assert await process.wait() == 0, f"cannot make the namespace of {pod}"
        return Place(node, ip, dict(ports))

    async def detach(self, pod: str) -> None:
        namespace = self._pods.pop(pod, "")
        if namespace:
            process = await asyncio.create_subprocess_exec("ip", "netns", "del", namespace)
            await process.wait()

    def wrap(self, pod: str, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self._pods[pod], *command]

    def connector(self, node: str) -> aiohttp.BaseConnector:
        return aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=self._factory(node))

    # --- the Service and its clients -------------------------------------------------------------------------------

    def kube_proxy(self, node: str) -> Callable[[tuple[Endpoint, ...]], None]:
        """Programs the node's Service address with the endpoints that it is told, in one transaction."""
        namespace = self._nodes[node]
        return lambda endpoints: _nft(namespace, service_rules(endpoints))

    def client(self, node: str) -> Callable[[bool], aiohttp.BaseConnector]:
        """Connectors for a client on `node`: fresh connections, or one that is kept."""
        factory = self._factory(node)

        def connector(fresh: bool) -> aiohttp.BaseConnector:
            if fresh:
                return aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=factory)
            return aiohttp.TCPConnector(limit=1, keepalive_timeout=KEEP_IDLE_S, socket_factory=factory)

        return connector

    def on_node(self, node: str, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` in the node's namespace."""
        return ["ip", "netns", "exec", self._nodes[node], *command]

    def _factory(self, node: str) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
        namespace = self._nodes[node]

        def make(info: aiohttp.AddrInfoType) -> socket.socket:
            family, kind, protocol, _, _ = info
            with inside(namespace):
                made = socket.socket(family=family, type=kind, proto=protocol)
            made.setblocking(False)
            return made

        return make

    def _join(self, namespace: str, ip: str, port: str) -> str:
        """Shell commands: a namespace with `ip` on the bridge."""
        return "\n".join(
            (
                "set -e",
                f"ip netns add {namespace}",
                f"ip link add eth0 netns {namespace} type veth peer name {port} netns {self._hub}",
                f"ip -n {self._hub} link set {port} master br0 up",
                f"ip -n {namespace} link set lo up",
                f"ip -n {namespace} addr add {ip}/16 dev eth0",
                f"ip -n {namespace} link set eth0 up",
            )
        )


CONNTRACK = """
    table ip keep {
        chain nat { type nat hook output priority -90; ip daddr 192.0.2.1 dnat to 192.0.2.2; }
        chain track { type filter hook output priority -10; ct state invalid counter; }
    }
"""
"""The kernel follows connections only while some rule needs it. On a real node one always does; here, when the Service
has lost its last endpoint, this is the one: else established connections would lose their translation."""


def service_rules(endpoints: Sequence[Endpoint]) -> str:
    """kube-proxy's work for one Service, as an nftables script that replaces the former one atomically."""
    match = f"ip daddr {SERVICE_IP} tcp dport {SERVICE_PORT}"
    if endpoints:
        targets = ", ".join(f"{n} : {each.ip} . {each.port}" for n, each in enumerate(endpoints))
        nat, guard = f"{match} dnat ip to numgen random mod {len(endpoints)} map {{ {targets} }}", ""
    else:
        nat, guard = "", f"{match} reject with tcp reset"
    return f"""
        table ip service
        delete table ip service
        table ip service {{
            chain nat {{ type nat hook output priority -100; {nat}; }}
            chain guard {{ type filter hook output priority 0; {guard}; }}
        }}
    """


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread is in `namespace`. No await inside: the thread belongs to everybody."""
    own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    there = os.open(_RUN / namespace, os.O_RDONLY)
    try:
        _setns(there)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(there)
        os.close(own)


def sweep() -> None:
    """Remove what a run that was killed left behind: namespaces named after a process that is gone."""
    if not _RUN.is_dir():
        return
    for entry in _RUN.iterdir():
        pid = entry.name.removeprefix(PREFIX).partition("-")[0]
        if entry.name.startswith(PREFIX) and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _remove(entry.name)


def _remove(namespace: str) -> None:
    """The namespace and every process that still runs in it."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _sh(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True)


def _nft(namespace: str, script: str) -> None:
    command = ["ip", "netns", "exec", namespace, "nft", "-f", "-"]
    subprocess.run(command, input=script, check=True, capture_output=True, text=True)
