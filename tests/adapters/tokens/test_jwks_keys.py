from __future__ import annotations

from typing import Any

import orjson
import pytest

from events_core.adapters.tokens.jwks import _may_lead_to, read_keys
from tests.support.issuer import SigningKey

OLD, NEW = SigningKey.ec("old"), SigningKey.ec("new")
RSA = SigningKey.rsa("rsa")
UNFIT: dict[str, Any] = {
    "for encryption": {**OLD.jwk, "use": "enc"},
    "of an unknown use": {**OLD.jwk, "use": ["sig"]},
    "for other operations": {**OLD.jwk, "key_ops": ["encrypt"]},
    "whose operations are no list": {**OLD.jwk, "key_ops": "verify"},
    "symmetric": {"kty": "oct", "kid": "oct", "k": "c2VjcmV0", "alg": "HS256"},
    "RSA of 1024 bits": SigningKey.rsa("short", bits=1024).jwk,
    "P-384": SigningKey.ec("p384", curve="P-384").jwk,
    "EdDSA": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    "private, EC": SigningKey.ec("x").private_jwk,
    "private, RSA": RSA.private_jwk,
    "RSA said to be EC": {**RSA.jwk, "alg": "ES256"},
    "EC said to be RSA": {**OLD.jwk, "alg": "RS256"},
    "of another algorithm": {**RSA.jwk, "alg": "RS384"},
    "of no algorithm": {**RSA.jwk, "alg": ["RS256"]},
    "not on the curve": {**OLD.jwk, "x": NEW.jwk["x"]},
    "without a modulus": {"kty": "RSA", "e": "AQAB"},
    "with a modulus of a number": {**RSA.jwk, "n": 1},
    "with an even exponent": {**RSA.jwk, "e": "AA"},
    "without a type": {"kid": "old"},
    "a text": "old",
    "null": None,
}


@pytest.mark.parametrize("entry", UNFIT.values(), ids=UNFIT)
def test_a_key_that_cannot_serve_is_left_out(entry: Any) -> None:
    """A key of another use, type, strength or algorithm is ignored, and takes no other key along."""
    assert {key.kid for key in read_keys(orjson.dumps({"keys": [entry, NEW.jwk]}))} == {"new"}


@pytest.mark.parametrize("extra", [{"alg": "ES256"}, {"key_ops": ["verify"]}, {"use": "sig", "x5c": ["ignored"]}])
def test_a_key_may_say_what_it_is_for(extra: dict[str, Any]) -> None:
    """A key that names the algorithm, operation or use that it serves for is kept."""
    assert len(read_keys(orjson.dumps({"keys": [{**OLD.jwk, **extra}]}))) == 1


def test_a_key_serves_the_algorithm_that_it_names_alone() -> None:
    """`alg` of a key narrows what it verifies (RFC 7517, section 4.4)."""
    plain, bound = (read_keys(orjson.dumps({"keys": [{**RSA.jwk, **extra}]})) for extra in ({}, {"alg": "PS256"}))
    assert [sorted(key.algorithms) for key in (*plain, *bound)] == [["PS256", "RS256", "RS512"], ["PS256"]]


@pytest.mark.parametrize(
    ("uri", "issuer", "expected"),
    [
        ("https://keys.example/jwks", "https://issuer.example", True),
        ("https://keys.example/jwks", "http://127.0.0.1:7072", True),
        ("http://127.0.0.1:7072/jwks", "http://127.0.0.1:7072", True),
        ("http://issuer.example/jwks", "https://issuer.example", False),
        ("file:///keys/jwks.json", "http://127.0.0.1:7072", False),
        ("jwks", "https://issuer.example", False),
    ],
)
def test_discovery_never_leads_away_from_tls(uri: str, issuer: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """An issuer that is asked over TLS has its keys read over TLS; a file is never read."""
    assert _may_lead_to(uri, issuer) is expected
