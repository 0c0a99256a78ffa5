"""What is a plain gRPC app? grpcio's server with the health service, a stream of numbers and an echo."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from tests.cluster.peers.end import die_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "cluster.Streams"


def numbers(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    """`COUNT PAUSE`: that many numbers, with a pause in seconds before each."""
    count, pause = request.split()
    for number in range(int(count)):
        time.sleep(float(pause))
        yield b"%d" % number


def echo(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=64))
    handlers = {
        "Numbers": grpc.unary_stream_rpc_method_handler(numbers),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_insecure_port("0.0.0.0:8080")
    server.start()
    die_on_sigterm()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
