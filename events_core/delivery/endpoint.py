"""The policy of endpoints: deliveries may reach public web servers, and nothing else. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST = 2_048
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
class EndpointPolicy:
    """Allows public endpoints with TLS. `http` allows endpoints without TLS; `networks` may be private or loopback."""

    http: bool = False
    networks: Sequence[Network] = ()

    @classmethod
    def of(cls, *, http: bool, networks: Sequence[str]) -> EndpointPolicy:
        """The policy of the settings, with networks in CIDR notation."""
        return cls(http, tuple(ipaddress.ip_network(network) for network in networks))

    def check(self, endpoint: str) -> None:
        """Check an endpoint without asking DNS.

        Raises:
            ForbiddenEndpointError: The endpoint must not be reached.
        """
        if len(endpoint) > LONGEST or any(c.isspace() or not c.isprintable() for c in endpoint) or "\\" in endpoint:
            raise ForbiddenEndpointError("must be an absolute URL of at most 2,048 characters")
        try:
            parts = urlsplit(endpoint)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ForbiddenEndpointError("must be an absolute URL") from None
        if parts.scheme.lower() not in (("https", "http") if self.http else ("https",)) or not host:
            raise ForbiddenEndpointError(
                f"must be an absolute URL that begins with https://{' or http://' * self.http}"
            )
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ForbiddenEndpointError("must hold no user, password or fragment")
        literal = literal_of(host)
        if literal is None:
            self._check_name(host)
        else:
            self.check_address(literal)
        self._check_port(port, literal)

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
        labels = host.rstrip(".").split(".")
        if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
            raise ForbiddenEndpointError("must name a host")
        is_local = len(labels) == 1 or labels[-1].lower() in _LOCAL_NAMES
        if is_local and not self._allows_loopback(labels):
            raise ForbiddenEndpointError("must not name a host of a private or local network")

    def _allows_loopback(self, labels: Sequence[str]) -> bool:
        return labels[-1].lower() == "localhost" and any(network.is_loopback for network in self.networks)

    def _check_port(self, port: int | None, literal: Address | None) -> None:
        is_allowed = literal is not None and any(literal in network for network in self.networks)
        if port is None or is_allowed or port in _PORTS_BELOW_1024 or port >= 1_024:
            return
        raise ForbiddenEndpointError("must have the port 443, or one from 1024 on")


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
