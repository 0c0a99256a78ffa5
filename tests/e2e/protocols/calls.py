"""Calls to the gRPC app, of every kind, with both of grpcio's clients."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECES = [b"one", b"two", b"three"]
TIMEOUT_S = 20


@dataclass
class Tally:
    """What became of the calls."""

    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def failure(self, kind: str, error: grpc.RpcError) -> None:
        self.failed.append(f"{kind}: {error.code()} {error.details()} {getattr(error, 'debug_error_string', str)()}")


def methods(channel: Any) -> dict[str, Any]:
    """The app's methods on a channel of either kind."""
    return {
        "unary": channel.unary_unary("/test.Echo/Unary"),
        "server stream": channel.unary_stream("/test.Echo/ServerStream"),
        "client stream": channel.stream_unary("/test.Echo/ClientStream"),
        "bidirectional": channel.stream_stream("/test.Echo/Bidirectional"),
    }


def call(method: dict[str, Any], kind: str) -> None:
    """One call, its answer checked."""
    if kind == "unary":
        assert method[kind](b"hello", timeout=TIMEOUT_S) == b"hello"
    elif kind == "server stream":
        assert list(method[kind](b"3 0.01", timeout=TIMEOUT_S)) == [b"0", b"1", b"2"]
    elif kind == "client stream":
        assert method[kind](iter(PIECES), timeout=TIMEOUT_S) == b"3"
    else:
        assert list(method[kind](iter(PIECES), timeout=TIMEOUT_S)) == PIECES


async def call_aio(method: dict[str, Any], kind: str) -> None:
    """As `call`."""
    if kind == "unary":
        assert await method[kind](b"hello", timeout=TIMEOUT_S) == b"hello"
    elif kind == "server stream":
        assert [piece async for piece in method[kind](b"3 0.01", timeout=TIMEOUT_S)] == [b"0", b"1", b"2"]
    elif kind == "client stream":
        assert await method[kind](iter(PIECES), timeout=TIMEOUT_S) == b"3"
    else:
        assert [piece async for piece in method[kind](iter(PIECES), timeout=TIMEOUT_S)] == PIECES


KINDS = ("unary", "server stream", "client stream", "bidirectional")


def load(channel: grpc.Channel, stop: threading.Event, tally: Tally) -> Iterator[threading.Thread]:
    """A thread for each kind of call, which calls until it is told to stop."""

    def run(kind: str) -> None:
        method = methods(channel)
        while not stop.is_set():
            try:
                call(method, kind)
                tally.done[kind] += 1
            except grpc.RpcError as error:
                tally.failure(kind, error)

    for kind in KINDS:
        thread = threading.Thread(target=run, args=(kind,), name=kind)
        thread.start()
        yield thread


async def load_aio(channel: grpc.aio.Channel, kind: str, stop: threading.Event, tally: Tally) -> None:
    """Calls of one kind until it is told to stop."""
    method = methods(channel)
    while not stop.is_set():
        try:
            await call_aio(method, kind)
            tally.done[kind] += 1
        except grpc.RpcError as error:
            tally.failure(kind, error)
        await asyncio.sleep(0)
