"""What does an app look like that nobody prepared for rollouts? This one: it answers, and it dies on SIGTERM.

Run as `python -m drainproxy.tools.cluster.plain_app [PORT]`; without it, the environment's PORT or 8080.

    /            after 20 ms
    /slow        nothing for SECONDS, then the whole response  (?s=SECONDS, 3 by default)
    /drip        the head at once, the body over SECONDS
    POST         reads the whole body, answers with its length
"""

from __future__ import annotations

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

QUICK_S, SLOW_S = 0.02, 3.0
_PIECES = 30
_CHUNK = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    """Every response has a length and names the Pod."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        seconds = float(parse_qs(parts.query).get("s", [str(SLOW_S)])[0])
        if parts.path == "/slow":
            time.sleep(seconds)
            self._answer(b"slow, but whole\n")
        elif parts.path == "/drip":
            self._drip(seconds)
        elif parts.path == "/healthz":
            self._answer(b"ok\n")
        else:
            time.sleep(QUICK_S)
            self._answer(b"hello\n")

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length", "0"))
        size = left
        while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
            left -= len(chunk)
        self._answer(f"{size - left}\n".encode())

    def _answer(self, body: bytes) -> None:
        self._head(len(body))
        self.wfile.write(body)

    def _drip(self, seconds: float) -> None:
        piece = b"." * 1023 + b"\n"
        self._head(len(piece) * _PIECES)
        for _ in range(_PIECES):
            self.wfile.write(piece)
            time.sleep(seconds / _PIECES)

    def _head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(length))
        self.send_header("X-Pod", os.environ.get("POD_NAME", ""))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """A plain app does not log every request."""


class Server(ThreadingHTTPServer):
    """A backlog for bursts, and a port that can be reused at once."""

    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a traceback."""


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("PORT", "8080"))
    Server((os.environ.get("POD_IP", "127.0.0.1"), port), Handler).serve_forever()


if __name__ == "__main__":
    main()
