"""What does an HTTP/1 head say, and what is sent on in its place? (RFC 9112, RFC 9110 §7.6)

One pattern checks a whole head: the grammar is in one place, and `re` runs it at the speed of C. A second one finds the
few fields a proxy must know. Everything else stays the bytes that came: a head is sent on as slices of the original,
cut where a hop-by-hop field stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drainproxy.protocol.fields import SECTION, TOKEN, VALUE, content_length, explain, is_chunked
from drainproxy.protocol.framing import Chunked, Framing, Length, UntilClose
from drainproxy.protocol.reasons import BadMessage, Reason
from drainproxy.protocol.trace import fields as traceparents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Cut = tuple[int, int]
"""Start and end of a field line that is not sent on."""
LinesByName = dict[bytes, "list[re.Match[bytes]]"]
"""Fields by name, each with its lines: group 2 is the value."""

_TARGET: Final = rb"[\x21\x22\x24-\x7e\x80-\xff]"
"""A byte of a request's target. No `#`: a fragment is never sent, and parsers differ on where it ends the path."""
_REQUEST: Final = re.compile(rb"(" + TOKEN + rb") (" + _TARGET + rb"++) HTTP/1\.([01])\r\n" + SECTION + rb"\r\n")
_RESPONSE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n" + SECTION + rb"\r\n")
_ODD_REQUEST: Final = (
    rb"(?:[Cc](?i:onnection|ontent-length)|[Tt](?i:ransfer-encoding|e)|[Uu](?i:pgrade)"
    rb"|[Kk](?i:eep-alive)|[Pp](?i:roxy-connection)|[Ff](?i:orwarded:)|[Hh](?i:ost)"
    rb"|[Xx](?:-(?i:forwarded(?:_|-(?:for|host|proto))|re(?:quest[-_]id|al[-_]ip)|drainproxy-hop)|_(?i:forwarded|request|real))"
    rb"|[Uu](?i:ser-agent:[ \t]*+(?:kube-probe/|googlehc/|elb-healthchecker/|envoy/hc)))"
)
_PLAIN_REQUEST = re.compile(
    rb"(" + TOKEN + rb") (/" + _TARGET + rb"*+) HTTP/1\.1\r\n(?:"
    rb"[Hh](?i:ost)(?(3)(?!)):[ \t]*+([A-Za-z0-9.\-]++(?::[0-9]++)?)\r\n"
    rb"|[Cc](?i:ontent-length)(?(4)(?!))(?(11)(?!)):[ \t]*+([0-9]{1,18})\r\n"
    rb"|[Cc](?i:onnection)(?(5)(?!)):([ \t]*+(?i:keep-alive|close)\r\n)"
    rb"|[Xx]-(?:(?i:forwarded-)(?:(?i:for)(?(6)(?!)):([ \t]*+[\x21-\x2b\x2d-\x7e][\t\x20-\x7e]*+)"
    rb"|(?i:proto)(?(7)(?!)):([\t\x20-\x7e]++)|(?i:host)(?(8)(?!)):([\t\x20-\x7e]++))|(?i:re(?:quest-id(?(9)(?!)):([\t\x20-\x7e]++)"
    rb"|al-ip(?(10)(?!)):([\t\x20-\x7e]++))))\r\n"
    rb"|[Tt](?i:ransfer-encoding)(?(4)(?!))(?(11)(?!)):[ \t]*+((?i:chunked))\r\n"
    rb"|(?!" + _ODD_REQUEST + rb")" + TOKEN + rb":" + VALUE + rb"\r\n)*\r\n"
)
"""A request as nearly all are: one pass checks it and finds the fields.

Each field that counts may stand once (`(?(n)(?!))`); whatever is unusual does not match, and goes the general way.
"""
_PLAIN_RESPONSE = re.compile(
    rb"HTTP/1\.1 ((?!204)[2-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n(?:"
    rb"[Cc](?i:ontent-length)(?(2)(?!)):[ \t]*+([0-9]{1,18})\r\n"
    rb"|[Cc](?i:onnection)(?(3)(?!)):([ \t]*+(?i:keep-alive|close)\r\n)"
    rb"|(?!(?:[Cc](?i:onnection|ontent-length)|[Tt](?i:ransfer-encoding|e)|[Uu](?i:pgrade)|[Kk](?i:eep-alive)"
    rb"|[Pp](?i:roxy-connection))[ \t]*+:)" + TOKEN + rb":" + VALUE + rb"\r\n)*\r\n"
)
"""A response as nearly all are."""
_VERSION: Final = re.compile(rb" HTTP/([0-9]+)\.([0-9]+)$")
_METHOD_START: Final = re.compile(TOKEN + rb"(?: |$)")
_VALUE: Final = rb"):[ \t]*+([^\r]*+)\r"
_REQUEST_FIELDS: Final = re.compile(
    rb"\n(host|user-agent|content-length|transfer-encoding|connection|te|upgrade|keep-alive"
    rb"|proxy-connection|x-forwarded-(?:for|host|proto)|x-request-id|x-real-ip|x-drainproxy-hop|forwarded" + _VALUE
)
_RESPONSE_FIELDS: Final = re.compile(
    rb"\n(content-length|transfer-encoding|connection|te|upgrade|keep-alive|proxy-connection" + _VALUE
)
_ANY_FIELD: Final = re.compile(rb"\n([^:\r\n]++):[^\r]*+\r")
_SHADOW: Final = re.compile(
    rb"\n(?=[a-z-]*+_)(?:x[-_]forwarded[-_][a-z_-]++|x[-_]real[-_]ip|x[-_]request[-_]id):[^\r]*+\r"
)
"""A field that some apps take for another: CGI and its heirs write X-Forwarded-For and X_Forwarded_For in one way."""
_FORWARDED_FOR: Final = re.compile(
    rb"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?|[0-9a-f]{0,4}(?::[0-9a-f.]{0,15}){2,8}"
    rb"|unknown|_[0-9a-z._-]+",
    re.I,
)
"""An element of X-Forwarded-For: an address, with its port or without, or one of RFC 7239's names for none (§6)."""
_HOST: Final = re.compile(rb"(?:[a-z0-9\-._~!$&'()*+,;=%\x80-\xff]*|\[[0-9a-f:.v%]+\])(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)(?:[/?#]|$)")

