"""A server on loopback that gives tokens like Azure: a host's identity endpoint, and an authority."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TENANT = "6d0f4a1c-0000-4000-8000-0000000000aa"


@cache
def _certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate of 127.0.0.1 and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def trust() -> ssl.SSLContext:
    """The certificate that a client needs to trust the authority."""
    return ssl.create_default_context(cadata=_certificate()[0].decode())


def _server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder, "chain.pem")
        chain.write_bytes(b"".join(_certificate()))
        context.load_cert_chain(chain)
    return context


@dataclass
class EntraServer:
    """Serves `identity_endpoint` (http) and `authority` (https) while it is entered.

    The n-th token is `token-n` and lives for `lifetime` seconds. `asked` holds the query or form of each request
    for a token, `headers` its headers; `status`, `body` and `location` replace the response. `discoveries` counts the
    requests for the authority's configuration, which get `discovery_status`. While `gate` is cleared, requests for
    tokens wait; `arrived` is set when a request comes.
    """

    secret: str = "the-identity-header"
    lifetime: int = 3600
    status: int = 200
    body: bytes | None = None
    location: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    discoveries: int = 0
    discovery_status: int = 200
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    identity_endpoint: str = ""
    authority: str = ""

    async def __aenter__(self) -> Self:
        self.gate.set()
        app = web.Application()
        app.router.add_route("*", "/msi/token", self._identity)
        app.router.add_get(f"/{TENANT}/v2.0/.well-known/openid-configuration", self._discover)
        app.router.add_post(f"/{TENANT}/oauth2/v2.0/token", self._token)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=_server_side()).start()
        plain, secure = (address[1] for address in self._runner.addresses)
        self.identity_endpoint = f"http://127.0.0.1:{plain}/msi/token"
        self.authority = f"https://127.0.0.1:{secure}/{TENANT}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close both ports."""
        self.gate.set()
        await self._runner.cleanup()

    async def _identity(self, request: web.Request) -> web.Response:
        return await self._answer(request, dict(request.query), {"expires_on": str(int(time.time()) + self.lifetime)})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        return await self._answer(request, form, {"expires_in": self.lifetime})

    async def _answer(self, request: web.Request, asked: dict[str, str], expiry: dict[str, Any]) -> web.Response:
        self.asked.append(asked)
        self.headers.append(dict(request.headers))
        number = len(self.asked)
        self.arrived.set()
        await self.gate.wait()
        if self.status != 200 or self.body is not None:
            headers = {"Location": self.location} if self.location else None
            return web.Response(status=self.status, body=self.body, headers=headers)
        return web.json_response({"access_token": f"token-{number}", "token_type": "Bearer", **expiry})

    async def _discover(self, request: web.Request) -> web.Response:
        self.discoveries += 1
        base = f"{self.authority}/oauth2/v2.0"
        return web.json_response(
            {
                "issuer": self.authority,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
            },
            status=self.discovery_status,
        )
