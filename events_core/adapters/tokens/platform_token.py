"""The service's own PlatformAccessToken, and the certificate that signs it. Register lets nobody in without one."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

LIFETIME_SECONDS = 300
RENEWED_BEFORE_SECONDS = 60
NOT_BEFORE_SECONDS = 5
"""How far back `nbf` lies, for receivers whose clocks are behind."""
_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class PlatformCertificate:
    """A certificate with its RSA private key."""

    key: RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    @classmethod
    def read(cls, text: str) -> Self:
        """Read PEM, or base64 of a PFX without password. Certificates of other keys, such as a chain, are ignored.

        Raises:
            ValueError: The text is unusable. The message says why in one line, and shows nothing of the text.
        """
        try:
            key, certificates = _from_pem(text) if "-----BEGIN " in text else _from_pfx(text)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key is encrypted
            raise ValueError("is neither PEM nor base64 of a PFX, both without password") from None
        if key is None:
            raise ValueError("has no private key")
        if not isinstance(key, RSAPrivateKey) or key.key_size < _KEY_BITS:
            raise ValueError(f"has a private key that is not RSA of {_KEY_BITS} bits or more")
        for certificate in certificates:
            if _is_of(certificate, key):
                return cls(key, certificate)
        raise ValueError("has no certificate of its private key")

    @property
    def ends(self) -> float:
        """When the certificate ends, in seconds since the epoch."""
        return self.certificate.not_valid_after_utc.timestamp()


class PlatformToken:
    """Makes the service's PlatformAccessToken, and gives the same one until less than a minute of it is left."""

    def __init__(self, certificate: PlatformCertificate, clock: Callable[[], float] = time.time) -> None:
        thumbprint = certificate.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - an identifier, as x5t wants it
        x5t = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        self._headers = {"kid": thumbprint.hex().upper(), "x5t": x5t}
        self._key = certificate.key
        self._clock = clock
        self._token = ""
        self._expires = 0

    def __call__(self) -> str:
        """The token."""
        now = int(self._clock())
        if not RENEWED_BEFORE_SECONDS <= self._expires - now <= LIFETIME_SECONDS:  # more if the clock was set back
            self._expires = now + LIFETIME_SECONDS
            claims = {
                "iss": "platform",
                "urn:altinn:app": "events",
                "aud": "platform.altinn.no",
                "nbf": now - NOT_BEFORE_SECONDS,
                "iat": now,
                "exp": self._expires,
            }
            self._token = jwt.encode(claims, self._key, "RS256", self._headers)
        return self._token


def _from_pem(text: str) -> tuple[PrivateKeyTypes | None, Sequence[x509.Certificate]]:
    data = text.encode()
    key = load_pem_private_key(data, None) if "PRIVATE KEY-----" in text else None
    return key, x509.load_pem_x509_certificates(data) if "-----BEGIN CERTIFICATE-----" in text else []


def _from_pfx(text: str) -> tuple[PrivateKeyTypes | None, Sequence[x509.Certificate]]:
    data = base64.b64decode("".join(text.split()), validate=True)
    key, certificate, others = pkcs12.load_key_and_certificates(data, None)
    return key, others if certificate is None else [certificate, *others]


def _is_of(certificate: x509.Certificate, key: RSAPrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):  # a certificate of a chain, with a key of another kind
        return False
