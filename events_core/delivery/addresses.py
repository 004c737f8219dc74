"""Which IP addresses are public, and which address a host is in any notation. Pure.

The rows are those of IANA's registries of special-purpose addresses, also those that are globally reachable: no
subscriber's web server has such an address. `ipaddress.is_global` differs between versions of Python, and is not used.
"""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""The prefix under which a gateway reaches the IPv4 internet (RFC 6052). The IPv4 address in it is judged."""
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The third quarter of an address that a router translates to the IPv4 address in the last quarter (RFC 5214)."""

_SPECIAL: dict[str, str] = {
    "0.0.0.0/8": "this network, RFC 791",
    "10.0.0.0/8": "private use, RFC 1918",
    "100.64.0.0/10": "shared address space, RFC 6598",
    "127.0.0.0/8": "loopback, RFC 1122",
    "168.63.129.16/32": "internal services of Azure, under a public address",
    "169.254.0.0/16": "link local, RFC 3927",
    "172.16.0.0/12": "private use, RFC 1918",
    "192.0.0.0/24": "IETF protocol assignments, RFC 6890: DS-Lite, dummy, anycast, NAT64 discovery",
    "192.0.2.0/24": "documentation, RFC 5737",
    "192.31.196.0/24": "AS112, RFC 7535",
    "192.52.193.0/24": "AMT, RFC 7450",
    "192.88.99.0/24": "6to4 relays, RFC 7526",
    "192.168.0.0/16": "private use, RFC 1918",
    "192.175.48.0/24": "AS112, RFC 7534",
    "198.18.0.0/15": "benchmarking, RFC 2544",
    "198.51.100.0/24": "documentation, RFC 5737",
    "203.0.113.0/24": "documentation, RFC 5737",
    "224.0.0.0/4": "multicast, RFC 5771",
    "240.0.0.0/4": "reserved, RFC 1112, and broadcast, RFC 8190",
    # Only 2000::/3 is allocated for unicast on the internet (RFC 4291). The rest is refused whole.
    "::/3": "loopback, IPv4 addresses within IPv6 (RFC 4291, 2765, 8215), discard-only (RFC 6666), dummy (RFC 9780)",
    "4000::/2": "SRv6, RFC 9602, and not allocated",
    "8000::/1": "unique local (RFC 4193), link local and multicast (RFC 4291), site local (RFC 3879), not allocated",
    # What is special within 2000::/3.
    "2001::/23": "IETF protocol assignments, RFC 2928: Teredo, anycast, benchmarking, AMT, AS112, ORCHID, DRIP",
    "2001:db8::/32": "documentation, RFC 3849",
    "2002::/16": "6to4, RFC 3056",
    "2620:4f:8000::/48": "AS112, RFC 7534",
    "3fff::/20": "documentation, RFC 9637",
}
_REFUSED: tuple[Network, ...] = tuple(map(ipaddress.ip_network, _SPECIAL))


def is_public(address: Address) -> bool:
    """Whether a web server of the internet can have the address, and no gateway leads from it into another network."""
    if address in _NAT64:
        return is_public(_last_quarter(address))
    if any(address in network for network in _REFUSED):
        return False
    is_isatap = address.version == 6 and int(address) >> 32 & 0xFFFF_FFFF in _ISATAP
    return not is_isatap or is_public(_last_quarter(address))


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


def _last_quarter(address: Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
