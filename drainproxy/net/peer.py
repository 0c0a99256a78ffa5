"""Who is the client, and what are its requests given on their way? Its address, and the fields made of it."""

from __future__ import annotations

import ipaddress
import random
from functools import lru_cache

from drainproxy.protocol.http1 import Forwarding


def peer_address(peername: object) -> str:
    """The client's IP address; `unix` for a unix socket. An IPv4 client of a dual-stack socket is shown as IPv4."""
    if not isinstance(peername, tuple) or not peername:
        return "unix"
    return str(peername[0]).removeprefix("::ffff:")


@lru_cache(maxsize=1024)
def forwarding(address: str, scheme: bytes, hops: bool = False) -> Forwarding:
    """What requests of a client with this address get added. Clients come back, so it is kept for the latest ones.

    `hops`: siblings may hand requests over, so those of a client in the cluster may say that they are such.
    """
    near = _is_near(address)
    return Forwarding(address.encode(), scheme, near, new_request_id, hops=hops and near)


def new_request_id() -> bytes:
    """32 hexadecimal digits, unique for all practical purposes; not a secret."""
    return b"%032x" % random.getrandbits(128)


def _is_near(address: str) -> bool:
    """Whether the hop before us is part of the cluster: only then is what it says of the client's own request kept."""
    if address == "unix":
        return True
    try:
        return not ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False
