"""A server that fails in known ways and keeps count: request n meets the fate PATTERN[n % len(PATTERN)]."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from drainproxy.tools.cluster.balancer import reset

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
FATES = {
    "": HEAD + b"hello",
    "empty reply": b"",
    "reset": b"",
    "cut body": HEAD + b"hel",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "bad reply": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
}
"""What is sent for each fate; all but a whole response, good or 503, are followed by the end of the connection."""
PATTERN = ("", "", "empty reply", "", "reset", "", "", "cut body", "503", "", "bad reply")


class FailingServer:
    """`counts`: requests by fate."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[FailingServer]:
        """In a thread of its own, on a free port."""
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        """Nothing is cancelled before its first step: it would leave its socket to the collector."""
        server.close()
        accepting = asyncio.all_tasks() - self._serving.keys() - {asyncio.current_task()}
        await asyncio.gather(*accepting, return_exceptions=True)
        serving = dict(self._serving)
        for task, writer in serving.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fate = PATTERN[self.counts.total() % len(PATTERN)]
                self.counts[fate] += 1
                writer.write(FATES[fate])
                if fate not in ("", "503") or b" HTTP/1.0\r\n" in head:
                    break
            if fate == "reset":
                reset(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
