"""How many TLS connections can be made, with a full handshake or a resumed session? One small GET on each."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from tests.bench.client import run
from tests.bench.host import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n"


class Visitor:
    """Connects again and again; with `resumes`, by the session of the connection before."""

    def __init__(self, port: int, *, resumes: bool) -> None:
        self.port = port
        self.resumes = resumes
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.session: ssl.SSLSession | None = None

    def visit(self) -> bool:
        """Connect and read one answer to its end; True if the session was resumed."""
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the request must not wait for the Finished's ACK
        with plain, self.context.wrap_socket(plain, session=self.session) as secured:
            secured.sendall(REQUEST)
            answer = b""
            while data := secured.recv(65536):
                answer += data
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"unexpected answer {answer[:60]!r}")
            if self.resumes:
                self.session = secured.session  # by now the server's tickets are read
            return bool(secured.session_reused)


def prepare(*, port: int, visitors: int, resumes: bool, run_s: float) -> Callable[[], dict[str, float]]:
    everyone = [Visitor(port, resumes=resumes) for _ in range(visitors)]
    for each in everyone:
        each.visit()

    def work() -> dict[str, float]:
        until = time.monotonic() + run_s
        resumed: list[bool] = []
        failures: list[Exception] = []

        def visit(visitor: Visitor) -> None:
            try:
                while time.monotonic() < until:
                    resumed.append(visitor.visit())
            except (BenchError, OSError) as failure:
                failures.append(failure)

        threads = [threading.Thread(target=visit, args=(each,)) for each in everyone]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if failures:
            raise failures[0]
        return {"connections": len(resumed), "resumed": sum(resumed)}

    return work


if __name__ == "__main__":
    run(prepare)
