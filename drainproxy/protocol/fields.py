"""Which bytes may stand in a header or trailer section? The grammar of fields (RFC 9110 §5), once for every message.

A proxy must be stricter than either of its neighbours: what two parsers could read in two ways is refused. So: no
obs-fold, no bare CR or LF, no NUL or other control, no white space before the colon.
"""

from __future__ import annotations

import re
from typing import Final

from drainproxy.protocol.reasons import BadMessage, Reason

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
SECTION: Final = rb"(?:" + TOKEN + rb":" + VALUE + rb"\r\n)*"
"""Any number of field lines.

Only single characters are repeated possessively, never groups: before CPython 3.11.5 (Debian 12 has 3.11.2) a
possessive group that matches its last repetition in part leaves the position behind that part (cpython#106052), and a
field line cut by a CRLF would pass. Each line matches in one way, so matching is linear all the same.
"""

_LINE: Final = re.compile(TOKEN + rb":" + VALUE)
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


def explain(head: bytes) -> Reason:
    """Why a complete header section was refused."""
    if b"\0" in head:
        return Reason.NUL
    without_crlf = head.replace(b"\r\n", b"")
    if b"\n" in without_crlf:
        return Reason.BARE_LF
    if b"\r" in without_crlf:
        return Reason.BARE_CR
    for line in head.split(b"\r\n")[1:]:
        if line[:1] in (b" ", b"\t"):
            return Reason.OBS_FOLD
        if line and not _LINE.fullmatch(line):
            name, colon, _ = line.partition(b":")
            return Reason.SPACE_BEFORE_COLON if colon and name[-1:] in (b" ", b"\t") else Reason.BAD_FIELD
    return Reason.BAD_START_LINE


def content_length(value: bytes, before: int | None) -> int:
    """A Content-Length as a number (RFC 9112 §6.3). Repeated equal ones are one; anything but digits is refused.

    Raises BadMessage.
    """
    if not _DIGITS.fullmatch(value):
        raise BadMessage(Reason.BAD_CONTENT_LENGTH)
    length = int(value)
    if before is not None and before != length:
        raise BadMessage(Reason.DIFFERENT_CONTENT_LENGTHS)
    return length


def is_chunked(value: bytes, before: bool) -> bool:
    """True if this Transfer-Encoding (in lower case) ends in `chunked`, as every body we frame must (RFC 9112 §6.1).

    Raises BadMessage for any other last coding, and for a second one: `chunked` is applied once.
    """
    codings = [coding.strip() for coding in value.split(b",")]
    if before or codings[-1] != b"chunked" or b"chunked" in codings[:-1] or b"" in codings:
        raise BadMessage(Reason.BAD_TRANSFER_ENCODING)
    return True
