"""A client that says exactly what a test wants said, over a plain socket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Wire:
    """One TCP connection. Reads block at most ten seconds."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Wire:
        """Send all of it."""
        self.sock.sendall(data)
        return self

    def get(self, target: str = "/", *headers: str) -> Wire:
        """Send a GET."""
        lines = "".join(f"{header}\r\n" for header in headers)
        return self.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        while mark not in self.buffer:
            more = self.sock.recv(1 << 16)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        at = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:at], self.buffer[at:]
        return data

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self.buffer) < size:
            more = self.sock.recv(1 << 16)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def response(self, *, bodyless: bool = False) -> tuple[int, dict[str, str], bytes]:
        """One response with Content-Length or chunks: status, fields (lower case), body."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if bodyless or status in (204, 304) or status < 200:
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n"), 16):
                body += self.read(size)
                self.read(2)
            while (line := self.read_until(b"\r\n")) != b"\r\n":
                name, _, value = line.decode().partition(":")
                fields["trailer " + name.lower()] = value.strip()
            return status, fields, body
        if "content-length" not in fields:
            return status, fields, self.rest()
        return status, fields, self.read(int(fields["content-length"]))

    def rest(self) -> bytes:
        """Everything until the end of the connection. Raises ConnectionResetError if it is cut."""
        while more := self.sock.recv(1 << 16):
            self.buffer += more
        data, self.buffer = self.buffer, b""
        return data

    def closed(self) -> bool:
        """The other side has closed (FIN or reset)."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
