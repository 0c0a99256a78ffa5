"""Does a gRPC call through the proxy arrive and come back? One call by grpcio, before h2load makes the load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from tests.bench.client import run
from tests.bench.host import BenchError
from tests.bench.upstream_grpc import METHOD

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(*, port: int) -> Callable[[], dict[str, float]]:
    def work() -> dict[str, float]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                echo = channel.unary_unary(METHOD)(b"hello", timeout=5)
            except grpc.RpcError as failed:
                raise BenchError(f"gRPC call failed: {failed}".splitlines()[0]) from failed
        if echo != b"hello":
            raise BenchError(f"gRPC returned {echo!r}")
        return {"calls": 1}

    return work


if __name__ == "__main__":
    run(prepare)
