"""Endpoints: how one is called, which two are the same, and which may be reached: public web servers alone. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

from events_core.common.paths import without_dot_segments
from events_core.delivery.addresses import Address, Network, is_public, literal_of

LONGEST = 2_048
_DEFAULT_PORTS = {"https": 443, "http": 80}
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_PORTS_BELOW_1024 = {80, 443}
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home", "corp", "arpa", "onion")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class ForbiddenEndpointError(Exception):
    """The endpoint must not be reached. The text says why, and repeats no part of the endpoint."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is called.

    `host` is in ASCII and lower case, without a trailing dot; an address is in its usual notation. `target` is the path
    and query as they were registered, escape for escape, but characters outside ASCII are percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """Read a URL.

        Raises:
            ForbiddenEndpointError: The text is no URL of a web server, or holds a user, a password or a fragment.
        """
        if len(text) > LONGEST or any(c.isspace() or not c.isprintable() for c in text) or "\\" in text:
            raise ForbiddenEndpointError(f"must be an absolute URL of at most {LONGEST:,} characters")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ForbiddenEndpointError("must be an absolute URL") from None
        if "@" in parts.netloc or parts.fragment:
            raise ForbiddenEndpointError("must hold no user, password or fragment")
        scheme = parts.scheme.lower()
        if scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ForbiddenEndpointError("must be an absolute URL that begins with https://")
        target = text.partition("//")[2].removeprefix(parts.netloc).partition("#")[0]
        target = target if target.startswith("/") else f"/{target}"
        port = _DEFAULT_PORTS[scheme] if port is None else port
        return cls(scheme, _host_of(parts.netloc), port, quote(target, safe=_ASCII))

    @property
    def authority(self) -> str:
        """The host, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def canonical(self) -> str:
        """The endpoint as it is compared: without dot segments, and with escapes in upper case."""
        path, _, query = _ESCAPE.sub(lambda escape: escape[0].upper(), self.target).partition("?")
        return f"{self.origin}{without_dot_segments(path)}{query and f'?{query}'}"


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """Allows public endpoints with TLS. `http` allows endpoints without TLS; `networks` may be private or loopback."""

    http: bool = False
    networks: Sequence[Network] = ()

    @classmethod
    def of(cls, *, http: bool, networks: Sequence[str]) -> EndpointPolicy:
        """The policy of the settings, with networks in CIDR notation."""
        return cls(http, tuple(ipaddress.ip_network(network) for network in networks))

    def check(self, endpoint: str) -> Endpoint:
        """Check an endpoint without asking DNS, and return its parts.

        Raises:
            ForbiddenEndpointError: The endpoint must not be reached.
        """
        parts = Endpoint.of(endpoint)
        if parts.scheme == "http" and not self.http:
            raise ForbiddenEndpointError("must be an absolute URL that begins with https://")
        literal = literal_of(parts.host)
        if literal is None:
            self._check_name(parts.host)
        else:
            self.check_address(literal)
        self._check_port(parts.port, literal)
        return parts

    def check_address(self, address: Address) -> None:
        """Check an address that is about to be dialled.

        Raises:
            ForbiddenEndpointError: The address is not public, and in no allowed network.
        """
        if not any(address in network for network in self.networks) and not is_public(address):
            raise ForbiddenEndpointError("must not be an address of a private, local or reserved network")

    def _check_name(self, host: str) -> None:
        labels = host.split(".")
        if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
            raise ForbiddenEndpointError("must name a host")
        is_local = len(labels) == 1 or labels[-1] in _LOCAL_NAMES
        if is_local and not self._allows_loopback(labels):
            raise ForbiddenEndpointError("must not name a host of a private or local network")

    def _allows_loopback(self, labels: Sequence[str]) -> bool:
        return labels[-1] == "localhost" and any(network.is_loopback for network in self.networks)

    def _check_port(self, port: int, literal: Address | None) -> None:
        is_allowed = literal is not None and any(literal in network for network in self.networks)
        if is_allowed or port in _PORTS_BELOW_1024 or port >= 1_024:
            return
        raise ForbiddenEndpointError("must have the port 443, or one from 1024 on")


def canonical_endpoint(endpoint: str) -> str:
    """An endpoint as it is compared. A text that is no URL of a web server is compared as it is."""
    try:
        return Endpoint.of(endpoint).canonical
    except ForbiddenEndpointError:
        return endpoint


def canonical_origin(endpoint: str) -> str:
    """The scheme, host and port of an endpoint, as they are compared."""
    try:
        return Endpoint.of(endpoint).origin
    except ForbiddenEndpointError:
        return endpoint


def _host_of(netloc: str) -> str:
    """The host of a URL in ASCII: UTS 46, non-transitional, as browsers convert it."""
    host = netloc[1:].partition("]")[0] if netloc.startswith("[") else netloc.partition(":")[0]
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            raise ForbiddenEndpointError("must name a host") from None
    literal = literal_of(host)
    return host.lower().removesuffix(".") if literal is None else str(literal)
