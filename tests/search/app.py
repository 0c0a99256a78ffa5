"""What does the app know of the load? Every request it saw, how often, and whether it could finish its answer.

It speaks HTTP/1, WebSocket and HTTP/2 (prior knowledge) on one port, as told by a request's path, and dies at once when
it is told to stop, as apps do that have no handler for SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, urlsplit

from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from tests.search.wire2 import PREFACE, Frames

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request wants: an answer of `size` bytes in `parts` parts, the first `delay_s` after the whole request."""

    name: str
    delay_s: float = 0.0
    size: int = 10
    parts: int = 1
    chunked: bool = False

    @property
    def target(self) -> str:
        """As a request's target."""
        return f"/{self.name}?delay={self.delay_s}&size={self.size}&parts={self.parts}&chunked={int(self.chunked)}"

    @classmethod
    def of(cls, target: str) -> Self:
        """From a request's target."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        chunked = query["chunked"] == "1"
        return cls(url.path[1:], float(query["delay"]), int(query["size"]), int(query["parts"]), chunked)

    @property
    def body(self) -> bytes:
        """The answer's body: it names the request, so that no answer passes for another's."""
        return (self.name.encode() + b".") * (self.size // (len(self.name) + 1) + 1)

    def pieces(self) -> list[bytes]:
        """The body in parts."""
        step = max(1, len(self.body) // self.parts)
        return [self.body[at : at + step] for at in range(0, len(self.body), step)]


class App:
    """The app. `begun` counts the requests it saw by name; `done` holds those it answered in full."""

    def __init__(self, keep_alive_s: float) -> None:
        self.begun: Counter[str] = Counter()
        self.done: set[str] = set()
        self.cut: set[str] = set()
        """Requests that it was working on when it was told to stop."""
        self.port = 0
        self._keep_alive_s = keep_alive_s
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, on the same port every time."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: no port, every connection reset."""
        self.cut |= set(self.begun) - self.done
        assert self._server is not None, "it was started"
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is a task"
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, EOFError, TimeoutError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._keep_alive_s):
                head = await reader.readuntil(b"\r\n\r\n")
            if PREFACE.startswith(head):
                await reader.readexactly(len(PREFACE) - len(head))
                await Http2(self, Frames(reader, writer)).serve()
                return
            line, _, lines = head.decode("latin-1").partition("\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines.split("\r\n"))
            }
            ask = Ask.of(line.split(" ")[1])
            self.begun[ask.name] += 1
            if "sec-websocket-key" in fields:
                await self._web_socket(ask, fields["sec-websocket-key"], reader, writer)
                return
            await _read_body(fields, reader)
            await asyncio.sleep(ask.delay_s)
            await _answer(ask, writer)
            self.done.add(ask.name)

    async def _web_socket(self, ask: Ask, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        while True:
            opcode, payload = await read_frame(reader)
            await asyncio.sleep(ask.delay_s)
            writer.write(bytes((0x80 | opcode, len(payload))) + payload)
            if opcode == 8:
                self.done.add(ask.name)
                return


async def _read_body(fields: dict[str, str], reader: asyncio.StreamReader) -> None:
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\n")
    else:
        await reader.readexactly(int(fields.get("content-length", 0)))


async def _answer(ask: Ask, writer: asyncio.StreamWriter) -> None:
    framing = "Transfer-Encoding: chunked" if ask.chunked else f"Content-Length: {len(ask.body)}"
    writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
    for piece in ask.pieces():
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if ask.chunked else piece)
        await writer.drain()
        await asyncio.sleep(0.01 if ask.parts > 1 else 0)
    if ask.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of a WebSocket frame of less than 126 bytes."""
    first, second = await reader.readexactly(2)
    mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
    payload = await reader.readexactly(second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame (a mask of zeros is one)."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


CLOSE_1001 = struct.pack(">H", 1001)


class Http2:
    """One HTTP/2 connection of the app."""

    def __init__(self, app: App, frames: Frames) -> None:
        self._app = app
        self._frames = frames
        self._asked: dict[int, Ask] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Answer each stream once it is complete."""
        self._frames.greet(as_client=False)
        try:
            with suppress(EOFError):  # the client sends no more: what it has asked for is answered
                async for frame in self._frames.received():
                    self._take(frame)
            await asyncio.gather(*self._answering.values(), return_exceptions=True)
        finally:
            for task in self._answering.values():
                task.cancel()

    def _take(self, frame: Frame) -> None:
        stream = frame.stream_id
        if isinstance(frame, HeadersFrame):
            ask = self._asked[stream] = Ask.of(self._frames.read_head(frame)[":path"])
            self._app.begun[ask.name] += 1
        if isinstance(frame, RstStreamFrame) and stream in self._answering:
            self._answering.pop(stream).cancel()
        if isinstance(frame, HeadersFrame | DataFrame) and "END_STREAM" in frame.flags:
            self._answering[stream] = asyncio.create_task(self._answer(stream, self._asked[stream]))

    async def _answer(self, stream: int, ask: Ask) -> None:
        await asyncio.sleep(ask.delay_s)
        self._frames.head(stream, [(":status", "200")], last=False)
        for piece in ask.pieces():
            for at in range(0, len(piece), 16_000):
                self._frames.data(stream, piece[at : at + 16_000], last=False)
            await asyncio.sleep(0.01 if ask.parts > 1 else 0)
        self._frames.head(stream, [("done", "yes")], last=True)
        self._app.done.add(ask.name)
        self._answering.pop(stream, None)
