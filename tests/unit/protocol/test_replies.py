"""What does drainproxy itself say to an HTTP/1 client?"""

from __future__ import annotations

import httptools
import pytest

from drainproxy.protocol.reasons import Reason
from drainproxy.protocol.replies import reply

SAID = [reason for reason in Reason if reason.status is not None]


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


@pytest.mark.parametrize("reason", SAID, ids=str)
def test_a_reply_is_a_whole_message_of_one_line_that_says_why_and_ends_the_connection(reason: Reason) -> None:
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(reply(reason))
    assert seen.complete
    assert parser.get_status_code() == reason.status
    assert not parser.should_keep_alive()
    assert seen.fields[b"X-Drainproxy"] == reason.label.encode()
    assert seen.fields[b"Content-Type"].startswith(b"text/plain")
    assert seen.body.endswith(reason.text.encode() + b"\n")
    assert seen.body.count(b"\n") == 1


def test_a_reply_to_head_says_the_length_and_has_no_body() -> None:
    whole, head = reply(Reason.DRAINING), reply(Reason.DRAINING, head_only=True)
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("reason", SAID, ids=str)
def test_exactly_503_says_when_to_try_again_and_405_what_is_served(reason: Reason) -> None:
    assert (b"\r\nRetry-After: " in reply(reason)) is (reason.status == 503)
    assert (b"\r\nAllow: " in reply(reason)) is (reason.status == 405)


def test_a_malformed_request_is_called_so_and_a_limit_is_not() -> None:
    assert reply(Reason.BARE_LF).endswith(b"\r\n\r\nmalformed request: an LF without CR\n")
    assert reply(Reason.HEADER_TOO_LARGE).endswith(b"\r\n\r\nthe head is larger than allowed\n")
    assert reply(Reason.INCOMPLETE_BODY).endswith(b"\r\n\r\nthe connection was closed before the body was complete\n")
