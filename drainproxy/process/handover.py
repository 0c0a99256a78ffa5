"""How do two generations of drainproxy speak to each other? One pair of connected sockets, a JSON object a line.

The new generation starts with the listening sockets, as systemd would pass them, and with its end of the pair; HANDOVER
in its environment says `VERSION:DESCRIPTOR:GENERATION:APP:ADDRESS` (APP: the number of the app's process under `run`,
else 0; ADDRESS: where it listens). Then:

    {"pid": NUMBER}             under a service manager only, said by the parent of the new one (process.orphan)
    new: {"ready": true}        it listens, its app is well, and it could accept clients
    old: {"go": true}           it may: from here on the old one will step back
    new: {"serving": [NAME…]}   it accepts clients on these of the sockets that were passed
    old: {"counts": {...}}      what was counted so far; the old one accepts nobody on these any more. Now the new one
                                answers on the admin port: whoever reads counters sees none of them go back
    old: {"drain": TRIGGER}     perhaps: somebody has asked the old one for a drain, and means the new one
    old: {"counts": {...}, "done": true}   what it counted since; its last connection has ended

An end of file instead of an answer means that the other process is gone. Words that a version does not know are
skipped; a change that needs more than that gets another VERSION, and is refused before anything has happened.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from drainproxy.errors import HandoverError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

HANDOVER = "DRAINPROXY_HANDOVER"
KEEPER = "DRAINPROXY_KEEPER"
"""The descriptor on which the keeper is told who is in service: see process.keeper."""
VERSION = 1
FIRST = 3
"""Passed descriptors begin after standard input, output and error: sd_listen_fds(3)."""
MOST_BYTES = 1 << 20
"""Of a line."""


class Channel:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Speak and listen on the running loop from now on."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=MOST_BYTES)

    def send(self, **words: Any) -> None:
        """Say this. If nobody listens any more, `receive` tells."""
        assert self._writer is not None, "a channel is opened first"
        if self._writer.is_closing():  # uvloop would raise
            return
        self._writer.write(json.dumps(words).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """What the other process says next. None: it is gone, or speaks another language."""
        assert self._reader is not None, "a channel is opened first"
        try:
            said = json.loads(await self._reader.readline())
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) else None

    async def hears(self, word: str) -> Any:
        """What the other process says of this next; None: something else, or nothing."""
        return (await self.receive() or {}).get(word)

    async def close(self) -> None:
        """What was said is sent; then the other process sees the end."""
        if self._writer is None:
            self._sock.close()
            return
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class Inheritance(NamedTuple):
    """What a generation gets from the one before it, besides the listening sockets.

    `keeper`: the descriptor of the keeper's pipe, None if there is no keeper. `app`: the number of the app's process,
    which listens on `app_address`.
    """

    generation: int
    channel: Channel | None = None
    keeper: int | None = None
    app: int | None = None
    app_address: str = ""


def inherit(environ: MutableMapping[str, str], pid: int) -> Inheritance:
    """What was passed to process `pid`. The variables are removed: no child takes them for its own.

    Raises HandoverError if the old generation speaks another version.
    """
    told, keeper = environ.pop(HANDOVER, ""), environ.pop(KEEPER, "")
    if not told:
        return Inheritance(1)
    version, *fields = told.split(":", 4)
    if version != str(VERSION):
        raise HandoverError(
            f"the running drainproxy hands over in version {version}, this one knows {VERSION}: "
            f"stop the old one and start this one instead"
        )
    descriptor, generation, app = (int(field) for field in fields[:3])
    environ["LISTEN_PID"] = str(pid)  # whoever starts a process with posix_spawn cannot know its number before
    os.set_inheritable(descriptor, False)
    if keeper:
        os.set_inheritable(int(keeper), False)
    channel = Channel(socket.socket(fileno=descriptor))
    return Inheritance(generation, channel, int(keeper) if keeper else None, app or None, "".join(fields[3:]))


class Legacy(NamedTuple):
    """What the next generation is started with. `passed`: the numbers that our descriptors have there."""

    passed: dict[int, int]
    channel: int
    environ: dict[str, str]


def bequeath(
    sockets: Sequence[tuple[str, socket.socket]],
    channel: socket.socket,
    *,
    generation: int,
    keeper: int | None,
    app: int | None,
    app_address: str,
) -> Legacy:
    """The listening sockets by name, the channel, and the keeper's pipe if there is one."""
    at = FIRST + len(sockets)
    environ = {
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in sockets),
        HANDOVER: f"{VERSION}:{at}:{generation}:{app or 0}:{app_address}",
    }
    passed = {FIRST + place: sock.fileno() for place, (_, sock) in enumerate(sockets)} | {at: channel.fileno()}
    if keeper is not None:
        environ[KEEPER] = str(at + 1)
        passed[at + 1] = keeper
    return Legacy(passed, at, environ)
