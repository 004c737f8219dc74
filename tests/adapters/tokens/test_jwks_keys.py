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
    "with an unknown use": {**OLD.jwk, "use": ["sig"]},
    "for other operations": {**OLD.jwk, "key_ops": ["encrypt"]},
    "whose operations are not a list": {**OLD.jwk, "key_ops": "verify"},
    "that is symmetric": {"kty": "oct", "kid": "oct", "k": "c2VjcmV0", "alg": "HS256"},
    "RSA of 1024 bits": SigningKey.rsa("short", bits=1024).jwk,
    "P-384": SigningKey.ec("p384", curve="P-384").jwk,
    "EdDSA": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    "private EC": SigningKey.ec("x").private_jwk,
    "private RSA": RSA.private_jwk,
    "RSA with an EC algorithm": {**RSA.jwk, "alg": "ES256"},
    "EC with an RSA algorithm": {**OLD.jwk, "alg": "RS256"},
    "with an unsupported algorithm": {**RSA.jwk, "alg": "RS384"},
    "with the algorithm none": {**RSA.jwk, "alg": "none"},
    "RSA with an HMAC algorithm": {**RSA.jwk, "alg": "HS256"},
    "whose algorithm is not a text": {**RSA.jwk, "alg": ["RS256"]},
    "not on the curve": {**OLD.jwk, "x": NEW.jwk["x"]},
    "without a modulus": {"kty": "RSA", "e": "AQAB"},
    "whose modulus is a number": {**RSA.jwk, "n": 1},
    "with an even exponent": {**RSA.jwk, "e": "AA"},
    "without a type": {"kid": "old"},
    "a text": "old",
    "null": None,
}


@pytest.mark.parametrize("entry", UNFIT.values(), ids=UNFIT)
def test_an_unfit_key_is_ignored(entry: Any) -> None:
    """A key with a wrong use, type, strength or algorithm does not affect the other keys."""
    assert {key.kid for key in read_keys(orjson.dumps({"keys": [entry, NEW.jwk]}))} == {"new"}


@pytest.mark.parametrize("extra", [{"alg": "ES256"}, {"key_ops": ["verify"]}, {"use": "sig", "x5c": ["ignored"]}])
def test_a_key_may_name_its_algorithm_operation_or_use(extra: dict[str, Any]) -> None:
    """A key that names a supported purpose is accepted."""
    assert len(read_keys(orjson.dumps({"keys": [{**OLD.jwk, **extra}]}))) == 1


def test_a_key_verifies_only_the_algorithm_it_names() -> None:
    """A key without `alg` verifies every algorithm of its type (RFC 7517, section 4.4)."""
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
def test_discovery_never_leaves_tls(uri: str, issuer: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """The keys of an https issuer are read over https; discovery never reads a file."""
    assert _may_lead_to(uri, issuer) is expected
