"""An upstream that does exactly what a test says, for the faults no real app can be asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Peer:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.buffer = b""

    def request(self) -> bytes:
        """The next request's head and Content-Length body; empty at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return b""
        head = self.buffer.partition(b"\r\n\r\n")[0]
        fields = head.lower().split(b"\r\n")
        need = sum(int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:"))
        while len(self.buffer) < len(head) + 4 + need:
            if not self._more():
                return b""
        request, self.buffer = self.buffer[: len(head) + 4 + need], self.buffer[len(head) + 4 + need :]
        return request

    def _more(self) -> bool:
        data = self.sock.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def head(self) -> bytes:
        """A request's head alone."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return b""
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def ok(self, body: bytes = b"ok") -> None:
        """Answer 200."""
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


@contextmanager
def upstream(script: Callable[[Peer], None], port: int = 0) -> Iterator[str]:
    """`script` runs in a thread for each connection, which is closed when it returns."""
    server = socket.create_server(("127.0.0.1", port), backlog=100)
    peers: list[socket.socket] = []

    def run(sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script(Peer(sock, number))

    def accept() -> None:
        number = 0
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            peers.append(sock)
            threading.Thread(target=run, args=(sock, number), daemon=True).start()
            number += 1

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        acceptor.join()
        for sock in peers:
            with contextlib.suppress(OSError):
                sock.close()
