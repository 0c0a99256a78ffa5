"""What the protocol tests share: apps that speak each protocol, and a drainproxy in front of them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import free_port, need, running
from tests.support.proxy import Proxy, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@contextmanager
def grpc_app() -> Iterator[str]:
    """A gRPC app's address."""
    port = free_port()
    with running([sys.executable, str(HERE / "grpc_app.py"), f"127.0.0.1:{port}"], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def nghttpd(folder: Path, *options: str) -> Iterator[str]:
    """nghttp2's server, which serves the files of `folder`."""
    program = need("nghttpd", "nghttp2-server")
    port = free_port()
    with running([program, "--no-tls", "-d", str(folder), *options, str(port)], port):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def rpc() -> Iterator[Proxy]:
    """A ready proxy in front of a gRPC app, for tests that leave it as they found it."""
    with grpc_app() as address, serve(address) as proxy:
        yield proxy.await_ready()


@pytest.fixture(scope="module", params=["uvloop", "stock"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A ready proxy in front of nghttpd, which serves `small` (100 bytes) and `large` (4 MiB). On both loops."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "small").write_bytes(b"x" * 100)
    (folder / "large").write_bytes(bytes(range(256)) * (1 << 14))
    with nghttpd(folder) as address, serve(address, stock_loop=request.param == "stock") as proxy:
        yield proxy.await_ready()