_TO_HTTP: Final = re.compile(rb"(?:^|[, \t])(?:h2|http/)")
"""An Upgrade (in lower case) to HTTP itself. It is not relayed: requests would pass that nobody reads and counts."""

_NOT_BY_NAME: Final = frozenset(
    b"host content-length transfer-encoding content-type authorization cookie x-request-id x-forwarded-for "
    b"x-forwarded-host x-forwarded-proto x-real-ip forwarded close keep-alive upgrade te".split()
) | {b""}
"""What naming it in Connection does not remove: fields meant for every recipient, options, and what is cut anyway."""

_HOP_BY_HOP: Final = frozenset((b"connection", b"te", b"keep-alive", b"proxy-connection"))
_PROBES: Final = (b"kube-probe/", b"googlehc/", b"elb-healthchecker/", b"envoy/hc")
"""User-Agents (lower case) of health checks: they are answered, but are no work and no sign of late traffic."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be repeated (RFC 9110 §9.2.2)."""

SWITCHING_PROTOCOLS: Final = 101
FINAL: Final = 200
NO_CONTENT: Final = 204
NOT_MODIFIED: Final = 304
REQUEST_TIMEOUT: Final = 408
SERVICE_UNAVAILABLE: Final = 503
UPGRADE_REQUIRED: Final = 426

