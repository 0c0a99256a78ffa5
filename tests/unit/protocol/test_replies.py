"""What does drainproxy itself say to an HTTP/1 client?"""

from __future__ import annotations

import ast
from pathlib import Path

import httptools
import pytest

import drainproxy
from drainproxy.protocol.replies import EXPLANATIONS, reply

STATUSES = [400, 405, 408, 413, 431, 502, 503, 504, 505]


class Seen:
    """What llhttp makes of a reply."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self.fields
        self.fields[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.mark.parametrize("status", STATUSES)
def test_a_reply_is_a_whole_message_of_one_line_that_says_why_and_ends_the_connection(status: int) -> None:
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(reply(status, "draining"))
    assert seen.complete
    assert parser.get_status_code() == status
    assert not parser.should_keep_alive()
    assert seen.fields[b"X-Drainproxy"] == b"draining"
    assert seen.fields[b"Content-Type"].startswith(b"text/plain")
    assert seen.body == EXPLANATIONS["draining"].encode() + b"\n"


def test_a_reply_to_head_says_the_length_and_has_no_body() -> None:
    whole, head = reply(503, "draining"), reply(503, "draining", head_only=True)
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", STATUSES)
def test_exactly_503_says_when_to_try_again_and_405_what_is_served(status: int) -> None:
    assert (b"\r\nRetry-After: " in reply(status, "draining")) is (status == 503)
    assert (b"\r\nAllow: " in reply(status, "draining")) is (status == 405)


def test_an_unknown_reason_is_named_as_what_is_wrong_with_the_message() -> None:
    assert reply(400, "bare-lf").endswith(b"\r\n\r\nmalformed request: bare-lf\n")


def test_every_reason_a_session_gives_for_something_else_than_a_malformed_message_is_explained() -> None:
    """Read from the source: a new `_reject(503, "reason")` needs a line for people."""
    session = Path(drainproxy.__file__).parent / "session" / "http1.py"
    reasons = set()
    for node in ast.walk(ast.parse(session.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, values = node.func.attr, [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            if name in ("_reject", "_refuse", "_break_off", "_answer_ourselves") and len(values) == 2:
                reasons.add(values[1])
    assert reasons >= {"draining", "connect-refused", "app-unavailable"}  # the search works
    assert reasons - EXPLANATIONS.keys() == set()
