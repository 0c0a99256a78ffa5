"""How does a measurement talk to a port when it only needs one answer? Plain blocking sockets."""

from __future__ import annotations

import socket


def answers(port: int) -> bool:
    """True if something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def status_of(port: int, path: str = "/", timeout_s: float = 5.0, method: str = "GET") -> int:
    """The status of one request over HTTP/1.1 on a fresh connection; 0 if there was no answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            fields = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n"
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode())
            head = connection.recv(65536)
    except OSError:
        return 0
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.") else 0


def body_of(port: int, path: str) -> str:
    """The body of one GET over HTTP/1.1 on a fresh connection. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while data := connection.recv(65536):
            received += data
            head, _, body = received.partition(b"\r\n\r\n")
            if f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n":
                break
    return received.partition(b"\r\n\r\n")[2].decode()


def serves_http2(port: int) -> bool:
    """True if the port answers an HTTP/2 preface (prior knowledge) with a SETTINGS frame."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4))
            return connection.recv(9)[3:4] == b"\x04"
    except OSError:
        return False
