"""Which certificate is shown, when files are swapped, wrong, or half written? Handshakes in memory."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from drainproxy.errors import ConfigError
from drainproxy.net.tls import Tls, Trust
from tests.support.certificates import certificate

if TYPE_CHECKING:
    from pathlib import Path

    from drainproxy.config.values import RouteProtocol


class Secret:
    """A mounted Secret."""

    def __init__(self, where: Path) -> None:
        self.cert, self.key = where / "tls.crt", where / "tls.key"
        self.shown = b""

    def put(self, name: str) -> None:
        """Another pair."""
        cert, key = certificate(name)
        self.shown = ssl.PEM_cert_to_DER_cert(cert.decode())
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)

    def tls(self) -> Tls:
        return Tls(str(self.cert), str(self.key))


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    made = Secret(tmp_path)
    made.put("first")
    return made


def handshake(context: ssl.SSLContext, *alpn: str) -> tuple[bytes | None, str | None]:
    """What a client gets to see: the certificate (DER), and the protocol that was agreed on."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    if alpn:
        trusting.set_alpn_protocols(list(alpn))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname="localhost")
    server = context.wrap_bio(up, down, server_side=True)
    left = [client, server]
    for _ in range(10):
        for side in list(left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            left.remove(side)
    assert not left, "no handshake"
    return client.getpeercert(binary_form=True), client.selected_alpn_protocol()


def test_new_connections_see_the_newest_certificate(secret: Secret) -> None:
    tls = secret.tls()
    tls.load()
    context = tls.context("http1")
    assert handshake(context)[0] == secret.shown
    secret.put("second")
    tls.load()
    assert handshake(context)[0] == secret.shown


def test_a_client_gets_one_ticket_for_its_next_connection(secret: Secret) -> None:
    tls = secret.tls()
    tls.load()
    assert tls.context("auto").num_tickets == 1


def test_a_certificate_that_cannot_be_used_never_replaces_one_that_can(secret: Secret) -> None:
    tls = secret.tls()
    tls.load()
    context, good = tls.context("http1"), secret.shown
    other_key = certificate("other")[1]
    secret.key.write_bytes(other_key)
    with pytest.raises(ConfigError, match="the private key of"):
        tls.load()
    assert handshake(context)[0] == good
    secret.cert.unlink()
    with pytest.raises(ConfigError, match="a file that can be read"):
        tls.load()
    assert handshake(context)[0] == good


@pytest.mark.parametrize(
    ("protocol", "offered", "agreed"),
    [
        ("http1", ("h2", "http/1.1"), "http/1.1"),
        ("auto", ("h2", "http/1.1"), "http/1.1"),
        ("http2", ("h2", "http/1.1"), "h2"),
        ("tcp", ("h2", "http/1.1"), None),
    ],
)
def test_a_route_agrees_only_on_what_its_app_speaks(
    secret: Secret, protocol: RouteProtocol, offered: tuple[str, ...], agreed: str | None
) -> None:
    tls = secret.tls()
    tls.load()
    assert handshake(tls.context(protocol), *offered)[1] == agreed


def test_files_that_are_swapped_while_they_are_read_are_read_again(
    secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = secret.tls()
    looked = 0
    look = Tls._look

    def swapping(self: Tls) -> tuple[tuple[int, int, int], ...]:
        nonlocal looked
        looked += 1
        if looked == 2:
            secret.cert.rename(secret.cert.with_suffix(".old"))
            secret.put("second")
        return look(self)

    monkeypatch.setattr(Tls, "_look", swapping)
    tls.load()
    assert looked == 4
    assert handshake(tls.context("http1"))[0] == secret.shown


def test_files_that_never_hold_still_are_refused(secret: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = iter(range(100))
    monkeypatch.setattr(Tls, "_look", lambda self: next(stamps))
    with pytest.raises(ConfigError, match="not being written all the time"):
        secret.tls().load()


def names(trust: Trust) -> list[str]:
    """Who is vouched for."""
    return [dict(pair[0] for pair in ca["subject"])["commonName"] for ca in trust.context().get_ca_certs()]  # type: ignore[misc]


def test_siblings_are_believed_by_what_the_file_says_now(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(certificate("first")[0])
    trust = Trust(str(file), "localhost")
    trust.load()
    assert names(trust) == ["first"]
    assert trust.context() is trust.context()
    file.write_bytes(certificate("second")[0])
    assert names(trust) == ["second"]
    file.write_bytes(b"nonsense")
    assert names(trust) == ["second"], "what cannot be used replaces nothing"
    file.unlink()
    assert names(trust) == ["second"]


@pytest.mark.parametrize(("content", "words"), [(None, "read"), (b"nonsense", "certificates")])
def test_at_the_start_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"--successor-ca.*{words}"):
        Trust(str(file), None).load()
