"""The development issuer. It signs tokens for a developer's machine with a key in the data directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import signal
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import orjson

from events_core.common import private_files
from local.listener import LOOPBACK_OF, listen, url_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

DEFAULT_ISSUER = "http://127.0.0.1:7072"
TOKEN_SECONDS = 12 * 3600
_ORGANISATION_NUMBERS = {"ttd": "405003309"}
_ISSUER = re.compile(r"http://[^\s/?#]+")


class DevelopmentIssuer:
    """An issuer with its private key and JWK set in `data_dir/issuer/`. The first use makes the key.

    Raises:
        ValueError: The key file holds no P-256 key.
        OSError: The directory cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._directory = (data_dir / "issuer").resolve()
        private_files.make_directory(self._directory)
        self._key = _load_or_make(self._directory / "key.pem")
        self._jwk = _public_jwk(self._key)
        _replace(self.jwks_path, orjson.dumps(self.jwks()))

    @property
    def jwks_path(self) -> Path:
        """The file of the JWK set; `jwks_path.as_uri()` is a `jwks_uri`."""
        return self._directory / "jwks.json"

    @property
    def issuer(self) -> str:
        """The `iss` of tokens: the URL at which the issuer was last served, by default `http://127.0.0.1:7072`."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            recorded = (self._directory / "url").read_text()
            if _ISSUER.fullmatch(recorded):
                return recorded
        return DEFAULT_ISSUER

    def record(self, issuer: str) -> None:
        """Record the URL at which the issuer is served, for tokens made from now on."""
        _replace(self._directory / "url", issuer.encode())

    def jwks(self) -> dict[str, Any]:
        """The JWK set (RFC 7517, section 5)."""
        return {"keys": [self._jwk]}

    def discovery(self, base_url: str) -> dict[str, Any]:
        """The OpenID discovery document of the issuer served at `base_url`."""
        return {
            "issuer": base_url,
            "jwks_uri": f"{base_url}/jwks",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims, valid for 12 hours. The claims may include `iss`, `iat`, `exp` and `jti`."""
        import jwt  # noqa: PLC0415 - its import takes 0.1 s, and `serve` does not need it at the start

        now = int(time.time())
        standard = {"iss": self.issuer, "iat": now, "exp": now + TOKEN_SECONDS, "jti": str(uuid.uuid4())}
        return jwt.encode({**standard, **claims}, self._key, algorithm="ES256", headers={"kid": self._jwk["kid"]})

    def token_for_org(self, org: str, scope: str = "", *, org_number: str | None = None, level: int = 3) -> str:
        """The token of a service owner, such as `ttd`."""
        number = org_number or _ORGANISATION_NUMBERS.get(org)
        return self.sign(
            {
                "urn:altinn:org": org,
                **({"urn:altinn:orgNumber": number, "consumer": _consumer(number)} if number else {}),
                **_level_and_scope(level, scope),
            }
        )

    def token_for_user(self, user_id: int, party_id: int | None = None, scope: str = "", *, level: int = 3) -> str:
        """The token of an end user who represents a party."""
        party = {} if party_id is None else {"urn:altinn:partyid": party_id}
        return self.sign({"urn:altinn:userid": user_id, **party, **_level_and_scope(level, scope)})

    def token_for_system_user(
        self, system_user: str, org_number: str | None = None, scope: str = "", *, level: int = 3
    ) -> str:
        """The token of a system user, given by UUID, of an organisation."""
        details: dict[str, Any] = {"type": "urn:altinn:systemuser", "systemuser_id": [system_user]}
        consumer: dict[str, Any] = {}
        if org_number:
            consumer = {"consumer": _consumer(org_number)}
            details["systemuser_org"] = _consumer(org_number)
        return self.sign({"authorization_details": [details], **consumer, **_level_and_scope(level, scope)})

    def token_for_organisation(self, org_number: str, scope: str = "") -> str:
        """The token of an organisation as Maskinporten issues it, not exchanged by Altinn."""
        return self.sign({"consumer": _consumer(org_number), **_scope(scope)})

    def platform_token(self, app: str) -> str:
        """The PlatformAccessToken of an app, `{org}/{app}`.

        Raises:
            ValueError: `app` does not have that form.
        """
        org, slash, name = app.partition("/")
        if not (org and slash and name) or "/" in name:
            raise ValueError("an app is named {org}/{app}, for example ttd/apps-test")
        return self.sign({"iss": org, "urn:altinn:app": name})


def _consumer(number: str) -> dict[str, str]:
    return {"authority": "iso6523-actorid-upis", "ID": f"0192:{number}"}


def _scope(scope: str) -> dict[str, Any]:
    return {"scope": scope} if scope else {}


def _level_and_scope(level: int, scope: str) -> dict[str, Any]:
    return {"urn:altinn:authlevel": level, **_scope(scope)}


def _load_or_make(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as for jwt
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as for jwt

    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        plain = serialization.NoEncryption()
        _create_once(path, made.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError(f"{path} holds no P-256 private key; remove the file to get a new key")
    return key


def _public_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """The public key as a JWK. Its id is its thumbprint (RFC 7638)."""
    numbers = key.public_key().public_numbers()
    x, y = (_base64url(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    required = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
    thumbprint = _base64url(hashlib.sha256(orjson.dumps(required)).digest())
    return {**required, "kid": thumbprint, "use": "sig", "alg": "ES256"}


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _write_beside(path: Path, content: bytes) -> Path:
    """Write a new file in the same directory that only its owner can read."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return beside


def _replace(path: Path, content: bytes) -> None:
    _write_beside(path, content).replace(path)


def _create_once(path: Path, content: bytes) -> None:
    """Create the file in one step, unless another process was first. A hard link never overwrites a file."""
    beside = _write_beside(path, content)
    try:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(beside)
    finally:
        beside.unlink()


def issuer_asgi(issuer: DevelopmentIssuer, url: str) -> Starlette:
    """An ASGI application that serves `/.well-known/openid-configuration` and `/jwks` at `url`."""
    from starlette.applications import Starlette  # noqa: PLC0415 - making tokens needs no server
    from starlette.responses import JSONResponse  # noqa: PLC0415 - making tokens needs no server
    from starlette.routing import Route  # noqa: PLC0415 - making tokens needs no server

    async def discovery(_: Request) -> Response:
        return JSONResponse(issuer.discovery(url))

    async def jwks(_: Request) -> Response:
        return JSONResponse(issuer.jwks(), media_type="application/jwk-set+json")

    return Starlette(routes=[Route("/.well-known/openid-configuration", discovery), Route("/jwks", jwks)])


def serve_issuer(
    issuer: DevelopmentIssuer,
    host: str = "127.0.0.1",
    port: int = 7072,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the issuer until SIGTERM or SIGINT. Records its URL for tokens and passes the URL to `ready`.

    Port 0 picks a free port.

    Raises:
        LocalError: The address is in use, or does not belong to this machine.
    """
    import uvicorn  # noqa: PLC0415 - making tokens needs no server

    listener = listen(host, port)
    url = url_of(listener, None if host in LOOPBACK_OF else host)
    server = uvicorn.Server(uvicorn.Config(issuer_asgi(issuer, url), access_log=False, log_level="warning"))

    def stop(_number: int, _frame: FrameType | None) -> None:
        # This must not raise: the callback of a weak reference would swallow the exception.
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    issuer.record(url)
    ready(url)
    server.run(sockets=[listener])
