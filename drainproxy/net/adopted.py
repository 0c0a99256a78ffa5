"""Which listening sockets did another process open for us? systemd, or the drainproxy whose place we take.

They come as descriptors from 3 on, described in the environment: sd_listen_fds(3). Whoever connects while we start
waits in their queue, which is the same before and after: nobody is refused.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

from drainproxy.errors import BindError
from drainproxy.net.sockets import EVERYWHERE, bind

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from drainproxy.config.values import Address, Route

FIRST = 3
"""SD_LISTEN_FDS_START: standard input, output and error come before."""
ADMIN = "admin"
"""The name of the admin port's socket."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def names(routes: Iterable[Route]) -> list[str]:
    """What the sockets of each route are called: after its address, without the colons that separate names."""
    seen: Counter[Address] = Counter()
    found = []
    for route in routes:
        number = seen[route.listen]  # several routes may let the kernel choose their port
        seen[route.listen] += 1
        found.append(quote(str(route.listen), safe="") + (f"~{number}" if number else ""))
    return found


def admin_of(address: Address) -> str:
    """What one generation of drainproxy calls the admin port's socket for the next, which may want another address."""
    return f"{ADMIN}~{quote(str(address), safe='')}"


class Adopted:
    """Sockets by name, in the order in which they came. Each is taken once."""

    def __init__(self, sockets: list[tuple[str, socket.socket]]) -> None:
        self._sockets = sockets
        self.taken: list[str] = []
        """Names of those that were taken."""

    def bind(self, name: str, address: Address, backlog: int) -> list[socket.socket]:
        """The sockets of this name, or else those that are bound to this address, or else new ones. Raises BindError.

        What was configured when a socket was opened may differ: its name says what it is for, its address what it is.
        """
        found = [each for each in self._sockets if each[0] == name]
        found = found or [each for each in self._sockets if _is_bound_to(each[1], address)]
        self._sockets = [each for each in self._sockets if each not in found]
        self.taken += [each for each, _ in found]
        return [sock for _, sock in found] or bind(address, backlog)

    def refuse_rest(self) -> None:
        """Raises BindError if a socket is left that no option names: its clients would wait for ever."""
        for name, sock in self._sockets:
            where = _shown(sock)
            self.close_rest()
            raise BindError(
                f"the socket {name or '(no name)'} on {where}, which was passed in, belongs to no option: add "
                f"--route {where}=UPSTREAM, set --listen or --admin to {where}, or call it FileDescriptorName=admin"
            )

    def close_rest(self) -> None:
        """What is not taken is not ours."""
        for _, sock in self._sockets:
            sock.close()
        self._sockets = []


def adopt(environ: MutableMapping[str, str], pid: int) -> Adopted:
    """The sockets that were passed to process `pid`. Their variables are removed: no child takes them for its own.

    Raises BindError if a descriptor is no listening stream socket.
    """
    told = {name: environ.pop(name, "") for name in VARIABLES}
    if told["LISTEN_PID"] != str(pid) or not told["LISTEN_FDS"].isdigit():
        return Adopted([])
    count = int(told["LISTEN_FDS"])
    names = told["LISTEN_FDNAMES"].split(":")
    names += [""] * (count - len(names))
    return Adopted([(name, _listening(fd)) for name, fd in zip(names, range(FIRST, FIRST + count), strict=False)])


def _listening(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise BindError(f"descriptor {descriptor}, which was passed in, is not a socket: {error.strerror}") from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise BindError(
            f"descriptor {descriptor}, which was passed in, is not a listening stream socket: "
            f"in the .socket unit, use ListenStream= and Accept=no"
        )
    sock.setblocking(False)
    return sock


def _is_bound_to(sock: socket.socket, address: Address) -> bool:
    where = sock.getsockname()
    if isinstance(where, str):
        return where == address.path
    if address.path or where[1] != address.port:
        return False
    return where[0] == address.host or (address.host in EVERYWHERE and where[0] in ("::", "0.0.0.0"))  # noqa: S104 - compared, not bound


def _shown(sock: socket.socket) -> str:
    where = sock.getsockname()
    if isinstance(where, str):
        return f"unix:{where}"
    return f"[{where[0]}]:{where[1]}" if sock.family == socket.AF_INET6 else f"{where[0]}:{where[1]}"
