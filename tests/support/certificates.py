"""Certificates for tests, and the text in which a setting holds them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from tests.support.issuer import SigningKey

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY = SigningKey.rsa("platform").private
OTHER_KEY = SigningKey.ec("authority").private


def certificate_of(
    key: PrivateKey, *, days: float = 365, name: str = "events", host: str | None = None
) -> x509.Certificate:
    """A self-signed certificate that ends in some days, for a web server if it has a `host`."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.not_valid_before(ends - timedelta(days=730)).not_valid_after(ends).sign(key, SHA256())


@cache
def platform_certificate() -> x509.Certificate:
    """The certificate of `KEY`, the same for the whole test run."""
    return certificate_of(KEY)


def platform_pem() -> str:
    """`platform_certificate` with its key, as a setting."""
    return pem(KEY, platform_certificate())


def pem(*parts: PrivateKey | x509.Certificate, password: bytes | None = None) -> str:
    """Keys and certificates in the given order."""
    return "".join(_pem(part, password) for part in parts)


def pfx(key: PrivateKey | None, *certificates: x509.Certificate, password: bytes | None = None) -> str:
    """Base64 of a PFX with a key, its certificate, and further certificates."""
    own, *others = certificates
    assert key is None or isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    data = pkcs12.serialize_key_and_certificates(b"events", key, own, others, _encryption(password))
    return base64.b64encode(data).decode()


def _pem(part: PrivateKey | x509.Certificate, password: bytes | None) -> str:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(Encoding.PEM).decode()
    return part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password)).decode()


def _encryption(password: bytes | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password)
