"""Does a process still run? Whoever adopts an orphan may be slow to reap it, or (PID 1 of a container) never do."""

from __future__ import annotations

from pathlib import Path


def runs(pid: int) -> bool:
    """It has not ended: neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(pid: int) -> bool:
    """It is gone, or a zombie."""
    return not runs(pid)
