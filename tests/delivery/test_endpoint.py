"""The policy of endpoints, without DNS."""

from __future__ import annotations

import pytest

from events_core.delivery.endpoint import (
    Endpoint,
    EndpointPolicy,
    ForbiddenEndpointError,
    canonical_endpoint,
    canonical_origin,
)

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
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "printer.\uff4cocal",
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
        "https://example.com../",
        "https://bl\u00e5_.example/",
        "https://\U0001f600.example/",
        "https://exam\u2100ple.example/",
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


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("STRA\u1e9eE.example", "xn--strae-oqa.example"),
        ("BL\u00c5.example.", "xn--bl-zia.example"),
        ("\u039f\u0394\u039f\u03a3.example", "xn--pxavbq.example"),
        ("example\u3002com", "example.com"),
        ("Example.COM.", "example.com"),
        ("0x5db8d822", "93.184.216.34"),
        ("[2606:2800:220:1:248:1893:25C8:1946]", "2606:2800:220:1:248:1893:25c8:1946"),
    ],
)
def test_a_host_is_converted_as_browsers_do(written: str, host: str) -> None:
    """By UTS 46, non-transitional, before anything is judged."""
    assert PUBLIC.check(f"https://{written}/hook").host == host


@pytest.mark.parametrize(
    "same",
    [
        "HTTPS://EXAMPLE.com:443/a%2Fb/hook?to=%3A",
        "https://example.com./a%2fb/hook?to=%3a",
        "https://example.com/a%2Fb/./x/../hook?to=%3A",
        "https://example.com/../a%2Fb/hook?to=%3A#",
        "https://ex\uff41mple.com/a%2Fb/hook?to=%3A",
    ],
)
def test_spellings_of_one_endpoint_are_the_same(same: str) -> None:
    """The default port, the case of host and escapes, dot segments and a trailing dot make no other endpoint."""
    assert canonical_endpoint(same) == "https://example.com/a%2Fb/hook?to=%3A"
    assert canonical_origin(same) == "https://example.com"


def test_other_differences_make_another_endpoint() -> None:
    """Also an escape instead of its character, and dots in the query."""
    others = [
        "https://example.com/hook",
        "https://example.com/hook/",
        "https://example.com/hook/..",
        "https://example.com/Hook",
        "https://example.com/hoo%6B",
        "https://example.com//hook",
        "https://example.com/hook?a=/../b",
        "https://example.com/hook?a=/b",
        "https://example.com:8443/hook",
        "https://xn--strae-oqa.example/hook",
        "https://strasse.example/hook",
        "http://example.com/hook",
        "no URL",
    ]
    assert len({canonical_endpoint(other) for other in others}) == len(others)
    assert canonical_endpoint("https://example.com/bl\u00e5") == canonical_endpoint("https://example.com/bl%c3%a5")


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("https://example.com", "/"),
        ("https://example.com?a=1", "/?a=1"),
        ("https://example.com/a/../%7e?", "/a/../%7e?"),
        ("https://example.com/invoke%3Av1/?sp=%2Frun&sig=aB%2Bc%2Fd%3D", "/invoke%3Av1/?sp=%2Frun&sig=aB%2Bc%2Fd%3D"),
        ("https://example.com/bl\u00e5?\u00f8=1", "/bl%C3%A5?%C3%B8=1"),
        ("https://https/", "/"),
    ],
)
def test_an_endpoint_is_called_as_it_was_written(written: str, target: str) -> None:
    """Escape for escape; only characters outside ASCII are percent-encoded, as UTF-8."""
    assert Endpoint.of(written).target == target
