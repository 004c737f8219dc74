"""Endpoints: how one is called, which two are the same, and which may be reached: public web servers alone. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

from events_core.common.paths import without_dot_segments

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST = 2_048
_DEFAULT_PORTS = {"https": 443, "http": 80}
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_PORTS_BELOW_1024 = {80, 443}
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home", "corp", "arpa", "onion")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_SIX_TO_FOUR, _TEREDO = ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32")
_COMPATIBLE = ipaddress.ip_network("::/96")
_REFUSED: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "168.63.129.16/32",  # a public address, under which Azure has internal services
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2002::/16",
            "3fff::/20",
            "5f00::/16",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)


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
        """Check an address that is about to be dialled, and every IPv4 address that it may lead to.

        Raises:
            ForbiddenEndpointError: The address is not public, and in no allowed network.
        """
        if any(address in network for network in self.networks):
            return
        for meaning in meanings_of(address):
            if not meaning.is_global or any(meaning in network for network in _REFUSED):
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


def literal_of(host: str) -> Address | None:
    """The address that a host is, in any notation that the C library reads; None for a name.

    IPv4 may be dotted, decimal, octal or hexadecimal, with one to four parts (POSIX `inet_addr`); IPv6 has any form.
    """
    text = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text)) if text and text[0].isdecimal() else None
    except (OSError, ValueError):
        return None


def meanings_of(address: Address) -> Iterator[Address]:
    """An address, and the IPv4 addresses that a gateway may translate an IPv6 address to."""
    yield address
    if not isinstance(address, ipaddress.IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    last = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    isatap = (int(address) >> 32) & 0xFFFF_FFFF in (0x0000_5EFE, 0x0200_5EFE)
    if address in _COMPATIBLE or isatap or any(address in network for network in _NAT64):
        yield last
    if address in _SIX_TO_FOUR:
        yield ipaddress.IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    if address in _TEREDO:
        yield ipaddress.IPv4Address(int(last) ^ 0xFFFF_FFFF)
