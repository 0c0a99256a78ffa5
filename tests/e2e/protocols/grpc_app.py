"""A gRPC app that nobody made ready for shutdown: grpcio's server, every kind of call, the health service."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator


def unary(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Echo; `sleep SECONDS` takes its time first."""
    if request.startswith(b"sleep "):
        time.sleep(float(request[6:]))
    return request


def server_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """`COUNT PAUSE`: that many numbers, with a pause in seconds before each."""
    count, pause = request.split()
    for number in range(int(count)):
        time.sleep(float(pause))
        if not context.is_active():
            return
        yield b"%d" % number


def client_stream(requests: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
    """How many came."""
    return b"%d" % sum(1 for _ in requests)


def bidirectional(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Echo each."""
    yield from requests


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=64))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    checks = health.HealthServicer()
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(sys.argv[1])
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