_ONE: Final = ord("1")


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What each request of a client connection gets added. `trusted`: what it says of a client before it is kept.

    `hops`: it may say that a sibling has handed it over. `hopped`: one has handed over the connection as a whole.
    """

    address: bytes
    proto: bytes
    trusted: bool
    new_id: Callable[[], bytes]
    trace: Callable[[list[bytes]], bytes | None] | None = None
    """Where traces are followed: the traceparent to send for those that came, None to leave it as it is."""
    hops: bool = False
    hopped: bool = False
    fields: bytes = field(init=False)
    """What every request gets that says nothing of its client itself."""

    def __post_init__(self) -> None:
        fields = b"X-Forwarded-For: %s\r\nX-Forwarded-Proto: %s\r\n" % (self.address, self.proto)
        object.__setattr__(self, "fields", fields)


class RequestHead:
    """One request's head. Defaults stand on the class: a head stores only what it says itself."""

    method: bytes
    target: bytes
    minor: int = 1
    end: int
    """Index behind the head in the data it was parsed from."""
    length: int | None = None
    chunked: bool = False
    close: bool = False
    upgrade: bytes = b""
    is_probe: bool = False
    hop: bool = False
    """It says that a sibling has handed it over. To be believed of peers only that may (Forwarding.hops)."""
    attempts: int = 0
    """How often it was handed over from here."""
    _data: bytes
    _host: bytes = b""
    _cuts: list[Cut] | tuple[Cut, ...] = ()
    _for_end: int = 0  # behind the last element of the last X-Forwarded-For that has any
    _for_lines: Sequence[Cut] = ()
    _proto_lines: Sequence[Cut] = ()
    _host_lines: Sequence[Cut] = ()
    _client_lines: Sequence[Cut] = ()  # what else says who the client is: X-Real-IP, Forwarded
    _says_client: bool = False  # any of these four
    _has_host: bool = True
    _has_id: bool = False
    _takes_trailers: bool = False

    @classmethod
    def parse(cls, data: bytes, max_size: int) -> RequestHead | None:
        """The head that `data` begins with, or None while it is incomplete. Raises BadMessage."""
        match = _PLAIN_REQUEST.match(data)
        if match is None or match[3] is None or match.end() > max_size:
            return cls._parse_general(data, max_size)
        head = cls()
        (
            head.method, head.target, head._host, length, connection,
            forwarded_for, proto, host, given_id, real_ip, chunked,
        ) = match.groups()  # fmt: skip
        head.end = match.end()
        head._data = data
        if length is not None:
            head.length = int(length)
        elif chunked is not None:
            head.chunked = True
        if connection is not None:
            start, stop = match.span(5)
            head._cuts = [(start - len(b"connection:"), stop)]
            head.close = _says_close(connection)
        if given_id is not None:
            head._has_id = True
        if forwarded_for is not None:
            start, stop = match.span(6)
            head._says_client = True
            head._for_end = start + len(forwarded_for.rstrip())
            head._for_lines = ((start - len(b"x-forwarded-for:"), stop + 2),)
        if proto is not None:
            start, stop = match.span(7)
            head._says_client = True
            head._proto_lines = ((start - len(b"x-forwarded-proto:"), stop + 2),)
        if host is not None:
            start, stop = match.span(8)
            head._says_client = True
            head._host_lines = ((start - len(b"x-forwarded-host:"), stop + 2),)
        if real_ip is not None:
            start, stop = match.span(10)
            head._says_client = True
            head._client_lines = ((start - len(b"x-real-ip:"), stop + 2),)
        return head

    @classmethod
    def _parse_general(cls, data: bytes, max_size: int) -> RequestHead | None:
        match = _REQUEST.match(data)
        if match is None:
            _refuse_or_wait(data, max_size, _request_fault(data))
            return None
        if match.end() > max_size:
            raise BadMessage(Reason.HEADER_TOO_LARGE)
        head = cls()
        head.end = match.end()
        head.method, head.target, minor = match.groups()
        head.minor = int(minor)
        head._data = data
        lowered = data[: head.end].lower()
        lines = _lines_by_name(lowered)
        head._read_framing(lines)
        head._read_host(lines.get(b"host", ()))
        head._read_connection(lines, lowered)
        head._read_forwarding(lines)
        for line in lines.get(b"user-agent", ()):
            head.is_probe = head.is_probe or line[2].startswith(_PROBES)
        return head

    def _read_framing(self, lines: LinesByName) -> None:
        for line in lines.get(b"content-length", ()):
            self.length = content_length(line[2].rstrip(), self.length)
        for line in lines.get(b"transfer-encoding", ()):
            self.chunked = is_chunked(line[2], before=self.chunked)
        _check_framing(self.length, self.chunked, is_1_0=not self.minor)

    def _read_host(self, lines: Sequence[re.Match[bytes]]) -> None:
        """RFC 9112 §3.2: exactly one Host in HTTP/1.1, well-formed, and not another than an absolute target names."""
        if len(lines) != 1 and (lines or self.minor):
            raise BadMessage(Reason.SEVERAL_HOSTS if lines else Reason.NO_HOST)
        self._has_host = bool(lines)
        for line in lines:
            start, stop = line.span(2)
            self._host = self._data[start:stop].rstrip()
        host = self._host.lower()
        if not _HOST.fullmatch(host):
            raise BadMessage(Reason.BAD_HOST)
        if self.target[:1] == b"/" or self.method == b"CONNECT" or (self.target == b"*" and self.method == b"OPTIONS"):
            return
        absolute = _ABSOLUTE.match(self.target.lower())
        if absolute is None or not _HOST.fullmatch(absolute[1]):
            raise BadMessage(Reason.BAD_TARGET)
        if lines and host != absolute[1]:
            # §3.2.2 lets a proxy replace Host by the target's; two names for one request are refused instead.
            raise BadMessage(Reason.TWO_HOSTS)
        self._host = self.target[absolute.start(1) : absolute.end(1)]

    def _read_connection(self, lines: LinesByName, lowered: bytes) -> None:
        """What ends at this hop, and what is cut for that (RFC 9110 §7.6.1)."""
        options: list[bytes] = []
        cuts = [_line(line) for name in lines.keys() & _HOP_BY_HOP for line in lines[name]]
        cuts += map(_line, lines.get(b"content-length", ())[1:])  # equal ones are one (RFC 9112 §6.3)
        for line in lines.get(b"connection", ()):
            options += _options(line[2])
        cuts += _named_by_connection(lowered, options)
        cuts += map(_line, _SHADOW.finditer(lowered))
        if b"upgrade" in lines:
            upgrade = b", ".join([line[2].rstrip() for line in lines[b"upgrade"]])
            if b"upgrade" in options and self.minor and not _TO_HTTP.search(upgrade):
                self.upgrade = upgrade
            if not self.upgrade:
                cuts += map(_line, lines[b"upgrade"])
        self._cuts = cuts
        if b"te" in lines:
            self._takes_trailers = any(b"trailers" in line[2] for line in lines[b"te"])
        self.close = b"close" in options or (not self.minor and b"keep-alive" not in options)

    def _read_forwarding(self, lines: LinesByName) -> None:
        for line in lines.get(b"x-forwarded-for", ()):
            if line[2].strip(b", \t"):
                self._for_end = line.start(2) + len(line[2].rstrip())
                self._for_lines = [*self._for_lines, _line(line)]
            else:
                self._cuts = [*self._cuts, _line(line)]
        client_lines = (*lines.get(b"x-real-ip", ()), *lines.get(b"forwarded", ()))
        self._client_lines = list(map(_line, client_lines))
        self._proto_lines = list(map(_line, lines.get(b"x-forwarded-proto", ())))
        self._host_lines = list(map(_line, lines.get(b"x-forwarded-host", ())))
        self._says_client = bool(self._for_lines or self._client_lines or self._proto_lines or self._host_lines)
        self._has_id = b"x-request-id" in lines
        hop = lines.get(b"x-drainproxy-hop", ())
        if hop:
            self.hop = True
            self._cuts = [*self._cuts, *map(_line, hop)]

    @property
    def replayable(self) -> bool:
        """Sending it twice is safe and possible: an idempotent method, no body."""
        return not self.length and not self.chunked and self.method in IDEMPOTENT

    def framing(self, max_trailers: int) -> Framing:
        """The framing of the body."""
        return Chunked(max_trailers) if self.chunked else Length(self.length or 0)

    def forward(self, to: Forwarding, stop: int) -> bytes:
        """What to send to the app for the data this was parsed from, up to `stop`: the head, and body if there is.

        The head becomes HTTP/1.1, loses its hop-by-hop fields and gets the forwarding fields.
        """
        data, end, cuts = self._data, self.end, self._cuts
        if self._says_client:
            added = self._added(to)
        else:
            added = [to.fields, b"X-Forwarded-Host: ", self._host, b"\r\n"] if self._host else [to.fields]
        if not self._has_id:
            added += (b"X-Request-Id: ", to.new_id(), b"\r\n")
        if self.upgrade:
            added.append(b"Connection: Upgrade\r\n")
        elif self._takes_trailers:
            added.append(b"Connection: TE\r\nTE: trailers\r\n")
        if not self._says_client and len(cuts) <= 1 and self.minor and to.trace is None:
            # Nothing to edit but a Connection line, as browsers send it.
            cut_from, cut_to = cuts[0] if cuts else (0, 0)
            return b"".join((data[:cut_from], data[cut_to : end - 2], *added, b"\r\n", data[end:stop]))
        if to.trace is not None:
            added += self._traced(to.trace)
        edits = self._edits(to)
        parts: list[bytes] = []
        at = 0
        for cut_from, cut_to, instead in sorted(set(edits)) if len(edits) > 1 else edits:
            parts += (data[at:cut_from], instead)
            at = cut_to
        return b"".join((*parts, data[at : end - 2], *added, b"\r\n", data[end:stop]))

    def _added(self, to: Forwarding) -> list[bytes]:
        """What is said of the client beside what the peer says, as far as that is believed."""
        added = []
        if not self._for_end:
            added = [b"X-Forwarded-For: ", to.address, b"\r\n"]
        elif not to.trusted:
            added = [b"X-Forwarded-For: ", *self._credible_elements(), to.address, b"\r\n"]
        if not self._proto_lines or not to.trusted:
            added += (b"X-Forwarded-Proto: ", to.proto, b"\r\n")
        if self._host and (not self._host_lines or not to.trusted):
            added += (b"X-Forwarded-Host: ", self._host, b"\r\n")
        return added

    def _traced(self, trace: Callable[[list[bytes]], bytes | None]) -> tuple[bytes, ...]:
        """The traceparent to add; what came before is cut then."""
        given = traceparents(self._data, self.end)
        value = trace([each for _, _, each in given])
        if value is None:
            return ()
        lines = [(start, stop) for start, stop, _ in given]
        self._cuts = [*[cut for cut in self._cuts if cut not in lines], *lines]
        return (b"traceparent: ", value, b"\r\n")

    def _credible_elements(self) -> list[bytes]:
        """What a client from outside says of those before it, as far as it is well-formed, each with its comma."""
        values = [self._data[start:stop].partition(b":")[2] for start, stop in self._for_lines]
        elements = [element.strip() for value in values for element in value.split(b",")]
        return [element + b", " for element in elements if _FORWARDED_FOR.fullmatch(element)]

    def _edits(self, to: Forwarding) -> list[tuple[int, int, bytes]]:
        edits = [(start, stop, b"") for start, stop in self._cuts]
        if self._says_client and not to.trusted:
            said = (self._for_lines, self._proto_lines, self._host_lines, self._client_lines)
            edits += [(*line, b"") for lines in said for line in lines]
        elif self._for_end and not (self.hop and to.hops):  # the sibling has added the client: it is no hop of its own
            edits.append((self._for_end, self._for_end, b", " + to.address))
        if not self.minor:
            version_end = self._data.index(b"\r\n")
            # HTTP/1.0 knows no Host and HTTP/1.1 must have one: an empty value says that none is known (RFC 9110 §7.2).
            edits.append((version_end - 1, version_end, b"1" if self._has_host else b"1\r\nHost: " + self._host))
        return edits


