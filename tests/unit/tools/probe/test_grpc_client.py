"""What does a gRPC client see during a rollout? The health service's answers, and what breaks on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.tools.probe.grpc_client import GrpcClient, health_request, health_status
from drainproxy.tools.probe.load import Traffic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
health = pytest.importorskip("grpc_health.v1.health")
health_pb2_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2", reason="grpcio-health-checking is not installed")


@pytest.fixture
async def target() -> AsyncIterator[tuple[str, Any]]:
    """A real grpcio server with the real health service: its address, and the service."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", servicer
    await server.stop(0)


def test_our_few_bytes_are_the_real_messages() -> None:
    for name in ("", "shop", "a" * 127):
        assert health_request(name) == health_pb2.HealthCheckRequest(service=name).SerializeToString()
    for status in range(4):
        assert health_status(health_pb2.HealthCheckResponse(status=status).SerializeToString()) == status
    assert health_status(b"nonsense") == -1


async def test_serving_is_a_success_on_kept_and_fresh_channels(target: tuple[str, Any]) -> None:
    client = GrpcClient(Traffic(connections=2, fresh=0.5), target[0])
    replies = [await client.send(number) for number in range(8)]
    await client.close()
    assert [reply.fault for reply in replies] == [""] * 8
    assert sum(reply.reused for reply in replies) == 2


async def test_not_serving_is_a_failure(target: tuple[str, Any]) -> None:
    await target[1].set("shop", health_pb2.HealthCheckResponse.NOT_SERVING)
    client = GrpcClient(Traffic(connections=1, fresh=0), target[0], "shop")
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "NOT_SERVING"


async def test_a_grpc_status_is_the_failure_class(target: tuple[str, Any]) -> None:
    client = GrpcClient(Traffic(connections=1, fresh=0), target[0], "nobody")
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "NOT_FOUND"


async def test_nobody_there_is_unavailable() -> None:
    client = GrpcClient(Traffic(connections=1, fresh=0, timeout_s=5), "127.0.0.1:1")
    reply = await client.send(0)
    await client.close()
    assert reply.fault == "UNAVAILABLE"
