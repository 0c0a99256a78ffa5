"""What did each client see? Clients of every protocol, some of which misbehave, and a record of each request."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.search.app import CLOSE_1001, Ask, masked_frame, read_frame
from tests.search.wire2 import Frames

if TYPE_CHECKING:
    from random import Random

BROKEN = (ConnectionError, EOFError, TimeoutError)
PATIENCE_S = 20.0
"""No answer takes longer: what hangs is a finding."""


class Saw(Enum):
    """What became of a request, for its client."""

    ANSWERED = "the whole answer"
    WRONG = "an answer that is not the one"
    UNAVAILABLE = "503 by drainproxy"
    RETRIABLE = "nothing, and it may be sent again: the connection said so, or it was one that had been used before"
    CUT = "the end of the connection or stream before the whole answer"
    REFUSED = "no connection"
    HUNG = "nothing for a long time"
    LEFT = "nothing: it went away itself"


@dataclass(slots=True)
class Record:
    """One request as its client tells of it. Times are the loop's."""

    name: str
    kind: str
    sent_at: float
    saw: Saw = Saw.HUNG
    detail: str = ""
    ended_at: float = 0.0


@dataclass
class Load:
    """Where clients connect, until when they begin requests, and what they have recorded."""

    address: tuple[str, int]
    stop: asyncio.Event
    records: list[Record] = field(default_factory=list)

    def begin(self, name: str, kind: str) -> Record:
        """A request is about to be sent."""
        record = Record(name, kind, asyncio.get_running_loop().time())
        self.records.append(record)
        return record


def ended(record: Record, saw: Saw, detail: str = "") -> None:
    """Record it, once."""
    if record.saw is Saw.HUNG:
        record.saw, record.detail, record.ended_at = saw, detail, asyncio.get_running_loop().time()


def draw(rng: Random, name: str) -> Ask:
    """A request of a random kind: mostly quick and small."""
    delay_s = rng.choice((0.0, 0.0, 0.0, 0.02, 0.1, 0.4, 1.0))
    size = rng.choice((1, 10, 1_000, 30_000, 300_000))
    return Ask(name, delay_s, size, rng.choice((1, 1, 1, 5, 20)), rng.random() < 0.3)


class Manners(Enum):
    """How an HTTP/1 client behaves on a connection."""

    GOOD = "waits for each answer"
    PIPELINES = "sends several requests at once"
    HALF_CLOSES = "says that it sends no more, and reads on"
    RESETS = "resets in the middle"
    DEAF = "stops reading"
    MUTE = "stops in the middle of an upload"


GOOD_ENOUGH = (Manners.GOOD, Manners.PIPELINES, Manners.HALF_CLOSES)


async def http1(load: Load, rng: Random, who: str) -> None:
    """Requests over keep-alive connections until the load stops."""
    number = 0
    while not load.stop.is_set():
        manners = rng.choice((*(Manners.GOOD,) * 6, *Manners))
        try:
            reader, writer = await asyncio.open_connection(*load.address, limit=1 << 20)
        except OSError as error:
            record = load.begin(f"{who}-{number}", "http1")
            ended(record, Saw.REFUSED, str(error))
            await asyncio.sleep(0.05)
            continue
        try:
            used = False
            while not load.stop.is_set():
                count = rng.randint(2, 4) if manners is Manners.PIPELINES else 1
                asks = [draw(rng, f"{who}-{number + each}") for each in range(count)]
                number += count
                if not await _exchanges(load, rng, manners, asks, reader, writer, used=used):
                    break
                used = True
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.01, 0.1, 0.5)))
        finally:
            writer.transport.abort()