parse_request = RequestHead.parse


def as_hop(request: bytes) -> bytes:
    """A request as `forward` made it, said to be handed over by a sibling: it is handed on by nobody."""
    return request.replace(b"\r\n", b"\r\nX-Drainproxy-Hop: 1\r\n", 1)


class ResponseHead:
    """One response's head. Defaults stand on the class, as with RequestHead."""

    status: int
    end: int
    """Index behind the head in the data it was parsed from."""
    length: int | None = None
    chunked: bool = False
    close: bool = False
    _data: bytes
    _cuts: list[Cut] | tuple[Cut, ...] = ()

    @classmethod
    def parse(cls, data: bytes, max_size: int) -> ResponseHead | None:
        """The head that `data` begins with, or None while it is incomplete. Raises BadMessage."""
        match = _PLAIN_RESPONSE.match(data)
        if match is None or match.end() > max_size:
            return cls._parse_general(data, max_size)
        head = cls()
        status, length, connection = match.groups()
        head.status = int(status)
        head.end = match.end()
        head._data = data
        if length is not None:
            head.length = int(length)
        if connection is not None:
            start, stop = match.span(3)
            head._cuts = [(start - len(b"connection:"), stop)]
            head.close = _says_close(connection)
        return head

    @classmethod
    def _parse_general(cls, data: bytes, max_size: int) -> ResponseHead | None:
        match = _RESPONSE.match(data)
        if match is None:
            _refuse_or_wait(data, max_size, _response_fault(data))
            return None
        if match.end() > max_size:
            raise BadMessage(Reason.HEADER_TOO_LARGE)
        head = cls()
        head.end = match.end()
        minor, status = match.groups()
        head.status = int(status)
        head._data = data
        lowered = data[: head.end].lower()
        options: list[bytes] = []
        cuts: list[Cut] = []
        for line in _RESPONSE_FIELDS.finditer(lowered):
            match line[1]:
                case b"content-length":
                    if head.length is not None:
                        cuts.append(_line(line))
                    head.length = content_length(line[2].rstrip(), head.length)
                case b"transfer-encoding":
                    head.chunked = is_chunked(line[2], before=head.chunked)
                case b"upgrade" if head.status in (SWITCHING_PROTOCOLS, UPGRADE_REQUIRED):
                    pass
                case name:
                    cuts.append(_line(line))
                    if name == b"connection":
                        options += _options(line[2])
        _check_framing(head.length, head.chunked, is_1_0=minor == b"0")
        if options:
            cuts += _named_by_connection(lowered, options)
        if head.status == NO_CONTENT or head.is_interim:
            # RFC 9110 §8.6, RFC 9112 §6.1: neither may frame a body here, and a client may stumble over them.
            cuts += _framing_lines(lowered)
            head.length, head.chunked = None, False
        head.close = b"close" in options or (minor == b"0" and b"keep-alive" not in options)
        head._cuts = cuts
        return head

    @property
    def is_interim(self) -> bool:
        """1xx: another head follows."""
        return self.status < FINAL

    def is_bodyless(self, method: bytes) -> bool:
        """No body follows, whatever the fields say (RFC 9112 §6.3)."""
        return self.length == 0 or method == b"HEAD" or self.status in (NO_CONTENT, NOT_MODIFIED)

    def framing(self, max_trailers: int, *, decode: bool) -> Framing:
        """The framing of the body, if one follows (RFC 9112 §6.3)."""
        if self.chunked:
            return Chunked(max_trailers, decode=decode)
        return UntilClose() if self.length is None else Length(self.length)

    def stays(self, connection: bytes) -> bool:
        """With this Connection line, or none, the client gets the head as it came."""
        return not connection and not self._cuts and self._data[7] == _ONE

    def forward(self, connection: bytes, stop: int, *, decode: bool = False) -> bytes:
        """What to send to the client for the data this was parsed from, up to `stop`: the head, and body if there is.

        The head becomes HTTP/1.1, loses its hop-by-hop fields and gets this Connection line (or none). `decode`: the
        body is sent without chunks, so Transfer-Encoding goes, too.
        """
        data, end, cuts = self._data, self.end, self._cuts
        if decode:
            cuts = [*cuts, *_framing_lines(data[:end].lower())]
        elif self.stays(connection):
            return data if stop == len(data) else data[:stop]
        parts, at = [b"HTTP/1.1"], 8
        for cut_from, cut_to in cuts if len(cuts) < 2 else sorted(set(cuts)):  # noqa: PLR2004 - nothing to sort
            parts.append(data[at:cut_from])
            at = cut_to
        return b"".join((*parts, data[at : end - 2], connection, b"\r\n", data[end:stop]))


