"""Does a process still run? Whoever adopts an orphan may be slow to reap it, or (PID 1 of a container) never do."""

from __future__ import annotations

from pathlib import Path


def runs(pid: int) -> bool:
    """It has not ended: neither gone nor a zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(pid: int) -> bool:
    """It is gone, or a zombie."""
    return not runs(pid)


def parent(pid: int) -> int:
    """Whose child it is."""
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
