"""How do both ends of the search speak HTTP/2? Frames by hyperframe, heads by hpack, and no state machine in between.

A library that knows the protocol would keep us from what clients do wrong: this one says what it is told to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = (1 << 31) - 1 - 65_535


class Frames:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._said_all = False
        self._encoder = Encoder()
        self._decoder = Decoder()

    def greet(self, *, as_client: bool) -> None:
        """Preface and SETTINGS, with windows that never fill."""
        settings = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 24})
        opening = PREFACE if as_client else b""
        self._writer.write(opening + settings.serialize() + WindowUpdateFrame(0, window_increment=WINDOW).serialize())

    def send(self, frame: Frame) -> None:
        """A frame as it is."""
        if not self._writer.is_closing() and not self._said_all:
            self._writer.write(frame.serialize())

    def half_close(self) -> None:
        """Send nothing more."""
        self._said_all = True
        self._writer.write_eof()

    def head(self, stream: int, fields: list[tuple[str, str]], *, last: bool) -> None:
        """A HEADERS frame."""
        frame = HeadersFrame(stream, self._encoder.encode(fields), flags=["END_HEADERS"])
        if last:
            frame.flags.add("END_STREAM")
        self.send(frame)

    def data(self, stream: int, data: bytes, *, last: bool) -> None:
        """A DATA frame."""
        self.send(DataFrame(stream, data, flags=["END_STREAM"] if last else []))

    def read_head(self, frame: HeadersFrame) -> dict[str, str]:
        """The fields of a HEADERS frame that came. Each must be read, and in order."""
        fields: Any = self._decoder.decode(frame.data)
        return dict(fields)

    async def received(self) -> AsyncIterator[Frame]:
        """What comes, SETTINGS and PING answered, until the connection ends. Raises ConnectionError, EOFError."""
        while True:
            head = await self._reader.readexactly(9)
            frame, length = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(await self._reader.readexactly(length)))
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                self.send(SettingsFrame(0, flags=["ACK"]))
            elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            else:
                yield frame