parse_response = ResponseHead.parse


def _says_close(connection: bytes) -> bool:
    return connection.strip().lower() == b"close"


def _lines_by_name(lowered: bytes) -> LinesByName:
    """The lines of the fields that a proxy must know, in a request's head in lower case."""
    lines: LinesByName = {}
    for line in _REQUEST_FIELDS.finditer(lowered):
        lines.setdefault(line[1], []).append(line)
    return lines


def _line(field: re.Match[bytes]) -> Cut:
    """The field's whole line. The match begins at the LF before it and ends at its CR."""
    return field.start() + 1, field.end() + 1


def _check_framing(length: int | None, chunked: bool, *, is_1_0: bool) -> None:
    if chunked and length is not None:
        raise BadMessage(Reason.LENGTH_AND_ENCODING)
    if chunked and is_1_0:
        raise BadMessage(Reason.ENCODING_IN_HTTP10)


def _options(value: bytes) -> list[bytes]:
    """What a Connection field lists."""
    return [option.strip() for option in value.split(b",")]


def _named_by_connection(lowered: bytes, options: list[bytes]) -> list[Cut]:
    """The lines of the fields that Connection names (RFC 9110 §7.6.1)."""
    names = set(options) - _NOT_BY_NAME
    return [_line(match) for match in _ANY_FIELD.finditer(lowered) if match[1] in names] if names else []


