"""Which addresses may be dialled: one test for each row of IANA's registries of special-purpose addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from events_core.delivery.addresses import Address, is_public, literal_of
from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError

REGISTERED_IPV4 = {
    "0.0.0.0/8": "This network",
    "0.0.0.0/32": "This host on this network",
    "10.0.0.0/8": "Private-Use",
    "100.64.0.0/10": "Shared Address Space",
    "127.0.0.0/8": "Loopback",
    "169.254.0.0/16": "Link Local",
    "172.16.0.0/12": "Private-Use",
    "192.0.0.0/24": "IETF Protocol Assignments",
    "192.0.0.0/29": "IPv4 Service Continuity Prefix",
    "192.0.0.8/32": "IPv4 dummy address",
    "192.0.0.9/32": "Port Control Protocol Anycast",
    "192.0.0.10/32": "Traversal Using Relays around NAT Anycast",
    "192.0.0.170/32": "NAT64/DNS64 Discovery",
    "192.0.0.171/32": "NAT64/DNS64 Discovery",
    "192.0.2.0/24": "Documentation (TEST-NET-1)",
    "192.31.196.0/24": "AS112-v4",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "Deprecated (6to4 Relay Anycast)",
    "192.88.99.2/32": "6a44-relay anycast address",
    "192.168.0.0/16": "Private-Use",
    "192.175.48.0/24": "Direct Delegation AS112 Service",
    "198.18.0.0/15": "Benchmarking",
    "198.51.100.0/24": "Documentation (TEST-NET-2)",
    "203.0.113.0/24": "Documentation (TEST-NET-3)",
    "240.0.0.0/4": "Reserved",
    "255.255.255.255/32": "Limited Broadcast",
}
REGISTERED_IPV6 = {
    "::1/128": "Loopback Address",
    "::/128": "Unspecified Address",
    "::ffff:0:0/96": "IPv4-mapped Address",
    "64:ff9b:1::/48": "IPv4-IPv6 Translat., local use",
    "100::/64": "Discard-Only Address Block",
    "100:0:0:1::/64": "Dummy IPv6 Prefix",
    "2001::/23": "IETF Protocol Assignments",
    "2001::/32": "TEREDO",
    "2001:1::1/128": "Port Control Protocol Anycast",
    "2001:1::2/128": "Traversal Using Relays around NAT Anycast",
    "2001:1::3/128": "DNS-SD Service Registration Protocol Anycast",
    "2001:2::/48": "Benchmarking",
    "2001:3::/32": "AMT",
    "2001:4:112::/48": "AS112-v6",
    "2001:10::/28": "Deprecated (previously ORCHID)",
    "2001:20::/28": "ORCHIDv2",
    "2001:30::/28": "Drone Remote ID Protocol Entity Tags (DETs) Prefix",
    "2001:db8::/32": "Documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "Direct Delegation AS112 Service",
    "3fff::/20": "Documentation",
    "5f00::/16": "Segment Routing (SRv6) SIDs",
    "fc00::/7": "Unique-Local",
    "fe80::/10": "Link-Local Unicast",
}
IN_NO_REGISTRY = {
    "168.63.129.16/32": "Azure",
    "224.0.0.0/4": "Multicast",
    "::/96": "IPv4-compatible",
    "::ffff:0:0:0/96": "IPv4-translated (RFC 2765)",
    "200::/7": "NSAP",
    "4000::/3": "not allocated",
    "fec0::/10": "Site-Local",
    "ff00::/8": "Multicast",
    "2606:4700:1:2:0:5efe:a00:1/128": "ISATAP to a private address",
    "2606:4700:1:2:200:5efe:7f00:1/128": "ISATAP to loopback",
}
REFUSED = {**REGISTERED_IPV4, **REGISTERED_IPV6, **IN_NO_REGISTRY}
PUBLIC_NEIGHBOURS = [
    ("1.0.0.0", "9.255.255.255"),
    ("11.0.0.0", "100.63.255.255"),
    ("100.128.0.0", "126.255.255.255"),
    ("128.0.0.0", "168.63.129.15"),
    ("168.63.129.17", "169.253.255.255"),
    ("169.255.0.0", "172.15.255.255"),
    ("172.32.0.0", "191.255.255.255"),
    ("192.0.1.0", "192.0.1.255"),
    ("192.0.3.0", "192.31.195.255"),
    ("192.31.197.0", "192.52.192.255"),
    ("192.52.194.0", "192.88.98.255"),
    ("192.88.100.0", "192.167.255.255"),
    ("192.169.0.0", "192.175.47.255"),
    ("192.175.49.0", "198.17.255.255"),
    ("198.20.0.0", "198.51.99.255"),
    ("198.51.101.0", "203.0.112.255"),
    ("203.0.114.0", "223.255.255.255"),
    ("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2003::", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff"),
    ("2620:4f:8001::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]
"""The first and the last address of each gap between special networks."""


def addresses_of(network: str) -> Iterator[Address]:
    """The first, the middle and the last address of a network."""
    row = ipaddress.ip_network(network)
    yield from (row[0], row[row.num_addresses // 2], row[-1])


def as_endpoint(address: Address) -> str:
    """An endpoint with a literal address."""
    return f"https://[{address}]/" if address.version == 6 else f"https://{address}/"


@pytest.mark.parametrize("network", REFUSED, ids=[f"{network} {name}" for network, name in REFUSED.items()])
def test_no_special_address_is_an_endpoint(network: str) -> None:
    """Neither its first, middle nor last address, as a literal and as the answer of a name service."""
    for address in addresses_of(network):
        with pytest.raises(ForbiddenEndpointError):
            EndpointPolicy().check(as_endpoint(address))
        with pytest.raises(ForbiddenEndpointError):
            EndpointPolicy().check_address(address)


@pytest.mark.parametrize("network", REGISTERED_IPV4)
@pytest.mark.parametrize("prefix", ["64:ff9b::", "::ffff:", "::ffff:0:", "::", "64:ff9b:1::"])
def test_no_special_ipv4_address_is_reached_through_ipv6(prefix: str, network: str) -> None:
    """Whichever gateway translates it."""
    for address in addresses_of(network):
        assert not is_public(ipaddress.ip_address(f"{prefix}{address}"))


@pytest.mark.parametrize(("first", "last"), PUBLIC_NEIGHBOURS)
def test_the_neighbours_of_special_networks_are_public(first: str, last: str) -> None:
    """Up to the network on either side."""
    for text in (first, last):
        EndpointPolicy().check(as_endpoint(ipaddress.ip_address(text)))


def test_the_prefix_of_a_translating_gateway_is_judged_by_the_ipv4_address_in_it() -> None:
    """Of 64:ff9b::/96 alone: an IPv4 address in another notation of IPv6 is refused, also a public one."""
    assert is_public(ipaddress.ip_address("64:ff9b::93.184.216.34"))
    for prefix in ("::ffff:", "::ffff:0:", "::", "64:ff9b:1::", "64:ff9b:0:0:0:1:"):
        assert not is_public(ipaddress.ip_address(f"{prefix}93.184.216.34"))


@pytest.mark.parametrize("network", ["10.0.0.0/8", "::ffff:0:0:0/96", "fd00::/8", "2001:db8::/32"])
def test_an_allowed_network_may_be_special(network: str) -> None:
    """The operator's word goes before the registries, for that network alone."""
    policy = EndpointPolicy.of(http=False, networks=[network])
    for address in addresses_of(network):
        policy.check(as_endpoint(address))
    for other in ("127.0.0.1", "fe80::1"):
        with pytest.raises(ForbiddenEndpointError):
            policy.check(as_endpoint(ipaddress.ip_address(other)))


def test_addresses_are_read_as_the_c_library_reads_them() -> None:
    """A name that begins with digits is not an address."""
    assert literal_of("0x7f.1") == ipaddress.ip_address("127.0.0.1")
    assert literal_of("[::1]") == ipaddress.ip_address("::1")
    assert (literal_of("127.example"), literal_of("1e100.net"), literal_of("")) == (None, None, None)
