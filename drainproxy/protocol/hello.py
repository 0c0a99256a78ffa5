"""Who is at the other end of a connection to the successor? A question that a drainproxy answers by itself.

It is the first thing on a connection, in one piece: an `OPTIONS *`, HTTP's ping (RFC 9110 §9.3.7), which harms nobody
else who gets it. The answer tells siblings from others without naming anything: only who knows the workload's name can
make the digest, and the instance is a random number. What follows an answered question on the same connection has been
handed over, and is handed on by nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

FIRST = b"OPTIONS * HTTP/1.1\r\nX-Drainproxy-Hello: "
"""How a question begins."""
MAX_QUESTION = 512
MAX_ANSWER = 4096


class Purpose(Enum):
    """What the connection is for, once the question is answered."""

    ASK = b"ask"
    """Nothing: it is closed."""
    REQUESTS = b"requests"
    """HTTP/1 requests, each marked as handed over."""
    CONNECTION = b"connection"
    """One connection of a client, as a whole, in whatever protocol."""


_MORE = {
    Purpose.ASK: b"Connection: close\r\n",
    Purpose.REQUESTS: b"",
    Purpose.CONNECTION: b"Connection: Upgrade\r\nUpgrade: drainproxy\r\n",
}
_STATUS = {
    Purpose.ASK: b"204 No Content",
    Purpose.REQUESTS: b"204 No Content",
    Purpose.CONNECTION: b"101 Switching Protocols",
}
_QUESTION = re.compile(
    rb"OPTIONS \* HTTP/1\.1\r\nX-Drainproxy-Hello: ([0-9a-f]{32}) (ask|requests|connection)\r\n"
    rb"X-Drainproxy-Hop: 1\r\n(?:[^\r\n]+\r\n)*\r\n"
)
_ANSWER = re.compile(
    rb"HTTP/1\.1 (?:204|101) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?"
    rb"(?i:X-Drainproxy-Hello): ([0-9a-f]{16}) ([a-z]{1,20}) ([0-9a-f]{32})\r\n(?:[^\r\n]+\r\n)*\r\n"
)
_POD_NAME = re.compile(r"(.+?)(?:-[bcdf-hj-np-tv-z2456789]{6,10})?-(?:[bcdf-hj-np-tv-z2456789]{5}|[0-9]{1,6})")
"""A controller's name, perhaps a template's hash, and five letters of Kubernetes' own choice, or an ordinal."""


def workload_of(host_name: str) -> str:
    """The name of the workload whose Pod has this host name; empty if it does not look like a Pod's.

    The Pods of a Deployment, StatefulSet or DaemonSet differ in the last parts of their names only.
    """
    match = _POD_NAME.fullmatch(host_name)
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was asked of us. `end`: index behind it in the data it was read from."""

    nonce: bytes
    purpose: Purpose
    end: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered to us. `standing`: the word that the sibling says of itself."""

    instance: bytes
    standing: bytes
    digest: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: `instance`, 16 hexadecimal digits, is this process alone; siblings share the `workload`."""

    instance: bytes
    workload: bytes

    def answer(self, question: Question, standing: bytes) -> bytes:
        """What to answer."""
        said = b" ".join((self.instance, standing, self._digest(question.nonce, self.instance, standing)))
        more = _MORE[question.purpose]
        return b"".join(
            (b"HTTP/1.1 ", _STATUS[question.purpose], b"\r\nX-Drainproxy-Hello: ", said, b"\r\n", more, b"\r\n")
        )

    def is_ours(self, reply: Reply) -> bool:
        """We have answered ourselves."""
        return reply.instance == self.instance

    def is_siblings(self, reply: Reply, nonce: bytes) -> bool:
        """Whoever answered the question with this nonce belongs to the same workload."""
        return reply.digest == self._digest(nonce, reply.instance, reply.standing)

    def _digest(self, nonce: bytes, instance: bytes, standing: bytes) -> bytes:
        return sha256(b"\n".join((nonce, instance, standing, self.workload))).hexdigest()[:32].encode()


def ask(nonce: bytes, purpose: Purpose, host: str) -> bytes:
    """The question. `nonce`: 32 hexadecimal digits; `host`: whom we ask."""
    return b"".join(
        (
            FIRST,
            nonce,
            b" ",
            purpose.value,
            b"\r\nX-Drainproxy-Hop: 1\r\nHost: ",
            host.encode(),
            b"\r\n",
            _MORE[purpose],
            b"\r\n",
        )
    )


def read_question(data: bytes) -> Question | None:
    """The question that `data` begins with, if it is one, and complete."""
    match = _QUESTION.match(data)
    return None if match is None else Question(match[1], Purpose(match[2]), match.end())


def read_answer(data: bytes) -> Reply | None:
    """The answer that `data` begins with, if it is one, and complete."""
    match = _ANSWER.match(data)
    return None if match is None else Reply(match[1], match[2], match[3], match.end())
