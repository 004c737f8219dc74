"""The policy of endpoints, without DNS."""

from __future__ import annotations

import ipaddress

import pytest

from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError, literal_of, meanings_of

PUBLIC = EndpointPolicy()
LAPTOP = EndpointPolicy.of(http=True, networks=["127.0.0.0/8"])

FORBIDDEN_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xA9FEA9FE",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[2606:4700::5efe:10.0.0.1]",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "printer.local",
    "metadata.google.internal",
    "intranet",
    "host.corp",
    "1.0.0.127.in-addr.arpa",
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_only_public_hosts_are_allowed(host: str) -> None:
    """A private address is refused in every notation, and so are names that only private networks resolve."""
    with pytest.raises(ForbiddenEndpointError) as caught:
        PUBLIC.check(f"https://{host}/hook")
    assert host.strip("[]").lower() not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://example.com/",
        "ftp://example.com/",
        "example.com/hook",
        "//example.com/",
        "https:///hook",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com/#there",
        "https://example.com:22/",
        "https://example.com:6553600/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\n",
        "https://example.com\\@127.0.0.1/",
        "https://[::1/",
        "https://-a.example/",
        "https://" + "a" * 2_048 + ".example",
        "javascript:alert(1)",
        "",
    ],
)
def test_only_plain_https_urls_are_allowed(endpoint: str) -> None:
    """No other scheme, user, fragment or system port, and nothing that parsers read in different ways."""
    with pytest.raises(ForbiddenEndpointError):
        PUBLIC.check(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com",
        "https://example.com/hook?key=1",
        "https://sub.example.co:8443/",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "HTTPS://EXAMPLE.com/",
        "https://xn--bl-yia.example/",
    ],
)
def test_public_endpoints_are_allowed(endpoint: str) -> None:
    """By name or by address."""
    PUBLIC.check(endpoint)


def test_settings_can_allow_a_network() -> None:
    """The local host allows its own machine, by address and name, without TLS, at any port; and no other network."""
    for endpoint in ("http://127.0.0.1:9/", "http://localhost:8080/hook", "http://127.9.9.9/", "https://example.com/"):
        LAPTOP.check(endpoint)
    for endpoint in ("http://10.0.0.1/", "http://[::1]/", "http://printer.local/", "http://169.254.169.254/"):
        with pytest.raises(ForbiddenEndpointError):
            LAPTOP.check(endpoint)


def test_addresses_are_read_as_the_c_library_reads_them() -> None:
    """A name that begins with digits is not an address."""
    assert literal_of("0x7f.1") == ipaddress.ip_address("127.0.0.1")
    assert literal_of("[::1]") == ipaddress.ip_address("::1")
    assert (literal_of("127.example"), literal_of("1e100.net"), literal_of("")) == (None, None, None)


def test_an_ordinary_address_means_only_itself() -> None:
    """No gateway translates it to another."""
    for text in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"):
        assert list(meanings_of(ipaddress.ip_address(text))) == [ipaddress.ip_address(text)]
