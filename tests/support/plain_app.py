"""A plain app on `http.server`: it does what the path asks, and dies on SIGTERM like most.

/echo      the request's method, target, headers and body, as JSON
/sleep/S   answers after S seconds
/until/KEY answers when somebody asks for /go/KEY
/bytes/N   N bytes, with Content-Length; /chunks/N the same in chunks, with a trailer
/exit      the app ends at once, with whatever is in flight
/count     how many requests with this `key` in the query have come
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from urllib.parse import parse_qs, urlsplit

COUNTS: Counter[str] = Counter()
GONE: defaultdict[str, Event] = defaultdict(Event)
BLOCK = bytes(range(256)) * 256


class Handler(BaseHTTPRequestHandler):
    """Every method, HTTP/1.1 with keep-alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        path = urlsplit(self.path)
        body = self.read_body()
        word, _, argument = path.path[1:].partition("/")
        key = parse_qs(path.query).get("key", [""])[0]
        COUNTS[key] += 1
        if word == "sleep":
            time.sleep(float(argument))
            self.answer(f"slept {argument}\n".encode())
        elif word == "until":
            GONE[argument].wait()
            self.answer(b"")
        elif word == "go":
            GONE[argument].set()
            self.answer(b"")
        elif word == "bytes":
            self.send_bytes(int(argument))
        elif word == "chunks":
            self.send_chunks(int(argument))
        elif word == "status":
            self.send_response(int(argument))
            if int(argument) not in (204, 304):
                self.send_header("Content-Length", "0")
            self.end_headers()
        elif word == "exit":
            self.answer(b"")
            os._exit(1)
        elif word == "count":
            self.answer(str(COUNTS[key] - 1).encode())
        else:
            seen = {
                "method": self.command,
                "target": self.path,
                "version": self.request_version,
                "headers": [[name, value] for name, value in self.headers.items()],
                "body": body.decode("latin-1"),
            }
            self.answer(json.dumps(seen).encode(), "application/json")

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        left = int(self.headers.get("Content-Length", 0))
        if left > 1 << 20:  # uploads are counted, not kept
            total = left
            while left:
                left -= len(self.rfile.read(min(left, 1 << 16)))
            return str(total).encode()
        return self.rfile.read(left)

    def answer(self, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_bytes(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size > 0 and self.command != "HEAD":
            self.wfile.write(BLOCK[:size])
            size -= len(BLOCK)

    def send_chunks(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Sum")
        self.end_headers()
        total = size
        while size > 0:
            block = BLOCK[:size]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
            size -= len(block)
        self.wfile.write(b"0\r\nX-Sum: %d\r\n\r\n" % total)

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_PURGE = handle_any  # noqa: N815


class Server(ThreadingHTTPServer):
    """Many clients may connect at once."""

    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
