"""How do the small commands talk to a running drainproxy? One request, one answer, over a plain socket.

`drainproxy drain` runs in a container's preStop, where every millisecond of start-up is taken from the drain: nothing
heavier than the socket module is imported here.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.errors import AdminError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.config.values import Address

CONNECT_S = 2.0
"""For the connection, which is in the same Pod or not there at all."""
MAX_ANSWER = 4 << 20
LOOPBACK = ("127.0.0.1", "::1")
UNAUTHORIZED, FORBIDDEN = 401, 403
NOT_OURS = "not an answer from drainproxy"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as one line."""
        return " ".join(self.body.decode("utf-8", "replace").split())

    def document(self) -> dict[str, Any]:
        """The body as JSON. Raises AdminError."""
        try:
            document = json.loads(self.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise AdminError(f"not an answer from drainproxy ({self.status}): {self.text[:200]!r}")
        return document


def ask(address: Address, method: str, target: str, *, token: str | None, timeout_s: float | None) -> Answer:
    """Send one request to the admin port and read the whole answer within `timeout_s`. Raises AdminError."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _connect(address, timeout_s) as sock:
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{credentials}Connection: close\r\n"
        try:
            sock.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
            answer = _read(sock, deadline)
        except TimeoutError as error:
            raise AdminError(f"{address} has not answered within {timeout_s:g}s") from error
        except OSError as error:
            raise AdminError(f"{address} broke off: {error.strerror or error}") from error
    if answer.status in (UNAUTHORIZED, FORBIDDEN):
        raise AdminError(f"{address} refuses: {answer.text}")
    return answer


def _read(sock: socket.socket, deadline: float | None) -> Answer:
    """The answer, up to the end that its Content-Length names: a server may keep the connection open."""
    received = bytearray()
    while (head_end := received.find(b"\r\n\r\n")) < 0:
        part = _receive(sock, deadline)
        if not part or len(received) > MAX_ANSWER:
            raise AdminError(NOT_OURS if received else "the connection was closed without an answer")
        received += part
    status, length = _head(bytes(received[:head_end]))
    body = received[head_end + 4 :]
    while length is None or len(body) < length:
        part = _receive(sock, deadline)
        if not part and length is not None:
            raise AdminError("the answer was cut off")
        if not part:
            break
        body += part
        if len(body) > MAX_ANSWER:
            raise AdminError(NOT_OURS)
    return Answer(status, bytes(body[:length]))


def _receive(sock: socket.socket, deadline: float | None) -> bytes:
    """What comes next, or nothing at the end. Raises TimeoutError at the deadline, however much has come by then."""
    left_s = None if deadline is None else deadline - time.monotonic()
    if left_s is not None and left_s <= 0:
        raise TimeoutError
    sock.settimeout(left_s)
    return sock.recv(65536)


def _head(head: bytes) -> tuple[int, int | None]:
    """Status and Content-Length of a drainproxy's answer. Raises AdminError if it is somebody else's."""
    status_line, *lines = head.split(b"\r\n")
    words = status_line.split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 - version, status
        raise AdminError(f"not HTTP: {status_line[:80].decode('latin-1')!r}")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    server = fields.get(b"server", b"(no name)").decode("latin-1")
    if server != "drainproxy":
        raise AdminError(f"{NOT_OURS}, but of {server[:80]!r}: is this the --admin address?")
    length = fields.get(b"content-length", b"")
    return int(words[1]), int(length) if length.isdigit() else None


def _connect(address: Address, timeout_s: float | None) -> socket.socket:
    """A connection. Where drainproxy listens on all addresses, it is asked on the loopback one."""
    limit = CONNECT_S if timeout_s is None else min(CONNECT_S, timeout_s)
    problem: OSError | None = None
    for where in _candidates(address):
        try:
            if isinstance(where, str):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.settimeout(limit)
                sock.connect(where)
                return sock
            return socket.create_connection(where, timeout=limit)
        except OSError as error:
            problem = error
    assert problem is not None, "every address has a candidate"
    reason = "no answer" if isinstance(problem, TimeoutError) else problem.strerror or str(problem)
    raise AdminError(
        f"no drainproxy at {address} ({reason}): is `drainproxy serve` running, and is this its --admin address?"
    ) from problem


def _candidates(address: Address) -> Iterator[tuple[str, int] | str]:
    if address.path:
        yield address.path
    elif address.host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        yield from ((host, address.port) for host in LOOPBACK)
    else:
        yield address.host, address.port
