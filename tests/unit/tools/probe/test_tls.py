"""How does the client check the server, and show who it is? Every option, and every refusal in our words."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drainproxy.tools.cli.probe import Request, make_client
from drainproxy.tools.probe.load import Traffic
from drainproxy.tools.probe.tls import Tls
from tests.support.asyncio_server import serving

if TYPE_CHECKING:
    from pathlib import Path

    from drainproxy.tools.probe.verdict import Reply

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority, or a certificate that stands for itself."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    def issue(self, file: str, host: str, *, days: int = 1) -> str:
        """A certificate with its key in one PEM file, valid until `days` from now; its path."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = host.replace(".", "").isdigit()
        alternative = x509.IPAddress(ipaddress.ip_address(host)) if address else x509.DNSName(host)
        made = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), self.name, key, NOW + days * DAY)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return self.write(file, made, key)

    def write(self, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> str:
        path = self.folder / file
        pem = serialization.Encoding.PEM
        path.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )
        return str(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(until)
    )


@pytest.fixture
def authority(tmp_path: Path) -> Issuer:
    """Its own certificate is `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    issuer = Issuer(tmp_path, name, key)
    own = _builder(name, name, key, NOW + DAY).add_extension(x509.BasicConstraints(True, None), critical=True)
    issuer.write("ca.pem", own.sign(key, hashes.SHA256()), key)
    return issuer


async def asked(
    server_cert: str, tls: Tls, *, client_ca: str | None = None, http2: bool = False, alpn: str = "http/1.1"
) -> Reply:
    """The reply to one request to a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_cert)
    context.set_alpn_protocols([alpn])
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    request = Request(Traffic(1, 0.0, 5.0), "GET", b"", frozenset({200}), False, http2, tls)
    async with serving(serve, ssl=context) as port:
        client = make_client(f"https://127.0.0.1:{port}/", request)
        try:
            return await client.send(0)
        finally:
            await client.close()


async def test_a_certificate_of_an_authority_that_is_named_is_accepted(authority: Issuer, tmp_path: Path) -> None:
    cert = authority.issue("server.pem", "127.0.0.1")
    assert (await asked(cert, Tls(ca=str(tmp_path / "ca.pem")))).fault == ""
    assert (await asked(cert, Tls(insecure=True))).fault == ""


async def test_the_name_may_be_another_than_the_urls_host(authority: Issuer, tmp_path: Path) -> None:
    cert = authority.issue("server.pem", "shop.example")
    assert (await asked(cert, Tls(ca=str(tmp_path / "ca.pem"), name="shop.example"))).fault == ""
    assert (await asked(cert, Tls(insecure=True, name="shop.example"))).fault == ""


async def test_a_client_certificate_is_shown_if_given(authority: Issuer, tmp_path: Path) -> None:
    cert, ours = authority.issue("server.pem", "127.0.0.1"), authority.issue("client.pem", "a.client")
    ca = str(tmp_path / "ca.pem")
    assert (await asked(cert, Tls(ca=ca, cert=ours), client_ca=ca)).fault == ""
    without = await asked(cert, Tls(ca=ca), client_ca=ca)
    # With TLS 1.3 the handshake is over for the client when the server refuses it: the alert may come too late.
    assert without.fault in ("tls", "empty reply", "reset"), without


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    ("host", "days", "trusted", "words"),
    [
        ("127.0.0.1", 1, False, "the certificate comes from an authority that is not trusted here"),
        ("127.0.0.1", -1, True, "the certificate has expired"),
        ("127.0.0.2", 1, True, "the certificate is for a different address"),
    ],
)
async def test_a_certificate_that_is_refused_is_a_tls_failure_in_our_words(
    authority: Issuer, tmp_path: Path, host: str, days: int, trusted: bool, words: str, http2: bool
) -> None:
    cert = authority.issue("server.pem", host, days=days)
    reply = await asked(cert, Tls(ca=str(tmp_path / "ca.pem") if trusted else None), http2=http2, alpn="h2")
    assert (reply.fault, reply.detail) == ("tls", words)


async def test_a_server_without_tls_is_a_tls_failure_in_our_words() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    request = Request(Traffic(1, 0.0, 5.0), "GET", b"", frozenset({200}), False, False, Tls())
    async with serving(plain) as port:
        client = make_client(f"https://127.0.0.1:{port}/", request)
        reply = await client.send(0)
        await client.close()
    assert (reply.fault, reply.detail) == ("tls", "the server does not speak TLS")
