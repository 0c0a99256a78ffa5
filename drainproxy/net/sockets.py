"""How does an address become listening sockets? Bound, listening and non-blocking; or one line that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy.errors import BindError
from drainproxy.net.resolve import resolve

if TYPE_CHECKING:
    from drainproxy.config.values import Address

RESOLVE_S = 5.0
"""The name of an address to listen on must resolve within this time."""
EVERYWHERE = ("", "::")
UNIX_MODE = 0o666
"""Containers of a Pod run as different users: the directory decides who reaches a unix socket, as with nginx."""

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.EINVAL)
"""How a host says that it has no IPv6 (or not this address of it)."""


def bind(address: Address, backlog: int) -> list[socket.socket]:
    """Sockets that listen on `address`: connections queue in the kernel from here on. Raises BindError.

    No host, or `[::]`: one socket for IPv6 and IPv4, IPv4 alone where IPv6 is off. A name: each of its addresses. Port
    0: the kernel chooses, the same one for all. A unix socket's file that nobody answers on is replaced.
    """
    if address.path:
        return [_bind_unix(address, backlog)]
    try:
        if address.host in EVERYWHERE:
            return [_bind_everywhere(address.port, backlog)]
        return _bind_each(address, backlog)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {_advice(address, error)}") from error


def _bind_everywhere(port: int, backlog: int) -> socket.socket:
    try:
        return _listen(socket.AF_INET6, ("::", port), backlog, dual=True)
    except OSError as error:
        if error.errno not in _NO_SUCH_FAMILY:
            raise
    return _listen(socket.AF_INET, ("0.0.0.0", port), backlog)  # noqa: S104 - all addresses is what was asked for


def _bind_each(address: Address, backlog: int) -> list[socket.socket]:
    """Every address that the host's name stands for. One that this machine does not have is left out, not all."""
    found: list[tuple[int, tuple[object, ...]]] = []
    for host in resolve(address.host, RESOLVE_S):
        numeric = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found += [(each[0], each[4]) for each in numeric]
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    port = address.port
    for family, where in dict.fromkeys(found):
        try:
            sockets.append(_listen(family, (where[0], port, *where[2:]), backlog))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                for each in sockets:
                    each.close()
                raise
            missing = error
        else:
            port = sockets[-1].getsockname()[1]
    if not sockets:
        assert missing is not None, "a name without addresses does not resolve"
        raise missing
    return sockets


def _listen(family: int, where: tuple[object, ...], backlog: int, *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(where)
        # Only here the kernel says for certain that someone else has the port: SO_REUSEADDR lets two bind.
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: Address, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(address.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(address.path):
                raise
            Path(address.path).unlink()
            sock.bind(address.path)
        Path(address.path).chmod(UNIX_MODE)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {address}: {_unix_advice(address.path, error)}") from error
    return sock


def _is_stale(path: str) -> bool:
    """A socket's file whose process is gone. Anything else there is somebody's, and stays."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            return probe.connect_ex(path) == errno.ECONNREFUSED
    except OSError:
        return False


def _advice(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name {address.host!r} does not resolve ({error.strerror}); write an IP address, or :{address.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {address.port} is taken, perhaps by another container of the Pod or by another drainproxy "
                f"(`ss -ltnp` shows which); stop it, or listen on another port"
            )
        case errno.EACCES:
            return (
                f"port {address.port} needs root or the capability NET_BIND_SERVICE; "
                f"listen on a port from 1024 up and map it in the Service"
            )
        case errno.EADDRNOTAVAIL:
            return f"{address.host} is not an address of this machine; listen on :{address.port} for all its addresses"
        case _:
            return error.strerror or str(error)


def _unix_advice(path: str, error: OSError) -> str:
    directory = os.path.dirname(path) or "."  # noqa: PTH120 - a Path would turn "" into "." and hide what was written
    match error.errno:
        case errno.EADDRINUSE:
            return "a running process listens there, or it is not a socket; stop the process, or use another path"
        case errno.ENOENT:
            return f"the directory {directory} does not exist; create it, or mount a volume there"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{directory} is not writable; use a directory that is, such as an emptyDir volume"
        case None:
            return "the path is too long for a unix socket (107 bytes); use a shorter one"
        case _:
            return error.strerror or str(error)
