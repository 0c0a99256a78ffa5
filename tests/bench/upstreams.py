"""What stands behind the proxies? An nginx with fast fixed answers and files, and Python apps for what it cannot do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.bench.host import Cores, Process, free_port, wait_until
from tests.bench.wire import answers, body_of

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"64KiB": 64 << 10, "1MiB": 1 << 20, "4MiB": 4 << 20, "100MiB": 100 << 20}
UPLOAD_WINDOW_BITS = 20
"""HTTP/2 flow control at nghttpd: 1 MiB, as Go's servers give a connection; with 64 KiB it would wait for updates."""

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/upstream.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
  scgi_temp_path {dir};
  keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on; open_file_cache max=16;
  default_type application/json; http2_max_concurrent_streams 1024;
  server {{
    listen 127.0.0.1:{http1} backlog=4096; listen 127.0.0.1:{http2} http2 backlog=4096;
    location / {{
      add_header Cache-Control "private, max-age=60"; add_header ETag '"5f3a-61d2"'; add_header Vary Accept-Encoding;
      return 200 '{{"id": 4711, "name": "a small answer", "tags": ["one", "two"], "price": "12.50", "stock": 3}}';
    }}
    location /file/ {{ root {dir}; }}
    location = /count {{ stub_status; }}
  }}
}}
"""


class Upstreams:
    """Started once for a run; the Python ones when first asked for."""

    def __init__(self, directory: Path, cores: Cores) -> None:
        self.directory = directory
        self.cores = cores
        self.started: list[Process] = []
        self.ports: dict[str, int] = {}

    def port(self, kind: str) -> int:
        """The port of `http1`, `http2`, `app` (delays, uploads, WebSocket echo), `grpc`, `stream` or `upload2`."""
        starts = {"http1": self._start_nginx, "http2": self._start_nginx, "upload2": self._start_nghttpd}
        if kind not in self.ports:
            starts.get(kind, lambda: self._start_python(kind))()
        return self.ports[kind]

    def requests(self, kind: str) -> int:
        """How many requests `http1` or `app` has had. nginx says so in the third number of a line of three."""
        numbers = [int(word) for word in body_of(self.port(kind), "/count").split() if word.isdigit()]
        return numbers[3] if kind == "http1" else numbers[0]

    def file(self, name: str) -> Path:
        """Where the file of FILES is that `http1` and `http2` serve as `/file/NAME`."""
        file = self.directory / "file" / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x" * FILES[name])
        return file

    def stop(self) -> None:
        for process in self.started:
            process.stop()

    def _start_nginx(self) -> None:
        for name in FILES:
            self.file(name)
        self.ports |= {"http1": free_port(), "http2": free_port()}
        config = self.directory / "upstream.conf"
        config.write_text(NGINX.format(dir=self.directory, **self.ports))
        self._start("upstream nginx", ["nginx", "-p", str(self.directory), "-c", str(config)], self.ports["http1"])

    def _start_nghttpd(self) -> None:
        """Uploads over HTTP/2, read to their end: nginx would answer at once and throw the body away."""
        root = self.directory / "uploaded"
        root.mkdir()
        (root / "upload").write_text("ok\n")
        port = self.ports["upload2"] = free_port()
        windows = [f"-w{UPLOAD_WINDOW_BITS}", f"-W{UPLOAD_WINDOW_BITS}"]
        self._start("upstream nghttpd", ["nghttpd", "--no-tls", "-d", str(root), *windows, str(port)], port)

    def _start_python(self, kind: str) -> None:
        port = self.ports[kind] = free_port()
        self._start(f"upstream {kind}", [sys.executable, "-m", f"tests.bench.upstream_{kind}", str(port)], port)

    def _start(self, name: str, argv: list[str], port: int) -> None:
        process = Process(name, argv, self.cores.load, self.directory / f"{name.replace(' ', '-')}.log")
        self.started.append(process)

        def up() -> bool:
            process.check_alive()
            return answers(port)

        wait_until(up, f"{name} did not listen")
