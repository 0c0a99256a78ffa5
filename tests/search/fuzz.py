"""What can either end send that drainproxy does not survive? Right messages made wrong: `python -m tests.search.fuzz`.

Clients and the app play pieces of HTTP/1, WebSocket and HTTP/2 with bytes changed, cut, doubled or in another order,
and end in every way. Once a minute all of them stop: then nothing may be in flight or connected, nothing may have been
logged as a failure, and memory must be bounded. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import struct
import sys
import time
from contextlib import suppress
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.search.app import masked_frame
from tests.search.watched import watched
from tests.search.wire2 import PREFACE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUND_S = 60.0
LIMITS = {"idle_timeout": "3s", "header_timeout": "2s", "connect_wait": "500ms", "stream_idle_timeout": "8s"}
MOST_KIB = 150 * 1024
"""Resident memory, settled."""
CROWD = 24
"""Clients at a time."""

END = b"\r\n\r\n"
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 700000\r\n\r\n" + bytes(5000),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    masked_frame(1, b"hello") + masked_frame(9, b"") + masked_frame(8, b"\x03\xe9"),
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(9000),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue" + END + b"HTTP/1.1 103 Early Hints\r\nLink: x" + END + b"HTTP/1.1 204 No Content" + END,
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0" + END,
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket" + END + b"\x81\x05hello\x88\0",
]


def http2_frames(rng: Random, *, of_client: bool) -> list[bytes]:
    """Frames that make sense, in an order that may."""
    request = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
    block = Encoder().encode(request if of_client else [(":status", "200")])
    stream = rng.choice((0, 1, 1, 1, 2, 3, 5, 7, 2**31 - 1))
    frames: list[Frame] = [
        HeadersFrame(max(1, stream), block, flags=["END_HEADERS", *(["END_STREAM"] if rng.random() < 0.5 else [])]),
        HeadersFrame(max(1, stream), block[:2]),
        ContinuationFrame(max(1, stream), block[2:], flags=["END_HEADERS"]),
        DataFrame(
            max(1, stream), bytes(rng.choice((0, 1, 16_000))), flags=["END_STREAM"] if rng.random() < 0.5 else []
        ),
        RstStreamFrame(max(1, stream), error_code=rng.choice((0, 7, 8))),
        SettingsFrame(0, settings={rng.randint(1, 6): rng.choice((0, 1, 16_384, 2**24 - 1))}),
        SettingsFrame(0, flags=["ACK"]),
        PingFrame(0, b"12345678", flags=["ACK"] if rng.random() < 0.5 else []),
        GoAwayFrame(0, last_stream_id=rng.choice((0, 1, 2**31 - 1)), error_code=rng.choice((0, 0, 1, 9))),
        WindowUpdateFrame(stream if stream < 2**31 - 1 else 0, window_increment=rng.choice((1, 65_535))),
        PriorityFrame(max(1, stream), depends_on=0, stream_weight=1),
        PushPromiseFrame(max(1, stream), promised_stream_id=2, data=block, flags=["END_HEADERS"]),
    ]
    return [frame.serialize() for frame in rng.choices(frames, k=rng.randint(1, 12))]


def changed(rng: Random, data: bytes) -> bytes:
    """The same with something wrong, most of the time."""
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.choice((1, 1, 2, 9, 50)))
        middle = rng.choice(
            (b"", rng.randbytes(until - at), data[at:until] * 2, rng.choice((b"\r", b"\n", b"\0", b" ", b":", b"\r\n")))
        )
        data = data[:at] + middle + data[until:]
    return data


def script(rng: Random, pieces: Sequence[bytes], *, of_client: bool) -> list[bytes]:
    """What one end says, a piece at a time."""
    if rng.random() < 0.4:
        greeting = PREFACE if of_client else b""
        said = [greeting + SettingsFrame(0).serialize(), *http2_frames(rng, of_client=of_client)]
    else:
        said = [rng.choice(pieces) for _ in range(rng.randint(1, 4))]
    data = b"".join(changed(rng, each) if rng.random() < 0.5 else each for each in said)
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3, 10))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def play(
    rng: Random, pieces: Sequence[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_client: bool
) -> None:
    """Say it, and end in one way or another."""
    with suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        async with asyncio.timeout(3):
            if not of_client:
                await reader.read(rng.choice((1, 100, 65_536)))
            for piece in script(rng, pieces, of_client=of_client):
                writer.write(piece)
                await asyncio.sleep(rng.choice((0, 0, 0, 0.001, 0.05)))
            match rng.randrange(5):
                case 0:
                    writer.write_eof()
                    await reader.read()
                case 1:
                    await reader.read(100_000)
                case 2:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset
                case 3:
                    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
                    await asyncio.sleep(rng.choice((0.01, 0.5)))
                case _:
                    await asyncio.sleep(rng.choice((0.0, 0.02)))
    writer.transport.abort()


class Fuzz:
    """A drainproxy between wrong clients and a wrong app."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.failures: list[str] = []
        self.conversations = 0

    async def run(self, minutes: float, tell: Callable[[str], None]) -> None:
        app = await asyncio.start_server(self._app, "127.0.0.1", 0, backlog=256)
        try:
            async with watched(app.sockets[0].getsockname()[1], **LIMITS) as proxy:
                self.failures = proxy.failures
                until = time.monotonic() + 60 * minutes
                while time.monotonic() < until and proxy.process.returncode is None:
                    round_ends = min(until, time.monotonic() + ROUND_S)
                    await asyncio.gather(*(self._clients(proxy.address, round_ends) for _ in range(CROWD)))
                    await proxy.settle()
                    self._tell(proxy.resident_kib, tell)
        finally:
            app.close()

    def _tell(self, resident_kib: int, tell: Callable[[str], None]) -> None:
        if resident_kib > MOST_KIB:
            self.failures.append(f"{resident_kib} KiB are resident")
        tell(f"{self.conversations} conversations, {len(self.failures)} findings, {resident_kib} KiB resident")

    async def _app(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await play(self.rng, RESPONSES, reader, writer, of_client=False)

    async def _clients(self, address: tuple[str, int], until: float) -> None:
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection(*address)
            except OSError as error:
                self.failures.append(f"cannot connect: {error}")
                return
            await play(self.rng, REQUESTS, reader, writer, of_client=True)
            self.conversations += 1


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.search.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of what this does on purpose
    fuzz = Fuzz(seed)
    asyncio.run(fuzz.run(asked.minutes, lambda line: print(line, flush=True)))
    for failure in fuzz.failures[:20]:
        print(f"  * {failure}")
    return 1 if fuzz.failures else 0


if __name__ == "__main__":
    sys.exit(main())
