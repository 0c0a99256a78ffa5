"""Why is a message refused, or an exchange broken off? Every reason, with all that derives from it.

Replies (status, text, the `X-Drainproxy` field), GOAWAY frames, the `reason` labels of metrics and docs/metrics.md are
made from this table. Labels are API.
"""

from __future__ import annotations

from enum import Enum, Flag, IntEnum, auto

from drainproxy.errors import DrainproxyError


class ErrorCode(IntEnum):
    """Why an HTTP/2 stream or connection ends (RFC 9113 §7): those that we send."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FRAME_SIZE_ERROR = 0x6
    CANCEL = 0x8
    ENHANCE_YOUR_CALM = 0xB


class Counted(Flag):
    """Which metric counts a reason."""

    NOWHERE = 0
    REJECTED = auto()
    UPSTREAM_ERROR = auto()
    BOTH = REJECTED | UPSTREAM_ERROR


_NO_ERROR = ErrorCode.NO_ERROR
_PROTOCOL_ERROR = ErrorCode.PROTOCOL_ERROR
_INTERNAL_ERROR = ErrorCode.INTERNAL_ERROR
_FRAME_SIZE_ERROR = ErrorCode.FRAME_SIZE_ERROR
_CALM = ErrorCode.ENHANCE_YOUR_CALM
_NOWHERE, _REJECTED, _UPSTREAM_ERROR, _BOTH = Counted.NOWHERE, Counted.REJECTED, Counted.UPSTREAM_ERROR, Counted.BOTH


class Reason(Enum):
    """One reason: its label, the metric that counts it, status and error code of an answer, and the text for people.

    `status` is None where HTTP/1 never says it, `code` where HTTP/2 never does.
    """

    # Faults of a message (RFC 9112), of either side.
    BAD_CHUNK_END = "bad-chunk-end", _BOTH, 400, None, "a chunk's data does not end with CRLF"
    BAD_CHUNK_SIZE = "bad-chunk-size", _BOTH, 400, None, "a chunk's size line cannot be read"
    BAD_CONTENT_LENGTH = "bad-content-length", _BOTH, 400, None, "Content-Length is not a number"
    BAD_FIELD = "bad-field", _BOTH, 400, None, "a header field is malformed"
    BAD_HOST = "bad-host", _BOTH, 400, None, "Host is malformed"
    BAD_START_LINE = "bad-start-line", _BOTH, 400, None, "the first line is not HTTP/1"
    BAD_TARGET = "bad-target", _BOTH, 400, None, "the request's target is malformed"
    BAD_TRAILER = "bad-trailer", _BOTH, 400, None, "a trailer field is malformed or not allowed"
    BAD_TRANSFER_ENCODING = "bad-transfer-encoding", _BOTH, 400, None, "Transfer-Encoding is not just chunked"
    BARE_CR = "bare-cr", _BOTH, 400, None, "a CR without LF"
    BARE_LF = "bare-lf", _BOTH, 400, None, "an LF without CR"
    CHUNK_EXTENSIONS_TOO_LONG = "chunk-extensions-too-long", _BOTH, 400, None, "the chunk extensions are too long"
    DIFFERENT_CONTENT_LENGTHS = "different-content-lengths", _BOTH, 400, None, "two different values of Content-Length"
    ENCODING_IN_HTTP10 = "encoding-in-http10", _BOTH, 400, None, "Transfer-Encoding in an HTTP/1.0 message"
    HEADER_TOO_LARGE = "header-too-large", _BOTH, 431, _CALM, "the head is larger than allowed"
    HTTP_VERSION = "http-version", _BOTH, 505, None, "the version is not HTTP/1.0 or HTTP/1.1"
    LENGTH_AND_ENCODING = "length-and-encoding", _BOTH, 400, None, "both Content-Length and Transfer-Encoding"
    NO_HOST = "no-host", _BOTH, 400, None, "Host is missing"
    NUL = "nul", _BOTH, 400, None, "a NUL byte"
    OBS_FOLD = "obs-fold", _BOTH, 400, None, "a header field continues on a second line (obs-fold)"
    SEVERAL_HOSTS = "several-hosts", _BOTH, 400, None, "more than one Host"
    SPACE_BEFORE_COLON = "space-before-colon", _BOTH, 400, None, "white space before the colon of a header field"
    TRAILERS_TOO_LONG = "trailers-too-long", _BOTH, 431, None, "the trailers are longer than allowed"
    TWO_HOSTS = "two-hosts", _BOTH, 400, None, "Host differs from the host in the request's target"

    # Faults of HTTP/2 frames (RFC 9113), of either side.
    BAD_FRAME_SIZE = "bad-frame-size", _BOTH, None, _FRAME_SIZE_ERROR, "a frame has the wrong size for its type"
    BAD_SETTING = "bad-setting", _BOTH, None, _PROTOCOL_ERROR, "a setting is out of range"
    BAD_STREAM_ID = "bad-stream-id", _BOTH, None, _PROTOCOL_ERROR, "a frame on a stream where it is not allowed"
    BROKEN_HEADER_BLOCK = "broken-header-block", _BOTH, None, _PROTOCOL_ERROR, "another frame inside a header block"
    FRAME_FLOOD = "frame-flood", _BOTH, None, _CALM, "too many frames without content (CVE-2019-9512 and others)"
    FRAME_TOO_LARGE = "frame-too-large", _BOTH, None, _FRAME_SIZE_ERROR, "a frame larger than the other end accepts"
    NO_SETTINGS = "no-settings", _BOTH, None, _PROTOCOL_ERROR, "the first frame is not SETTINGS"
    STRAY_CONTINUATION = "stray-continuation", _BOTH, None, _PROTOCOL_ERROR, "CONTINUATION without a header block"

    # What is refused of clients.
    AUTH = "auth", _REJECTED, None, None, "a call to the admin port that is not allowed (401, 403, 421)"
    BODY_TIMEOUT = "body-timeout", _REJECTED, 408, None, "the request's body did not arrive in time"
    BODY_TOO_LARGE = "body-too-large", _REJECTED, 413, None, "the request's body is larger than allowed"
    CONNECT_METHOD = "connect-refused", _REJECTED, 405, None, "CONNECT is not served here"
    DRAINING = "draining", _REJECTED, 503, _NO_ERROR, "this instance is shutting down"
    HEADER_TIMEOUT = "header-timeout", _REJECTED, 408, _CALM, "the request's head did not arrive in time"
    INCOMPLETE_BODY = "incomplete-body", _REJECTED, 400, None, "the connection was closed before the body was complete"
    NOT_HTTP2 = "not-http2", _REJECTED, 505, None, "only HTTP/2 with prior knowledge is served here"
    PUSH_BY_CLIENT = "push-by-client", _REJECTED, None, _PROTOCOL_ERROR, "PUSH_PROMISE from a client"
    RAPID_RESET = "rapid-reset", _REJECTED, None, _CALM, "too many streams reset by the client (CVE-2023-44487)"
    TOO_MANY_STREAMS = "too-many-streams", _REJECTED, None, _CALM, "too many open streams"

    # How the app fails.
    CLOSED_EARLY = "closed-early", _UPSTREAM_ERROR, None, None, "the app closed before its answer was complete"
    CONNECT_FAILED = "connect-failed", _UPSTREAM_ERROR, None, None, "no connection to the app: no route or unknown host"
    CONNECT_REFUSED = "connect-refused", _UPSTREAM_ERROR, None, None, "the app does not accept connections"
    CONNECT_TIMEOUT = "connect-timeout", _UPSTREAM_ERROR, None, None, "the app did not accept the connection in time"
    TIMEOUT = "timeout", _UPSTREAM_ERROR, None, _NO_ERROR, "the app sent no answer, or only a part, in time"
    UNASKED_BYTES = "unasked-bytes", _UPSTREAM_ERROR, None, None, "the app sent bytes after the end of its answer"
    UNASKED_UPGRADE = "unasked-upgrade", _UPSTREAM_ERROR, None, None, "the app answered 101 to an ordinary request"

    # What clients are told when the app has failed; what failed is counted by a reason above.
    APP_UNAVAILABLE = "app-unavailable", _NOWHERE, 503, _NO_ERROR, "the app does not accept connections"
    RESPONSE_TIMEOUT = "response-timeout", _NOWHERE, 504, None, "the app did not answer in time"
    UPSTREAM_BAD_RESPONSE = (
        "upstream-bad-response",
        _NOWHERE,
        502,
        _INTERNAL_ERROR,
        "the app's answer is malformed",
    )
    UPSTREAM_BROKE = "upstream-broke", _NOWHERE, 502, _INTERNAL_ERROR, "the app closed the connection without an answer"

    # Why an HTTP/2 connection ends without anybody's fault.
    APP_CLOSED = "app-closed", _NOWHERE, None, _NO_ERROR, "the app closed its connection; no stream was open"
    CLIENT_CLOSED = "client-closed", _NOWHERE, None, _NO_ERROR, "the client sends nothing more, all is answered"
    DRAIN_DEADLINE = "drain-deadline", _NOWHERE, None, _NO_ERROR, "the drain has reached its deadline"
    IDLE = "idle", _NOWHERE, None, _NO_ERROR, "no stream was open for `idle-timeout`"

    __hash__ = object.__hash__  # members are their own equals

    def __init__(self, label: str, counted: Counted, status: int | None, code: ErrorCode | None, text: str) -> None:
        self.label = label
        self.counted = counted
        self.status = status
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.label


def labels(counted: Counted) -> tuple[str, ...]:
    """The labels of all reasons that this metric counts."""
    return tuple(sorted(reason.label for reason in Reason if counted in reason.counted))


class BadMessage(DrainproxyError):  # noqa: N818 - the field's term (RFC 9112 speaks of bad messages)
    """An HTTP/1 message that breaks the protocol or a limit."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.label)
        self.reason = reason


class BadFrame(DrainproxyError):  # noqa: N818 - as BadMessage
    """An HTTP/2 frame that breaks the protocol or a limit."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.label)
        self.reason = reason
