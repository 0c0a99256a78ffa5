"""Where does a body end? Strict framing that counts the bytes and leaves them as they came (RFC 9112 §6, §7).

A framing is fed the bytes behind a head and says how many of them belong to the body. It never re-encodes them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Protocol

from drainproxy.protocol.fields import TOKEN, VALUE
from drainproxy.protocol.reasons import BadMessage, Reason

MAX_LINE: Final = 1024
"""Bytes a chunk-size line may have: sixteen digits and some extensions."""
MAX_EXTENSIONS: Final = 16 * 1024
"""Bytes all chunk extensions of one body may have: they carry nothing, and cost as much as data."""

_QUOTED: Final = rb"\"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*\""
_EXTENSIONS: Final = rb"(?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*"
_SIZE_LINE: Final = re.compile(rb"([0-7]?[0-9a-fA-F]{1,15})(" + _EXTENSIONS + rb")\r\n")
"""Without the white space that RFC 9112 §7.1.1 tolerates, and below 2^63: neighbours count with a sign."""
_PLAIN_SIZE_LINE: Final = re.compile(rb"([0-7]?[0-9a-fA-F]{1,15})\r\n")
_SIZE_LINE_START: Final = re.compile(rb"[0-9a-fA-F]{0,16}(?:;[\t\x20-\x7e\x80-\xff]*+)?\r?")
_TRAILER: Final = re.compile(
    rb"(?!(?:content-length|transfer-encoding|host|connection|trailer|upgrade):)" + TOKEN + rb":" + VALUE + rb"\r\n",
    re.I,
)
"""A trailer line: none that would say where a message ends or goes (RFC 9110 §6.5.1)."""


class Framing(Protocol):
    """Follows one body. `payload` counts its bytes without framing."""

    done: bool
    payload: int

    def feed(self, data: bytes, start: int) -> int:
        """Index in `data` behind the last byte, from `start` on, that belongs to this body. Raises BadMessage."""

    def end(self) -> bool:
        """The sender has closed its side: is the body complete?"""


class Length:
    """As many bytes as Content-Length says."""

    __slots__ = ("_size", "done", "payload")

    def __init__(self, size: int) -> None:
        self._size = size
        self.payload = 0
        self.done = size == 0

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self._size - self.payload

    def skip(self, size: int) -> None:
        """So many bytes of the body have passed unread."""
        self.payload += size
        self.done = self.payload == self._size

    def feed(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._size - self.payload)
        self.payload += end - start
        self.done = self.payload == self._size
        return end

    def end(self) -> bool:
        return self.done


class UntilClose:
    """Everything until the sender closes. Only responses may be framed so."""

    __slots__ = ("done", "payload")

    def __init__(self) -> None:
        self.payload = 0
        self.done = False

    def feed(self, data: bytes, start: int) -> int:
        self.payload += len(data) - start
        return len(data)

    def end(self) -> bool:
        self.done = True
        return True


class _At(Enum):
    SIZE = "size line"
    DATA = "data"
    CRLF = "the CRLF behind the data"
    TRAILERS = "trailers"


_SIZE: Final = _At.SIZE  # as globals: see net/pair.py
_DATA: Final = _At.DATA
_CRLF: Final = _At.CRLF
_TRAILERS: Final = _At.TRAILERS


class Chunked:
    """Chunks, then trailers. With `decode`, `spans` collects the data of what was fed last, for HTTP/1.0 clients."""

    __slots__ = (
        "_at", "_extensions", "_left", "_partial", "_trailer", "_trailers_left", "decoding", "done", "payload", "spans",
    )  # fmt: skip

    def __init__(self, max_trailers: int, *, decode: bool = False) -> None:
        self.payload = 0
        self.done = False
        self.spans: list[bytes] = []
        self.decoding = decode
        self._at = _SIZE
        self._left = 0
        self._extensions = 0
        self._partial = b""
        self._trailer = bytearray()
        self._trailers_left = max_trailers

    def feed(self, data: bytes, start: int) -> int:
        self.spans.clear()
        size = len(data)
        while start < size and not self.done:
            at = self._at
            if at is _SIZE and not self._partial:
                start = self._whole_chunks(data, start)
                if start < size and not self.done:
                    start = self._size_line(data, start)
            elif at is _DATA:
                start = self._data(data, start)
            elif at is _SIZE:
                start = self._size_line(data, start)
            elif at is _CRLF:
                start = self._crlf(data, start)
            else:
                start = self._trailers(data, start)
        return start

    def end(self) -> bool:
        return self.done

    def _whole_chunks(self, data: bytes, start: int) -> int:
        """Index behind the chunks without extensions that are here from end to end, and behind the end of the body.

        What is cut, or wrong, begins there.
        """
        match = _PLAIN_SIZE_LINE.match(data, start)
        while match is not None:
            begin = match.end()
            size = int(match[1], 16)
            end = begin + size
            if data[end : end + 2] != b"\r\n":
                break
            start = end + 2
            if not size:
                self.done = True
                break
            self.payload += size
            if self.decoding:
                self.spans.append(data[begin:end])
            match = _PLAIN_SIZE_LINE.match(data, start)
        return start

    def _data(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._left)
        self._left -= end - start
        self.payload += end - start
        if self.decoding:
            self.spans.append(data[start:end])
        if self._left == 0:
            self._at = _CRLF
        return end

    def _size_line(self, data: bytes, start: int) -> int:
        match = _SIZE_LINE.match(data, start)
        if match is None or self._partial:
            line, start = self._whole_line(data, start)
            if line is None:
                return start
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise BadMessage(Reason.BAD_CHUNK_SIZE)
        else:
            start = match.end()
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSIONS or len(match[0]) > MAX_LINE:
            raise BadMessage(Reason.CHUNK_EXTENSIONS_TOO_LONG)
        self._left = int(match[1], 16)
        self._at = _DATA if self._left else _TRAILERS
        return start

    def _whole_line(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        """A size line that came in pieces: (line, index behind it), or (None, end) while it is not complete."""
        newline = data.find(b"\n", start)
        end = len(data) if newline < 0 else newline + 1
        line = self._partial + data[start:end]
        if newline >= 0:
            self._partial = b""
            return line, end
        if len(line) > MAX_LINE or not _SIZE_LINE_START.fullmatch(line):
            raise BadMessage(Reason.BAD_CHUNK_SIZE)
        self._partial = line
        return None, end

    def _crlf(self, data: bytes, start: int) -> int:
        need = 2 - len(self._partial)
        self._partial += data[start : start + need]
        if not b"\r\n".startswith(self._partial):
            raise BadMessage(Reason.BAD_CHUNK_END)
        if self._partial == b"\r\n":
            self._partial = b""
            self._at = _SIZE
        return min(len(data), start + need)

    def _trailers(self, data: bytes, start: int) -> int:
        """One line of the trailer section, or as much of it as has come. The empty line is its end."""
        newline = data.find(b"\n", start)
        end = len(data) if newline < 0 else newline + 1
        self._trailers_left -= end - start
        if self._trailers_left < 0:
            raise BadMessage(Reason.TRAILERS_TOO_LONG)
        line = self._trailer
        line += data[start:end]
        if newline >= 0:
            if line == b"\r\n":
                self.done = True
            elif not _TRAILER.fullmatch(line):
                raise BadMessage(Reason.BAD_TRAILER)
            line.clear()
        return end
