"""Which certificate does the webhook serve, whom may the API server trust for it, and when is it time for new ones?

Pure but for the keys it makes: what is there and the time go in, what should be there comes out. A new authority is
published `SETTLE` before it signs anything, so that no API server meets a certificate that it cannot check.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AUTHORITY_LIFE = timedelta(days=3 * 365)
LEAF_LIFE = timedelta(days=90)
SETTLE = timedelta(hours=1)
"""From a new authority's birth until it signs: many times what publishing takes."""
SKEW = timedelta(minutes=5)
"""Clocks of other machines may be this far behind."""


@dataclass(frozen=True, slots=True)
class Material:
    """As PEM. `authorities`: the bundle that is published, oldest first; `authority_key` is that of the last one."""

    authorities: tuple[bytes, ...]
    authority_key: bytes
    certificate: bytes
    key: bytes

    @property
    def bundle(self) -> bytes:
        return b"".join(self.authorities)

    @property
    def expires(self) -> datetime:
        return expiry(self.certificate)


def expiry(certificate: bytes) -> datetime:
    """When a certificate ends. Raises ValueError for what is no PEM certificate."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def current(there: Material | None, names: Sequence[str], now: datetime) -> Material:
    """What should be there now; `there` itself if nothing has to change. `names`: the DNS names to be called by."""
    if there is None or _leaf(there).not_valid_after_utc <= now or not _is_whole(there):
        authority, key = _new_authority(now)
        return _with_leaf(Material((authority,), key, b"", b""), names, now)
    if _is_due(_newest(there), now):
        authority, key = _new_authority(now)
        there = replace(there, authorities=(*_alive(there, now), authority), authority_key=key)
    is_settled = now - _newest(there).not_valid_before_utc >= SETTLE + SKEW
    if is_settled and (_is_due(_leaf(there), now) or _names(there) != set(names)):
        there = _with_leaf(replace(there, authorities=_alive(there, now)), names, now)
    return there


def read_secret(data: Mapping[str, str]) -> Material | None:
    """From a Secret's `data`; None if it holds nothing, or nothing that can be used."""
    try:
        parts = [b64decode(data[key], validate=True) for key in ("ca.crt", "ca.key", "tls.crt", "tls.key")]
        authorities = tuple(_pem(each) for each in x509.load_pem_x509_certificates(parts[0]))
        material = Material(authorities, *parts[1:])
        _leaf(material)
    except (KeyError, ValueError):
        return None
    return material


def as_secret(material: Material) -> dict[str, str]:
    """A Secret's `data`."""
    parts = (material.bundle, material.authority_key, material.certificate, material.key)
    return {k: b64encode(v).decode() for k, v in zip(("ca.crt", "ca.key", "tls.crt", "tls.key"), parts, strict=True)}


def _newest(material: Material) -> x509.Certificate:
    return x509.load_pem_x509_certificate(material.authorities[-1])


def _leaf(material: Material) -> x509.Certificate:
    return x509.load_pem_x509_certificate(material.certificate)


def _names(material: Material) -> set[str]:
    found = _leaf(material).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))


def _is_whole(material: Material) -> bool:
    """Whether the keys belong to the certificates, and one of the authorities signed the leaf."""
    pairs = ((material.authority_key, _newest(material)), (material.key, _leaf(material)))
    try:
        if any(_private(key).public_key() != certificate.public_key() for key, certificate in pairs):
            return False
    except (TypeError, ValueError):
        return False
    issuer = _leaf(material).issuer
    return any(x509.load_pem_x509_certificate(each).subject == issuer for each in material.authorities)


def _alive(material: Material, now: datetime) -> tuple[bytes, ...]:
    return tuple(each for each in material.authorities if expiry(each) > now)


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of its life are over."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + life * 2 / 3


def _new_authority(now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Each has a name of its own: an issuer that is two keys could not be told apart.
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"drainproxy webhook {stamp}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _with_leaf(material: Material, names: Sequence[str], now: datetime) -> Material:
    authority, signer = _newest(material), _private(material.authority_key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drainproxy webhook")])
    known_by = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = (
        x509.CertificateBuilder(authority.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(min(now + LEAF_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(known_by, critical=False)
        .add_extension(signed_by, critical=False)
        .sign(signer, hashes.SHA256())
    )
    return replace(material, certificate=_pem(certificate), key=_key_pem(key))


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("expected an elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)