async def _exchanges(
    load: Load,
    rng: Random,
    manners: Manners,
    asks: list[Ask],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    used: bool,
) -> bool:
    """Send these requests, read their answers. Whether the connection can be used again."""
    records = [load.begin(ask.name, "http1") for ask in asks]
    upload = rng.choice((0, 0, 0, 100, 200_000)) if manners is not Manners.PIPELINES else 0
    if manners is Manners.MUTE:
        upload = 200_000
    try:
        for ask in asks:
            method = (
                f"POST {ask.target} HTTP/1.1\r\nContent-Length: {upload}" if upload else f"GET {ask.target} HTTP/1.1"
            )
            writer.write(
                f"{method}\r\nHost: app\r\n\r\n".encode() + bytes(upload if manners is not Manners.MUTE else 9)
            )
        if manners is Manners.HALF_CLOSES:
            writer.write_eof()
        if manners in GOOD_ENOUGH:
            await writer.drain()
        else:
            await asyncio.sleep(rng.choice((0.0, 0.05, 0.3)))
            if manners is Manners.DEAF:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
                await asyncio.sleep(rng.choice((0.3, 1.0)))
            for record in records:
                ended(record, Saw.LEFT)
            return False
        for ask, record in zip(asks, records, strict=True):
            if not await _answer(ask, record, reader, used=used):
                for rest in records:
                    ended(rest, Saw.RETRIABLE, "behind the connection's last answer")
                return False
            used = True
    except BROKEN as error:
        for record in records:
            # A keep-alive connection may end at any time: a client sends again what got no byte of an answer there.
            ended(record, Saw.RETRIABLE if used else Saw.CUT, repr(error))
        return False
    return manners is not Manners.HALF_CLOSES


