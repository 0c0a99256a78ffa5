"""Apps nobody here wrote, as upstreams: started, awaited, stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def need(program: str, package: str) -> str:
    """The program's path; the test is skipped, and says so, where it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is missing: apt-get install {package}")
    return path


def free_port() -> int:
    """A port that is free now. For apps that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Somebody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once it accepts connections on the port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    try:
        wait_for(lambda: accepts(port) or process.poll() is not None, f"{command[0]} on port {port}")
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def http_server(port: int | None = None) -> Iterator[str]:
    """`http.server` with a handler that does what its path asks (tests/support/plain_app.py). Dies on SIGTERM."""
    port = port or free_port()
    with running([sys.executable, str(HERE / "plain_app.py"), str(port)], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def gunicorn(*options: str) -> Iterator[str]:
    """gunicorn with tests/support/wsgi_app.py."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-b",
        f"127.0.0.1:{port}",
        "--chdir",
        str(HERE),
        *options,
        "wsgi_app:app",
    ]
    with running(command, port):
        yield f"127.0.0.1:{port}"


@contextmanager
def uvicorn(*options: str) -> Iterator[str]:
    """uvicorn with tests/support/asgi_app.py."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--app-dir", str(HERE), *options, "asgi_app:app"]
    with running(command, port):
        yield f"127.0.0.1:{port}"


@contextmanager
def node() -> Iterator[str]:
    """Node's http server with tests/support/node_app.js."""
    program = need("node", "nodejs")
    port = free_port()
    with running([program, str(HERE / "node_app.js"), str(port)], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """nginx that serves the files of `folder`."""
    program = need("nginx", "nginx-light")
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # as root its worker would be nobody, who may not read here
    config.write_text(
        textwrap.dedent(f"""
        daemon off; master_process off; {user} pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 512; }}
        http {{
          access_log off; client_max_body_size 0; client_body_temp_path {folder}; proxy_temp_path {folder};
          fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
          server {{
            listen 127.0.0.1:{port};
            location / {{ root {folder}; }}
            location /nothing {{ return 204; }}
            location /ok {{ return 200 "ok\\n"; }}
          }}
        }}
        """)
    )
    with running([program, "-c", str(config), "-p", str(folder)], port):
        yield f"127.0.0.1:{port}"