def _framing_lines(lowered: bytes) -> list[Cut]:
    """Where Content-Length and Transfer-Encoding stand."""
    framing = (b"content-length", b"transfer-encoding")
    return [_line(match) for match in _RESPONSE_FIELDS.finditer(lowered) if match[1] in framing]


def _refuse_or_wait(data: bytes, max_size: int, fault: BadMessage | None) -> None:
    """No head was found. Raise BadMessage if none can come of this data; return if more may complete it."""
    if fault is not None:
        raise fault
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        raise BadMessage(explain(data[: end + 2]))
    if len(data) > max_size:
        raise BadMessage(Reason.HEADER_TOO_LARGE)
    if b"\0" in data or b"\n" in data.replace(b"\r\n", b""):
        raise BadMessage(explain(data))


def _request_fault(data: bytes) -> BadMessage | None:
    """What is wrong with a request line as far as it has come."""
    line, crlf, _ = data.partition(b"\r\n")
    if not _METHOD_START.match(line):
        return BadMessage(Reason.BAD_START_LINE)
    version = _VERSION.search(line) if crlf else None
    if crlf and (version is None or line.count(b" ") != 2):  # noqa: PLR2004 - method, target, version
        return BadMessage(Reason.BAD_START_LINE)
    if version is not None and (version[1] != b"1" or version[2] not in (b"0", b"1")):
        return BadMessage(Reason.HTTP_VERSION)
    return None


def _response_fault(data: bytes) -> BadMessage | None:
    """What is wrong with a status line as far as it has come."""
    return None if data.startswith(b"HTTP/1."[: len(data)]) else BadMessage(Reason.BAD_START_LINE)