async def _answer(ask: Ask, record: Record, reader: asyncio.StreamReader, *, used: bool) -> bool:
    """Read one answer. Whether another may follow."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        except asyncio.IncompleteReadError as error:
            if error.partial or not used:
                ended(record, Saw.CUT, f"in the head: {error.partial[:40]!r}")
            raise
        try:
            body = await _body(head, reader)
        except BROKEN as error:
            ended(record, Saw.CUT, f"in the body: {error!r}")
            raise
    status = head.split(" ")[1]
    if status == "503" and "x-drainproxy:" in head:
        ended(record, Saw.UNAVAILABLE, head.partition("x-drainproxy: ")[2].partition("\r")[0])
    elif "x-drainproxy:" in head:
        ended(record, Saw.CUT, head.partition("x-drainproxy: ")[2].partition("\r")[0])
    elif status != "200" or body != ask.body:
        ended(record, Saw.WRONG, f"{status} {head!r} with {len(body)} bytes instead of {len(ask.body)}")
    else:
        ended(record, Saw.ANSWERED)
    return "connection: close" not in head


async def _body(head: str, reader: asyncio.StreamReader) -> bytes:
    if "transfer-encoding: chunked" not in head:
        length = head.partition("content-length: ")[2].partition("\r")[0]
        return await reader.readexactly(int(length))
    body = b""
    while size := int(await reader.readuntil(b"\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\n")
    return body


async def web_socket(load: Load, rng: Random, who: str) -> None:
    """Messages, each awaited back; a Close is answered. A message that got no answer before one may be sent again."""
    number = 0
    while not load.stop.is_set():
        number += 1
        name = f"{who}-{number}"
        record = load.begin(name, "websocket")
        try:
            reader, writer = await asyncio.open_connection(*load.address)
        except OSError as error:
            ended(record, Saw.REFUSED, str(error))
            await asyncio.sleep(0.05)
            continue
        try:
            await _conversation(load, rng, record, reader, writer)
        except BROKEN as error:
            ended(record, Saw.CUT, repr(error))
        finally:
            writer.transport.abort()


async def _conversation(
    load: Load, rng: Random, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    ask = Ask(record.name, rng.choice((0.0, 0.0, 0.05)))
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {ask.target} HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    if " 101 " not in head:
        ours = "x-drainproxy: " in head
        ended(record, Saw.WRONG if not ours else Saw.UNAVAILABLE if " 503 " in head else Saw.CUT, head)
        return
    async with asyncio.timeout(PATIENCE_S) as patience:
        while True:
            patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_S)
            leaving = load.stop.is_set()
            payload = CLOSE_1001 if leaving else os.urandom(rng.randint(1, 100))
            writer.write(masked_frame(8 if leaving else 2, payload))
            opcode, answer = await read_frame(reader)
            if opcode == 8:
                writer.write(masked_frame(8, answer[:2]))
                ended(record, Saw.ANSWERED if answer[:2] == CLOSE_1001 else Saw.WRONG, f"Close {answer!r}")
                return
            if answer != payload:
                ended(record, Saw.WRONG, "another message came back")
                return
            await asyncio.sleep(rng.choice((0.0, 0.02, 0.2)))


async def http2(load: Load, rng: Random, who: str) -> None:
    """Streams, several at a time, over connections that go when they are told to."""
    number = 0
    while not load.stop.is_set():
        number += 1
        try:
            reader, writer = await asyncio.open_connection(*load.address)
        except OSError as error:
            ended(load.begin(f"{who}-{number}", "http2"), Saw.REFUSED, str(error))
            await asyncio.sleep(0.05)
            continue
        try:
            await _Streams(load, rng, f"{who}-{number}", Frames(reader, writer)).run()
        finally:
            writer.transport.abort()


class _Streams:
    """One HTTP/2 connection of a client."""

    def __init__(self, load: Load, rng: Random, who: str, frames: Frames) -> None:
        self._load = load
        self._rng = rng
        self._who = who
        self._frames = frames
        self._open: dict[int, tuple[Ask, Record, bytearray]] = {}
        self._next = 1
        self._told = asyncio.Event()
        self._half_closes = rng.random() < 0.1

    async def run(self) -> None:
        self._frames.greet(as_client=True)
        asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(PATIENCE_S) as patience:
                async for frame in self._frames.received():
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_S)
                    self._take(frame)
                    if not self._open and (self._told.is_set() or asking.done()):
                        return
        except BROKEN as error:
            for _, record, _ in self._open.values():
                ended(record, Saw.HUNG if isinstance(error, TimeoutError) else Saw.CUT, repr(error))
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    async def _ask(self) -> None:
        while not (self._told.is_set() or self._load.stop.is_set()):
            for _ in range(self._rng.randint(1, 4)):
                ask = draw(self._rng, f"{self._who}-{self._next}")
                record = self._load.begin(ask.name, "http2")
                self._open[self._next] = (ask, record, bytearray())
                upload = self._rng.choice((0, 0, 50))
                fields = [(":method", "POST"), (":path", ask.target), (":scheme", "http"), (":authority", "app")]
                self._frames.head(self._next, fields, last=not upload)
                if upload:
                    self._frames.data(self._next, bytes(upload), last=True)
                if self._rng.random() < 0.05:
                    self._frames.send(RstStreamFrame(self._next, error_code=8))
                    ended(record, Saw.LEFT)
                    del self._open[self._next]
                self._next += 2
            if self._half_closes and self._rng.random() < 0.3:
                self._frames.half_close()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rng.choice((0.01, 0.05, 0.3))):
                    await self._told.wait()

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, GoAwayFrame):
            self._told.set()
            for stream in [each for each in self._open if each > frame.last_stream_id]:
                ended(self._open.pop(stream)[1], Saw.RETRIABLE, "above the last stream of GOAWAY")
            return
        if frame.stream_id not in self._open:
            if isinstance(frame, HeadersFrame):
                self._frames.read_head(frame)
            return
        ask, record, body = self._open[frame.stream_id]
        if isinstance(frame, HeadersFrame):
            self._frames.read_head(frame)
        elif isinstance(frame, DataFrame):
            body += frame.data
        elif isinstance(frame, RstStreamFrame):
            ended(record, Saw.RETRIABLE if frame.error_code == 7 else Saw.CUT, f"RST_STREAM {frame.error_code}")
            del self._open[frame.stream_id]
            return
        if isinstance(frame, HeadersFrame | DataFrame) and "END_STREAM" in frame.flags:
            ended(record, Saw.ANSWERED if bytes(body) == ask.body else Saw.WRONG, f"{len(body)} bytes")
            del self._open[frame.stream_id]


async def tcp(load: Load, rng: Random, who: str) -> None:
    """Connections that say nothing, or half a head, and stay or go."""
    while not load.stop.is_set():
        try:
            _, writer = await asyncio.open_connection(*load.address)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.write(rng.choice((b"", b"", b"G", b"GET / HTTP/1.1\r\nHost: ", b"PRI * HTTP/2.0\r\n", b"\0\xff")))
        if rng.random() < 0.3:
            with suppress(OSError):
                writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.choice((0.05, 0.5, 3.0))):
                await load.stop.wait()
        writer.transport.abort()
