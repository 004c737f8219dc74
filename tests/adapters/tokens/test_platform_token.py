"""The service's own PlatformAccessToken, and the certificate that the setting holds."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from jwt.types import Options

from events_core.adapters.tokens.platform_token import PlatformCertificate, PlatformToken
from tests.support.certificates import KEY, OTHER_KEY, certificate_of, pem, pfx, platform_certificate, platform_pem
from tests.support.clock import Clock
from tests.support.issuer import SigningKey

OWN, AUTHORITY = platform_certificate(), certificate_of(OTHER_KEY, name="authority")
NOW = 1_800_000_000.7


@pytest.fixture
def clock() -> Clock:
    """The service's clock."""
    clock = Clock()
    clock.now = NOW
    return clock


@pytest.fixture
def token(clock: Clock) -> PlatformToken:
    """The token of a service with a certificate."""
    return PlatformToken(PlatformCertificate.read(platform_pem()), clock)


# -- The token --------------------------------------------------------------------------------------------------------


def test_the_token_is_that_of_altinns_own_library(token: PlatformToken) -> None:
    """Header and claims have these members and no other, and the certificate's key verifies the signature."""
    thumbprint = OWN.fingerprint(SHA1())
    checked: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    made = jwt.decode_complete(token(), KEY.public_key(), ["RS256"], checked, audience="platform.altinn.no")
    assert made["header"] == {
        "alg": "RS256",
        "kid": thumbprint.hex().upper(),
        "x5t": base64.urlsafe_b64encode(thumbprint).decode().rstrip("="),
        "typ": "JWT",
    }
    assert made["payload"] == {
        "iss": "platform",
        "urn:altinn:app": "events",
        "aud": "platform.altinn.no",
        "nbf": 1_799_999_995,
        "iat": 1_800_000_000,
        "exp": 1_800_000_300,
    }


def test_a_token_is_made_anew_when_less_than_a_minute_is_left(token: PlatformToken, clock: Clock) -> None:
    """It is the same token until then."""
    first = token()
    clock.now = NOW + 240
    assert token() == first
    clock.now = NOW + 241
    second = token()
    assert second != first
    assert jwt.decode(second, options={"verify_signature": False})["exp"] == 1_800_000_541


def test_a_token_of_the_future_is_made_anew(token: PlatformToken, clock: Clock) -> None:
    """The clock was set back, and receivers would refuse the token's `nbf`."""
    token()
    clock.now = NOW - 600
    assert jwt.decode(token(), options={"verify_signature": False})["exp"] == 1_799_999_700


# -- The certificate --------------------------------------------------------------------------------------------------

READABLE = {
    "a key, then its certificate": pem(KEY, OWN),
    "a certificate, then its key": pem(OWN, KEY),
    "a chain before the key": pem(OWN, AUTHORITY, KEY),
    "another certificate first": pem(AUTHORITY, KEY, OWN),
    "text around the blocks": f"Bag Attributes\n    friendlyName: events\n{pem(OWN)}subject=CN = events\n{pem(KEY)}\n",
    "lines that end in CR LF": pem(KEY, OWN).replace("\n", "\r\n"),
    "a PFX": pfx(KEY, OWN),
    "a PFX with a chain": pfx(KEY, OWN, AUTHORITY),
    "a PFX whose base64 is broken into lines": base64.encodebytes(base64.b64decode(pfx(KEY, OWN))).decode(),
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE.keys())
def test_the_certificate_is_that_of_the_private_key(text: str) -> None:
    """PEM blocks may stand in any order, and certificates of other keys are ignored."""
    read = PlatformCertificate.read(text)
    assert (read.certificate, read.key.private_numbers()) == (OWN, KEY.private_numbers())
    assert read.ends == OWN.not_valid_after_utc.timestamp()


@pytest.mark.parametrize("options", [[], ["-legacy"], ["-nomac"]], ids=["today's", "legacy", "without MAC"])
def test_a_pfx_of_openssl_is_read(tmp_path: Path, options: list[str]) -> None:
    """Key Vault hands a PFX out with an empty password."""
    (tmp_path / "events.pem").write_text(platform_pem())
    command = ["openssl", "pkcs12", "-export", "-in", "events.pem", "-passout", "pass:", *options]
    exported = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert PlatformCertificate.read(base64.b64encode(exported).decode()).certificate == OWN


NOT_READABLE = "is neither PEM nor base64 of a PFX, both without password"
NO_KEY, NO_RSA = "has no private key", "has a private key that is not RSA of 2048 bits or more"
NO_CERTIFICATE = "has no certificate of its private key"
NONSENSE = "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"
SMALL_KEY = SigningKey.rsa("small", bits=1024).private
UNUSABLE = {
    "a reference that the platform did not resolve": ("@Microsoft.KeyVault(SecretUri=https://canary/)", NOT_READABLE),
    "base64 of something else": (base64.b64encode(b"canary").decode(), NOT_READABLE),
    "letters beyond ASCII": ("canåry", NOT_READABLE),
    "a block that is cut off": (pem(OWN, KEY)[:-100], NOT_READABLE),
    "a block of nonsense": (
        pem(KEY) + "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n",
        NOT_READABLE,
    ),
    "an encrypted key": (pem(OWN, KEY, password=b"canary"), NOT_READABLE),
    "a PFX with a password": (pfx(KEY, OWN, password=b"canary"), NOT_READABLE),
    "a certificate alone": (pem(OWN), NO_KEY),
    "a PFX without key": (pfx(None, OWN), NO_KEY),
    "another block": ("-----BEGIN CANARY-----\ncanary\n-----END CANARY-----\n", NO_KEY),
    "an elliptic curve": (pem(OTHER_KEY, AUTHORITY), NO_RSA),
    "a PFX of an elliptic curve": (pfx(OTHER_KEY, AUTHORITY), NO_RSA),
    "a short key": (pem(SMALL_KEY, certificate_of(SMALL_KEY)), NO_RSA),
    "a key alone": (pem(KEY), NO_CERTIFICATE),
    "a certificate of another key": (pem(KEY, AUTHORITY), NO_CERTIFICATE),
}


@pytest.mark.parametrize(("text", "said"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_certificate_is_refused_in_one_line(text: str, said: str) -> None:
    """The line says why, and shows nothing of the text."""
    with pytest.raises(ValueError, match=f"^{said}$"):
        PlatformCertificate.read(text)


def test_a_certificate_does_not_show_its_key() -> None:
    """Its representation may be logged."""
    assert "PrivateKey" not in repr(PlatformCertificate.read(platform_pem()))
