"""How much freed memory stays with us? Enough that large bodies need no new pages, and no more than that for long.

What is read comes in blocks of up to 256 KiB. By itself glibc gives each back to the kernel, and gets the next one page
by page: that was measured to be a large part of a download's CPU. So it keeps what is freed, and what a crowd has left
behind is given back soon after. Other C libraries are left as they are.

The parts of a connection refer to each other, so only the garbage collector frees one that has ended. It is started by
new objects, of which there are none once a crowd has left: then it is called from here.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import ctypes
except ImportError:  # a Python that was built without libffi
    ctypes = None  # type: ignore[assignment]  # looked at before use

LOOK_S = 5.0
"""Between two looks at what is kept: some microseconds each."""
KEPT = 8 << 20
"""Bytes that may stay."""
CROWD = 1000
"""Connections whose end is worth a collection, if no more are open: it looks at those, too."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


class FreedMemory:
    """What glibc's malloc keeps of it. Nothing happens where there is no glibc."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None) if ctypes is not None else None
        self._libc = libc if hasattr(libc, "mallopt") and hasattr(libc, "mallinfo2") else None
        if self._libc is not None:
            self._libc.mallinfo2.restype = _mallinfo2()

    def keep(self) -> None:
        """Give back what starting has left behind; from now on keep freed blocks, of up to 1 MiB each (mallopt(3))."""
        if self._libc is not None:
            self._libc.malloc_trim(0)
            self._libc.mallopt(_TRIM_THRESHOLD, KEPT // 2)
            self._libc.mallopt(_MMAP_THRESHOLD, 1 << 20)

    async def give_back(self, clients: Callable[[], tuple[int, int]]) -> None:
        """Every LOOK_S seconds, until cancelled: give back what a crowd has left, or else what is more than KEPT.

        `clients`: how many have connected so far, and how many of them are connected now.
        """
        collected = 0
        while True:
            await asyncio.sleep(LOOK_S)
            connected, still = clients()
            if connected - still - collected >= max(CROWD, still):
                gc.collect()
                collected = connected - still
                self._trim(0)
            else:
                self._trim(KEPT)

    def _trim(self, kept: int) -> None:
        """Give back what is free, if it is more than this (malloc_trim(3))."""
        if self._libc is not None and self._libc.mallinfo2().fordblks > kept:
            self._libc.malloc_trim(kept // 2)


def _mallinfo2() -> type[ctypes.Structure]:
    """The type struct mallinfo2 (malloc.h)."""

    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]  # noqa: RUF012 - as ctypes wants it

    return Info
