"""What does a gRPC client see that keeps streams open? Each request is a stream of 3 s that must come whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from drainproxy.tools.probe import verdict
from drainproxy.tools.probe.verdict import Reply
from tests.cluster.peers.grpc_app import SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from drainproxy.tools.probe.load import Traffic

PIECES, PAUSE_S = 15, 0.2
WHOLE = [b"%d" % number for number in range(PIECES)]


class StreamClient:
    """Streams from the server and streams in both directions, in turn, over kept channels that take turns."""

    def __init__(self, traffic: Traffic, target: str) -> None:
        self.on_loss: Callable[[Reply], None] = lambda _: None
        self._timeout_s = traffic.timeout_s
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(max(1, traffic.connections))]

    async def send(self, number: int) -> Reply:
        channel = self._channels[number % len(self._channels)]
        stream = self._echo(channel) if number % 2 else self._numbers(channel)
        try:
            came = [piece async for piece in stream]
        except grpc.aio.AioRpcError as error:
            return Reply(error.code().name, error.details() or "", reused=True)
        return Reply() if came == WHOLE else Reply(verdict.CUT, f"{len(came)} of {PIECES} messages", reused=True)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def _numbers(self, channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
        call = channel.unary_stream(f"/{SERVICE}/Numbers")
        return aiter(call(b"%d %f" % (PIECES, PAUSE_S), timeout=self._timeout_s))

    def _echo(self, channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
        async def slowly() -> AsyncIterator[bytes]:
            for piece in WHOLE:
                await asyncio.sleep(PAUSE_S)
                yield piece

        return aiter(channel.stream_stream(f"/{SERVICE}/Echo")(slowly(), timeout=self._timeout_s))
