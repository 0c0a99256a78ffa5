"""What one client has cost is given back when it is gone, or idle: nothing of an exchange lives after it."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

from tests.support.proxy import Proxy, wait_for

KIB_PER_CLIENT = 10
"""What a connection may cost while it is open and idle. Its first read was ten and twenty times that."""
RESET = struct.pack("ii", 1, 0)


def idle(proxy: Proxy, clients: int) -> bool:
    status = proxy.status()
    return status["connections"]["client"] == clients and not any(status["in_flight"].values())


def test_clients_that_reset_in_mid_upload_leave_nothing_behind(proxy: Proxy) -> None:
    before = proxy.resident_kib()
    for _ in range(800):
        with socket.create_connection(proxy.address) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_for(lambda: idle(proxy, 0), "their end")
    assert proxy.resident_kib() - before < 800 * KIB_PER_CLIENT


def test_an_idle_connection_keeps_nothing_of_what_it_carried(proxy: Proxy) -> None:
    before = proxy.resident_kib()
    with ExitStack() as clients:
        for _ in range(300):
            client = clients.enter_context(socket.create_connection(proxy.address))
            client.sendall(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        wait_for(lambda: idle(proxy, 300), "the end of all exchanges")
        assert proxy.resident_kib() - before < 300 * KIB_PER_CLIENT
